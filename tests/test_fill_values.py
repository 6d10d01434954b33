"""Constant fill outside the field of view: whatever its value, it is found and made dark."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lumbarseg.errors import SegmentError
from lumbarseg.fill_values import replace_fill
from lumbarseg.preprocessing import refuse_ct
from lumbarseg.volume import Array, Volume


def rotated(fill: float, offset: float = 0.0, seed: int = 0) -> tuple[Array, Array]:
    """Return noise in a rotated field of view with constant fill about it, and where the fill is."""
    rng = np.random.default_rng(seed)
    inside = ndimage.rotate(np.ones((40, 40)), 30, order=0) > 0
    array = (rng.gamma(2.0, 100.0, (5, *inside.shape)) + 1 + offset).astype(np.float32)
    array[:, ~inside] = fill
    return array, np.broadcast_to(~inside, array.shape)


@pytest.mark.parametrize("fill", [-100.0, -1000.0, 250.0, 65535.0, float("nan")])
def test_fill_of_any_value_becomes_the_darkest_of_the_others(fill: float) -> None:
    array, mask = rotated(fill)
    replaced, note = replace_fill(array)
    assert np.array_equal(replaced[~mask], array[~mask])
    assert (replaced[mask] == array[~mask].min()).all()
    assert "constant fill" in note


def test_a_fill_of_zero_between_negative_and_positive_values_is_replaced() -> None:
    array, mask = rotated(0.0, offset=-150.0)
    replaced, note = replace_fill(array)
    assert (replaced[mask] == array[~mask].min()).all() and note


def test_dark_air_is_left_alone() -> None:
    array, _ = rotated(0.0)
    replaced, note = replace_fill(array)
    assert replaced is array and note == ""


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.floats(-500, 500))
def test_noise_has_no_fill(seed: int, offset: float) -> None:
    array = (np.random.default_rng(seed).gamma(2.0, 100.0, (3, 20, 20)) + offset).astype(np.float32)
    assert replace_fill(array)[0] is array


def test_nan_inside_the_image_is_left_for_an_error() -> None:
    array, _ = rotated(float("nan"))
    array[2, 27, 27] = np.nan
    assert replace_fill(array)[0] is array


@pytest.mark.parametrize("shift", [0.0, -2000.0])
def test_mr_with_dark_fill_or_shifted_values_is_no_ct(shift: float) -> None:
    array, mask = rotated(-1024.0)
    array[~mask] *= 255 / array.max()
    refuse_ct(Volume(array + np.float32(shift), np.eye(4)))


def test_ct_with_padding_below_air_is_refused() -> None:
    rng = np.random.default_rng(0)
    array, mask = rotated(-3024.0)
    array[~mask] = np.where(rng.random(int((~mask).sum())) < 0.4, -1000, 40) + rng.normal(0, 20, int((~mask).sum()))
    with pytest.raises(SegmentError, match="--modality mr"):
        refuse_ct(Volume(array, np.eye(4)))
