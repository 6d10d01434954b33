"""Connected components and bounding boxes of label maps."""

from __future__ import annotations

import numpy as np

from lumbarseg.components import bounding_box, connected_components, label_boxes


def test_corners_and_slices_decide_what_is_connected() -> None:
    mask = np.zeros((3, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[1, 1, 2] = mask[2, 1, 2] = True
    assert connected_components(mask).count == 2
    assert connected_components(mask, "corners").count == 1
    assert connected_components(mask, "sagittal").sizes.tolist() == [0, 1, 2, 1]


def test_components_know_their_sizes_and_voxels() -> None:
    mask = np.zeros((2, 5, 5), bool)
    mask[0, 0, 0] = True
    mask[1, 3:, 2:] = True
    components = connected_components(mask)
    assert components.sizes.tolist() == [0, 1, 6]
    assert components.sizes.argmax() == 2
    first, second = components.voxels()
    assert first.tolist() == [[0, 0, 0]]
    assert (components.numbers[tuple(second.T)] == 2).all()
    assert len(second) == 6


def test_an_empty_mask_has_no_components_and_no_box() -> None:
    empty = np.zeros((2, 3, 4), bool)
    components = connected_components(empty)
    assert (components.count, components.voxels()) == (0, [])
    assert bounding_box(empty) is None
    assert label_boxes(empty.astype(np.uint8)) == {}


def test_boxes_of_labels() -> None:
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[1, 1:3, 2] = 7
    labels[0, 0, 0] = 2
    assert label_boxes(labels) == {
        2: (slice(0, 1), slice(0, 1), slice(0, 1)),
        7: (slice(1, 2), slice(1, 3), slice(2, 3)),
    }
    assert bounding_box(labels == 7) == (slice(1, 2), slice(1, 3), slice(2, 3))
