"""The benchmark's simulated clicks: on the largest error, by the name of what is there."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.simulated_clicks import simulate_click

from lumbarseg.anatomy import structure_by_name
from lumbarseg.volume import Volume

AFFINE = np.diag([4.0, 0.8, 0.8, 1.0])
TABLE = {0: ("background",), 1: ("L1",), 3: ("L3",), 8: ("L3-L4",), 9: ("unknown",), 60: ("body", "arch")}
L1, L3, DISC, ARCH = (structure_by_name(name).label for name in ("L1", "L3", "L3-L4", "L3 arch"))


def volume(*boxes: tuple[int, tuple[slice, slice, slice]]) -> Volume:
    array = np.zeros((8, 60, 70), np.uint8)
    for value, box in boxes:
        array[box] = value
    return Volume(array, AFFINE)


def box(i: int, j: int, k: int, size: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    return slice(i, i + size[0]), slice(j, j + size[1]), slice(k, k + size[2])


def voxel_of(point: tuple[float, float, float]) -> tuple[int, ...]:
    return tuple(np.rint(np.array(point) / np.diag(AFFINE)[:3]).astype(int))


RNG = np.random.default_rng


def test_a_missing_structure_is_clicked_by_its_name() -> None:
    reference = volume((3, box(2, 10, 10, (4, 20, 20))), (8, box(3, 40, 40, (1, 4, 4))))
    click = simulate_click(volume(), reference, TABLE, RNG(0))
    assert click is not None
    assert (click.structure, click.positive) == ("L3", True)
    assert reference.array[voxel_of(click.point)] == 3


def test_an_extra_structure_gets_a_negative_click() -> None:
    prediction = volume((L3, box(2, 10, 10, (4, 20, 20))), (DISC, box(3, 40, 40, (1, 4, 4))))
    click = simulate_click(prediction, volume(), TABLE, RNG(0))
    assert click is not None
    assert (click.structure, click.positive) == ("L3", False)
    assert prediction.array[voxel_of(click.point)] == L3


def test_a_wrong_name_is_an_error_and_the_right_one_is_clicked() -> None:
    reference = volume((3, box(2, 10, 10, (4, 20, 20))))
    prediction = volume((L1, box(2, 10, 10, (4, 20, 20))))
    click = simulate_click(prediction, reference, TABLE, RNG(0))
    assert click is not None
    assert (click.structure, click.positive) == ("L3", True)


def test_unknown_voxels_are_no_errors() -> None:
    reference = volume((9, box(0, 0, 0, (8, 60, 40))), (60, box(2, 10, 50, (4, 20, 10))))
    prediction = volume((L3, box(2, 10, 10, (4, 20, 20))), (ARCH, box(2, 10, 50, (4, 20, 10))))
    assert simulate_click(prediction, reference, TABLE, RNG(0)) is None


@pytest.mark.parametrize(("nearest", "name"), [(ARCH, "arch"), (L3, "body"), (0, "body")])
def test_of_two_tissues_the_one_predicted_nearest_is_clicked(nearest: int, name: str) -> None:
    reference = volume((60, box(2, 10, 10, (4, 20, 20))))
    prediction = volume((nearest, box(2, 10, 10, (4, 20, 3))))
    click = simulate_click(prediction, reference, TABLE, RNG(0))
    assert click is not None
    assert (click.structure, click.positive) == (name, True)
