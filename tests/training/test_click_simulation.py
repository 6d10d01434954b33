from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lumbarseg.anatomy import structure_by_name
from lumbarseg.training.click_simulation import place_click, simulate
from lumbarseg.volume import Array, Volume

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


def at(point: tuple[float, float, float]) -> tuple[int, ...]:
    return tuple(np.rint(np.array(point) / np.diag(AFFINE)[:3]).astype(int))


RNG = np.random.default_rng


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_the_place_is_deep_inside_an_error(seed: int, other: int) -> None:
    rng = RNG(seed)
    wrong = ndimage.gaussian_filter(rng.normal(size=(40, 50)), 2.5) > 0.1
    parts = np.broadcast_to(np.arange(50) // 25, wrong.shape)
    found = place_click(wrong, parts, (1.0, 1.0), RNG(other))
    assert wrong[found]
    pieces, _ = ndimage.label(wrong & (parts == parts[found]))
    inside = pieces == pieces[found]
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    assert depth[found] >= 0.7 * depth.max()
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


def test_what_is_missing_is_clicked_by_its_name() -> None:
    truth = volume((3, box(2, 10, 10, (4, 20, 20))), (8, box(3, 40, 40, (1, 4, 4))))
    click = simulate(volume(), truth, TABLE, RNG(0))
    assert click is not None
    assert (click.structure, click.positive) == ("L3", True)
    assert truth.array[at(click.point)] == 3


def test_what_is_too_much_is_clicked_as_not_there() -> None:
    found = volume((L3, box(2, 10, 10, (4, 20, 20))), (DISC, box(3, 40, 40, (1, 4, 4))))
    click = simulate(found, volume(), TABLE, RNG(0))
    assert click is not None
    assert (click.structure, click.positive) == ("L3", False)
    assert found.array[at(click.point)] == L3


def test_a_wrong_name_is_an_error_and_the_right_one_is_clicked() -> None:
    truth = volume((3, box(2, 10, 10, (4, 20, 20))))
    found = volume((L1, box(2, 10, 10, (4, 20, 20))))
    click = simulate(found, truth, TABLE, RNG(0))
    assert click is not None
    assert (click.structure, click.positive) == ("L3", True)


def test_nothing_is_wrong_where_nothing_is_said() -> None:
    truth = volume((9, box(0, 0, 0, (8, 60, 40))), (60, box(2, 10, 50, (4, 20, 10))))
    found = volume((L3, box(2, 10, 10, (4, 20, 20))), (ARCH, box(2, 10, 50, (4, 20, 10))))
    assert simulate(found, truth, TABLE, RNG(0)) is None


@pytest.mark.parametrize(("near", "name"), [(ARCH, "arch"), (L3, "body"), (0, "body")])
def test_of_two_tissues_the_one_found_nearest_is_clicked(near: int, name: str) -> None:
    truth = volume((60, box(2, 10, 10, (4, 20, 20))))
    found = volume((near, box(2, 10, 10, (4, 20, 3))))
    click = simulate(found, truth, TABLE, RNG(0))
    assert click is not None
    assert (click.structure, click.positive) == (name, True)
