"""Volumes on other grids: exact where axes only change their order, linear elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.grids import AXIS_ORDERS, affine_of, filled, grids

from lumbarseg.errors import GridError
from lumbarseg.resampling import apply_matrices, interpolation_matrix, reorient, reorient_grid, resample
from lumbarseg.volume import Grid, Volume

OBLIQUE = 30.0  # degrees about each axis


@pytest.mark.parametrize("axes", AXIS_ORDERS)
@settings(max_examples=10, deadline=None)
@given(grid=grids(OBLIQUE))
def test_reorienting_moves_no_voxel_in_space_and_inverts_exactly(axes: str, grid: Grid) -> None:
    volume = filled(grid)
    rotated = reorient(volume, axes)
    assert rotated.grid.axis_codes == axes
    assert rotated.grid.same_as(reorient_grid(grid, axes), 0)
    assert sorted(rotated.array.shape) == sorted(grid.shape)

    back = reorient(rotated, grid.axis_codes)
    assert np.array_equal(back.array, volume.array)
    assert back.grid.same_as(grid, 1e-9)

    index = np.array(list(np.ndindex(rotated.array.shape)))
    positions = np.rint(grid.to_index(rotated.grid.to_world(index))).astype(int)
    assert np.abs(rotated.grid.to_world(index) - grid.to_world(positions)).max() < 1e-6
    assert np.array_equal(rotated.array.ravel(), volume.array[tuple(positions.T)])


def test_reorienting_copies_no_voxels() -> None:
    volume = filled(Grid((3, 4, 5), np.eye(4)))
    assert np.shares_memory(reorient(volume, "PIR").array, volume.array)


@pytest.mark.parametrize("axes", ["RAA", "RLS", "XAS", "RA", "", "RASS", "ras"])
def test_words_that_name_no_three_directions_are_refused(axes: str) -> None:
    with pytest.raises(GridError, match="names no three directions"):
        reorient(filled(Grid((3, 4, 5), np.eye(4))), axes)


@settings(max_examples=200, deadline=None)
@given(
    source=st.integers(1, 40),
    target=st.integers(1, 40),
    step=st.floats(0.05, 12),
    start=st.floats(-20, 50),
    width=st.floats(0.1, 12),
)
def test_rows_of_weights_sum_to_one(source: int, target: int, step: float, start: float, width: float) -> None:
    matrix = interpolation_matrix(source, target, step, start, width)
    assert matrix.shape == (target, source)
    assert matrix.dtype == np.float32
    assert matrix.min() >= 0
    assert matrix.sum(axis=1) == pytest.approx(np.ones(target), abs=1e-5)


@given(size=st.integers(1, 50))
def test_weights_of_the_same_samples_are_the_identity(size: int) -> None:
    assert np.array_equal(interpolation_matrix(size, size, 1.0, 0.0), np.eye(size))


@settings(max_examples=100, deadline=None)
@given(source=st.integers(8, 40), step=st.floats(0.1, 3), start=st.floats(0, 5))
def test_weights_keep_a_straight_line_straight(source: int, step: float, start: float) -> None:
    target = max(1, int((source - 1 - start) / step))
    centres = start + step * np.arange(target)
    line = interpolation_matrix(source, target, step, start) @ np.arange(source)
    assert line == pytest.approx(np.clip(centres, 0, source - 1), abs=1e-3)
    wide = interpolation_matrix(source, target, step, start, width=3.0) @ np.arange(source)
    inside = (centres > 3) & (centres < source - 4)
    assert wide[inside] == pytest.approx(centres[inside], abs=0.35)


def test_weights_beyond_the_border_take_the_nearest_voxel() -> None:
    matrix = interpolation_matrix(4, 3, 5.0, -5.0)
    assert np.array_equal(matrix.argmax(axis=1), [0, 0, 3])
    assert matrix.max(axis=1) == pytest.approx(np.ones(3))


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3), lead=st.sampled_from([(), (3,), (2, 3)]), skip=st.sets(st.integers(0, 2))
)
def test_apply_is_one_product_for_each_axis(shape: tuple[int, int, int], lead: tuple[int, ...], skip: set[int]) -> None:
    rng = np.random.default_rng(0)
    array = rng.normal(size=(*lead, *shape)).astype(np.float32)
    array.setflags(write=False)
    matrices = [
        None if axis in skip else rng.normal(size=(axis + 2, n)).astype(np.float32) for axis, n in enumerate(shape)
    ]
    full = [np.eye(n) if m is None else m for m, n in zip(matrices, shape, strict=True)]
    expected = np.einsum("...ijk,ai,bj,ck->...abc", array, *full)
    result = apply_matrices(array, (matrices[0], matrices[1], matrices[2]))
    assert result.dtype == np.float32
    assert result == pytest.approx(expected, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(grid=grids(), order=st.sampled_from([0, 1]))
def test_resampling_onto_its_own_grid_changes_nothing(grid: Grid, order: int) -> None:
    volume = filled(grid)
    volume.array.setflags(write=False)
    restored = resample(volume, grid, order)
    assert np.array_equal(restored.array, volume.array)
    assert restored.array.dtype == volume.array.dtype
    assert restored.grid.same_as(grid, 0)


@settings(max_examples=30, deadline=None)
@given(grid=grids(OBLIQUE), axes=st.sampled_from(AXIS_ORDERS))
def test_resampling_onto_other_axes_is_reorienting(grid: Grid, axes: str) -> None:
    volume = filled(grid)
    rotated = reorient(volume, axes)
    assert np.array_equal(resample(volume, rotated.grid, 0).array, rotated.array)


@settings(max_examples=30, deadline=None)
@given(target=grids(largest=5), direction=st.tuples(*[st.floats(-1, 1)] * 3))
def test_a_linear_image_is_linear_on_any_grid(target: Grid, direction: tuple[float, float, float]) -> None:
    corners = target.to_world(np.array(list(np.ndindex(2, 2, 2))) * (np.array(target.shape) - 1))
    low, size = corners.min(axis=0) - 5, corners.max(axis=0) - corners.min(axis=0) + 10
    shape = tuple(np.ceil(size / 3).astype(int) + 1)
    source = Grid(shape, np.block([[np.eye(3) * 3, low[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]]))
    image = source.to_world(np.moveaxis(np.indices(shape), 0, -1)) @ np.array(direction)
    result = resample(Volume(image, source.affine), target).array
    expected = target.to_world(np.moveaxis(np.indices(target.shape), 0, -1)) @ np.array(direction)
    assert result == pytest.approx(expected, abs=1e-6)


def test_outside_the_source_there_is_nothing() -> None:
    volume = Volume(np.full((4, 4, 4), 7, np.int16), np.eye(4))
    far = Grid((4, 4, 4), affine_of("RAS", origin=(2, 0, 0)))
    result = resample(volume, far, 0).array
    assert np.array_equal(result[:2], np.full((2, 4, 4), 7))
    assert not result[2:].any()


@given(st.tuples(*[st.integers(-9, 9)] * 3), st.tuples(*[st.integers(1, 8)] * 3), st.integers(0, 1))
def test_voxels_that_coincide_are_copied(offset: tuple[int, int, int], shape: tuple[int, int, int], order: int) -> None:
    array = np.random.default_rng(0).integers(0, 9, (5, 6, 7)).astype(np.float32)
    affine = affine_of("PIR", (0.7, 0.7, 3.3), (1, 2, 3))
    shifted = affine.copy()
    shifted[:3, 3] = affine[:3, :3] @ offset + affine[:3, 3]
    expected = np.zeros(shape, np.float32)
    for index in np.ndindex(*shape):
        position = tuple(i + o for i, o in zip(index, offset, strict=True))
        if all(0 <= i < n for i, n in zip(position, array.shape, strict=True)):
            expected[index] = array[position]
    result = resample(Volume(array, affine), Grid(shape, shifted), order).array
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.float32


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_is_resampled_in_slabs_to_the_same(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.asarray(np.random.default_rng(0).random((20, 31, 42), dtype=np.float32), order=order)
    matrices = (
        interpolation_matrix(20, 10, 2.0, 0.5, 2.0),
        interpolation_matrix(31, 40, 0.77, 0.0),
        interpolation_matrix(42, 21, 2.0, 0.5, 2.0),
    )
    all_at_once = apply_matrices(array, matrices)
    monkeypatch.setattr("lumbarseg.resampling._MAX_VOXELS_AT_ONCE", 20 * 31 * 5 * 8)
    np.testing.assert_allclose(apply_matrices(array, matrices), all_at_once, rtol=1e-5)
    np.testing.assert_allclose(apply_matrices(array, (None, None, matrices[2])), array @ matrices[2].T, rtol=1e-5)
