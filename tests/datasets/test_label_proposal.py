"""Names that are proposed for the values of unexplained label maps, checked on phantoms whose names are known."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from lumbarseg import phantom
from lumbarseg.anatomy import STRUCTURES, structure_by_name
from lumbarseg.datasets.label_proposal import propose_label_table
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

LEVELS = ("L1", "L2", "L3", "L4", "L5")
DISCS = ("L1-L2", "L2-L3", "L3-L4", "L4-L5", "L5-S1")


@pytest.fixture(scope="module")
def label_maps() -> list[Volume]:
    """Five exams that show L1 to the sacrum."""
    ranges = phantom.RecipeRanges(sequences=("T2",), isotropic_fraction=0.0)
    maps = (phantom.render_phantom(phantom.sample_recipe(np.random.default_rng(s), ranges)).labels for s in range(40))
    needed = [structure_by_name(name).label for name in ("T12", *LEVELS, *DISCS, "sacrum")]
    counts = ((labels, np.bincount(labels.array.ravel(), minlength=256)) for labels in maps)
    complete = (labels for labels, count in counts if min(count[needed]) > 900 and count[needed[-1]] > 12_000)
    return list(islice(complete, 5))


def renumbered(labels: Volume, values: dict[str, int]) -> Volume:
    """Return a label map in which only these structures or kinds have a value."""
    array: Array = np.zeros_like(labels.array)
    for name, value in values.items():
        numbers = [s.label for s in STRUCTURES if name in (s.name, s.kind.value)]
        array[np.isin(labels.array, numbers)] = value
    return Volume(array, labels.affine)


@pytest.mark.parametrize("axes", ["RAS", "LPI", "ASR"])
def test_levels_of_bodies_discs_and_canal(label_maps: list[Volume], axes: str) -> None:
    values = {name: 200 - number for number, name in enumerate((*LEVELS, *DISCS, "canal", "sacrum"))}
    table = propose_label_table(reorient(renumbered(labels, values), axes) for labels in label_maps)
    assert table == {0: ("background", "arch"), **{value: (name,) for name, value in sorted(values.items())}}


def test_one_value_for_all_of_a_kind(label_maps: list[Volume]) -> None:
    table = propose_label_table(renumbered(labels, {"body": 1, "disc": 2, "canal": 3}) for labels in label_maps)
    assert table == {0: ("background", "sacrum", "arch"), 1: ("body",), 2: ("disc",), 3: ("canal",)}


def test_posterior_elements_of_their_own_and_with_their_body(label_maps: list[Volume]) -> None:
    values = {name: number for number, name in enumerate(LEVELS, start=1)} | {"arch": 6, "canal": 7}
    own = propose_label_table(renumbered(labels, values) for labels in label_maps)
    assert own == {0: ("background", "disc", "sacrum"), **{v: (name,) for name, v in values.items()}}
    arches = {f"{name} arch": value for name, value in values.items() if name in LEVELS}
    together = propose_label_table(
        Volume(renumbered(labels, values | {"arch": 0}).array + renumbered(labels, arches).array, labels.affine)
        for labels in label_maps
    )
    assert together == {
        0: ("background", "disc", "sacrum"),
        **{number: (name, f"{name} arch") for number, name in enumerate(LEVELS, start=1)},
        7: ("canal",),
    }


def test_no_level_is_named_twice(label_maps: list[Volume]) -> None:
    values = {name: number for number, name in enumerate(LEVELS, start=1)}
    some = {name: value for name, value in values.items() if name != "L5"}  # half of the label maps lack L5
    maps = [renumbered(labels, values if n % 2 else some) for n, labels in enumerate(label_maps)]
    table = propose_label_table(maps)
    assert {value: names for value, names in table.items() if value} == {v: (n,) for n, v in values.items()}


def test_four_discs_alone(label_maps: list[Volume]) -> None:
    values = {name: number for number, name in enumerate(DISCS[:4], start=1)}
    table = propose_label_table(renumbered(labels, values) for labels in label_maps)
    assert {value: names for value, names in table.items() if value} == {v: (n,) for n, v in values.items()}


def test_specks_are_unknown(label_maps: list[Volume]) -> None:
    labels = renumbered(label_maps[0], {"L3": 1})
    labels.array[0, :2, :2] = 7
    assert propose_label_table([labels]) == {
        0: ("background", "disc", "canal", "sacrum", "arch"),
        1: ("L5",),  # counted from below
        7: ("unknown",),
    }
