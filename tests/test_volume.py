"""Grids and volumes: places in space, for every axis order and oblique affine."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.grids import AXIS_ORDERS, affine_of, affines, filled, grids

from lumbarseg.errors import GridError
from lumbarseg.volume import Array, Grid, Volume, count_labels


@pytest.mark.parametrize("axes", AXIS_ORDERS)
@settings(max_examples=10, deadline=None)
@given(
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    direction=st.tuples(*[st.floats(-1, 1)] * 3),
    angle=st.floats(0, 44),
)
def test_axes_are_named_after_the_nearest_direction(
    axes: str, spacing: tuple[float, float, float], direction: tuple[float, float, float], angle: float
) -> None:
    turn = np.array(direction) / max(float(np.linalg.norm(direction)), 1e-3) * angle
    grid = Grid((3, 4, 5), affine_of(axes, spacing, (1, 2, 3), tuple(turn)))
    assert grid.axis_codes == axes
    assert grid.spacing == pytest.approx(spacing)


def test_there_are_48_axis_orders() -> None:
    assert len(set(AXIS_ORDERS)) == 48
    assert Grid((2, 2, 2), affine_of("PIR")).axis_codes == "PIR"
    assert np.array_equal(affine_of("LPS")[:3, :3], np.diag([-1, -1, 1]))


@settings(max_examples=100, deadline=None)
@given(grid=grids(), index=st.tuples(*[st.floats(-500, 500)] * 3))
def test_world_and_index_are_inverse(grid: Grid, index: tuple[float, float, float]) -> None:
    world = grid.to_world(np.array(index))
    assert grid.to_index(world) == pytest.approx(np.array(index), abs=1e-6)
    assert world == pytest.approx((grid.affine @ [*index, 1])[:3])
    assert grid.to_world(np.zeros((2, 5, 3))).shape == (2, 5, 3)


@settings(max_examples=50, deadline=None)
@given(grid=grids(), shift=st.floats(0.01, 5), axis=st.integers(0, 2))
def test_same_as_measures_the_corners_in_mm(grid: Grid, shift: float, axis: int) -> None:
    shifted = grid.affine.copy()
    shifted[axis, 3] += shift
    other = Grid(grid.shape, shifted)
    assert grid.same_as(Grid(grid.shape, grid.affine))
    assert grid.same_as(other, shift * 1.01)
    assert not grid.same_as(other, shift * 0.99)
    i, j, k = grid.shape
    assert not grid.same_as(Grid((i + 1, j, k), grid.affine))


def test_a_small_rotation_moves_the_far_corner() -> None:
    grid = Grid((400, 400, 20), affine_of("PIR", (0.6, 0.6, 4)))
    rotated = Grid(grid.shape, affine_of("PIR", (0.6, 0.6, 4), turn=(0.1, 0, 0)))
    assert not grid.same_as(rotated, 0.3)
    assert grid.same_as(rotated, 0.7)


def broken(**changes: object) -> Array:
    affine = np.eye(4)
    for position, value in changes.items():
        affine[int(position[1]), int(position[2])] = value
    return affine


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.eye(3),
        broken(a00=0),
        broken(a11=np.nan),
        broken(a23=np.inf),
        broken(a00=0, a10=1),
        broken(a00=1e-9),
        broken(a01=1, a11=1e-5),
    ],
)
def test_affines_that_are_no_place_are_refused(affine: Array) -> None:
    with pytest.raises(GridError, match="the affine is"):
        Grid((3, 4, 5), affine)
    with pytest.raises(GridError, match="the affine is"):
        Volume(np.zeros((3, 4, 5)), affine)


@pytest.mark.parametrize("shape", [(0, 4, 5), (4, 5), (4, 5, 6, 7), (-1, 4, 5)])
def test_shapes_that_are_no_volume_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GridError, match="needs three axes"):
        Grid(shape, np.eye(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 7), (3,)])
def test_arrays_without_three_axes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GridError, match="needs three axes"):
        Volume(np.zeros(shape), np.eye(4))


@settings(max_examples=20, deadline=None)
@given(affine=affines())
def test_a_grid_copies_its_affine(affine: Array) -> None:
    passed = affine.copy()
    grid = Grid((3, 4, 5), passed)
    passed[:] = 0
    assert np.array_equal(grid.affine, affine)
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 7


def test_the_grid_of_a_volume() -> None:
    volume = filled(Grid((3, 4, 5), affine_of("LIP", (1, 2, 3), (4, 5, 6))))
    assert volume.grid.shape == (3, 4, 5)
    assert volume.grid.axis_codes == "LIP"
    assert volume.affine.dtype == np.float64


def test_values_are_counted_whatever_the_shape_and_order() -> None:
    labels = np.random.default_rng(0).integers(0, 256, (7, 800, 900)).astype(np.uint8)
    for array in (labels, labels.transpose(2, 0, 1), labels[::2, ::-1], np.asfortranarray(labels)):
        np.testing.assert_array_equal(count_labels(array), [(array == value).sum() for value in range(256)])
    assert count_labels(np.zeros((2, 0, 3), np.uint8)).tolist() == [0] * 256
