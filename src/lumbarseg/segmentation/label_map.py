"""Rendering of named instances as a label map on the exam's own grid, and the checks that every label map must pass."""

from __future__ import annotations

import numpy as np
import scipy

from lumbarseg import anatomy
from lumbarseg.anatomy import Kind
from lumbarseg.components import bounding_box
from lumbarseg.errors import SegmentError
from lumbarseg.preprocessing import classes_on_source_grid, nearest_network_indices
from lumbarseg.volume import Array

from .centerline import ARCH, BODY, CANAL, DISC, SACRUM
from .instances import Instances
from .levels import disc_names
from .prediction import Prediction, flip_axes

_GROWTH = 2  # pixels by which labels grow in plane: the exam's finer grid reaches a little further


def classes_on_exam_grid(prediction: Prediction, changed: Array | None = None, previous: Array | None = None) -> Array:
    """Return the most probable class of each voxel of the exam, (I, J, K) uint8, from interpolated probabilities.

    Parameters
    ----------
    prediction : on the network grid
    changed, previous : where the prediction changed, (slices, A, S) bool, and the classes before, (I, J, K) uint8
    """
    return classes_on_source_grid(
        flip_axes(prediction.probabilities, prediction.flips),
        prediction.prepared,
        None if changed is None else flip_axes(changed, prediction.flips),
        previous,
    )


def render_label_map(
    exam_classes: Array,
    instances: Instances,
    names: tuple[str, ...],
    prediction: Prediction,
    box: tuple[slice, slice, slice] | None = None,
) -> Array:
    """Return the label map of an exam: each voxel gets the label of the nearest instance of its class.

    Parameters
    ----------
    exam_classes : (I, J, K) uint8, classes on the exam's own grid
    instances : on the network grid
    names : of the bodies, the lowest first
    prediction : whose grid and flips count
    box : the part of the exam to return; None for all of it

    Returns
    -------
    (I, J, K) uint8 labels, or those of the box
    """
    classes_in_box = exam_classes if box is None else exam_classes[box]
    out = np.zeros(classes_in_box.shape, np.uint8)
    spine = bounding_box(classes_in_box > 0)
    if spine is None:
        return out
    first = (side.start for side in box) if box else (0, 0, 0)
    region = tuple(slice(side.start + at, side.stop + at) for side, at in zip(spine, first, strict=True))
    order, indices = nearest_network_indices(prediction.prepared, region)
    # with a margin, from which the labels of the structures grow into the region
    crop = tuple(slice(max(0, int(i.min()) - _GROWTH), int(i.max()) + _GROWTH + 1) for i in indices)
    voxels = np.ix_(*(index - side.start for index, side in zip(indices, crop, strict=True)))
    for channel, numbers, labels in _label_tables(instances, names):
        grown = _dilate_labels(labels[flip_axes(numbers, prediction.flips)[crop]])
        np.copyto(out[spine], grown[voxels].transpose(order), where=classes_in_box[spine] == channel)
    return out


def labels_on_network_grid(instances: Instances, names: tuple[str, ...]) -> dict[int, Array]:
    """Return for each class channel the labels of its structures on the network grid, (slices, A, S) uint8."""
    return {channel: labels[numbers] for channel, numbers, labels in _label_tables(instances, names)}


def _label_tables(instances: Instances, names: tuple[str, ...]) -> list[tuple[int, Array, Array]]:
    """Return for each class its channel, a map of instance numbers, and the label of each number."""
    bodies = [anatomy.structure_by_name(level).label for level in names]
    arches = [anatomy.arch_of_level(level).label for level in names]
    discs = [anatomy.structure_by_name(disc).label if disc else 0 for disc in disc_names(instances, names)]
    sacrum, canal = anatomy.labels_of_kind(Kind.SACRUM)[0], anatomy.labels_of_kind(Kind.CANAL)[0]
    # what was predicted as the body of S1 becomes sacrum; background inside a structure stays background
    sacral_body = (instances.bodies == 0) & instances.sacrum
    return [
        (BODY, np.where(sacral_body, len(names) + 1, instances.bodies), np.array([0, *bodies, sacrum], np.uint8)),
        (DISC, instances.discs, np.array([0, *discs], np.uint8)),
        (ARCH, instances.arches, np.array([0, *arches], np.uint8)),
        (SACRUM, instances.sacrum.astype(np.uint8), np.array([0, sacrum], np.uint8)),
        (CANAL, instances.canal.astype(np.uint8), np.array([0, canal], np.uint8)),
    ]


def _dilate_labels(labels: Array) -> Array:
    """Grow labels in plane and into the next slices where there is background."""
    size = 2 * _GROWTH + 1
    grown = scipy.ndimage.grey_dilation(labels, size=(3 if len(labels) > 1 else 1, size, size))
    return np.where(labels == 0, grown, labels)


def keep_kinds(labels: Array, kinds: frozenset[Kind]) -> Array:
    """Return labels, (I, J, K) uint8, with background in place of structures of any other kind."""
    keep = np.zeros(256, np.uint8)
    for structure in anatomy.STRUCTURES:
        keep[structure.label] = structure.label if structure.kind in kinds else 0
    return labels if kinds >= set(anatomy.CLASSES[1:]) else keep[labels]


def rename_levels(labels: Array, instances: Instances, names: tuple[str, ...], new_names: tuple[str, ...]) -> Array:
    """Return a label map rendered with `names` as if it was rendered with `new_names`.

    A disc that had no name stays background.
    """
    table = np.arange(256, dtype=np.uint8)
    tables = zip(_label_tables(instances, names), _label_tables(instances, new_names), strict=True)
    for (_, _, old), (_, _, new) in tables:
        table[old[old > 0]] = new[old > 0]
    return table[labels]


def check_level_order(labels: Array) -> None:
    """Raise SegmentError when a vertebra between two named ones is missing from a label map, (I, J, K) uint8."""
    present = [s for s in anatomy.STRUCTURES if s.kind is Kind.BODY and (labels == s.label).any()]
    ranks = [anatomy.LEVELS.index(s.name) for s in present]
    if ranks and ranks[-1] - ranks[0] + 1 != len(ranks):
        names = ", ".join(s.name for s in present)
        raise SegmentError(f"the segmentation would have a gap in its level order ({names}); please report this exam")
