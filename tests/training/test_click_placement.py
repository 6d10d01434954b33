from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lumbarseg.training.deepedit import place_click
from lumbarseg.volume import Array

RNG = np.random.default_rng


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_the_place_is_deep_inside_an_error(seed: int, other: int) -> None:
    rng = RNG(seed)
    wrong = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 2.5) > 0.1
    parts = np.broadcast_to(np.arange(50) // 25, wrong.shape)
    pixel = place_click(wrong, parts, (1.0, 1.0), RNG(other))
    assert wrong[pixel]
    pieces, _ = ndimage.label(wrong & (parts == parts[pixel]))
    inside = pieces == pieces[pixel]
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    assert depth[pixel] >= 0.7 * depth.max()
    largest = max(
        depths(pieces == n).sum()
        for value in (0, 1)
        for pieces, count in [ndimage.label(wrong & (parts == value))]
        for n in range(1, count + 1)
    )
    assert depth.sum() == pytest.approx(largest)


def depths(inside: Array) -> Array:
    return ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]


def test_the_place_is_a_function_of_the_generator() -> None:
    wrong = np.zeros((30, 30), bool)
    wrong[5:20, 5:25] = True
    parts = np.zeros(wrong.shape, int)
    assert place_click(wrong, parts, (1.0, 1.0), RNG(1)) == place_click(wrong, parts, (1.0, 1.0), RNG(1))
    assert len({place_click(wrong, parts, (1.0, 1.0), RNG(n)) for n in range(20)}) > 3
    assert place_click(wrong, parts, (1.0, 1.0), RNG(1), min_voxels=301) == ()
    assert place_click(np.zeros_like(wrong), parts, (1.0, 1.0), RNG(1)) == ()


def test_a_thin_rim_is_a_smaller_error_than_a_hole() -> None:
    wrong = np.zeros((80, 80), bool)
    wrong[2:78, 2:78] = True
    wrong[3:77, 3:77] = False  # 300 voxels of rim
    wrong[30:44, 30:44] = True  # 196 in one piece
    row, column = place_click(wrong, np.zeros(wrong.shape, int), (1.0, 1.0), RNG(0))
    assert 30 <= row < 44
    assert 30 <= column < 44
