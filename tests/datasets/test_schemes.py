"""Other programs' label values: every structure comes back under its name, or is said not to be drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import ROOT

from lumbarseg.anatomy import (
    CLASSES,
    LEVELS,
    LUMBAR_LEVELS,
    STRUCTURES,
    Kind,
    Structure,
    kinds_from_names,
    structure_by_name,
)
from lumbarseg.datasets.label_table import parse_label_table, read_label_table
from lumbarseg.datasets.schemes import (
    REGULAR_VERTEBRAE,
    SCHEMES,
    disc_below,
    encode_labels,
    get_scheme,
    labels_for_names,
    names_for_labels,
    regular_structures,
    unannotated_names,
    value_for_structure,
    whole_vertebra,
)
from lumbarseg.errors import DatasetError

LABEL_TABLES = ROOT / "benchmarks" / "label_tables"
RARE = {s.name for s in STRUCTURES if LEVELS[-1] in s.name or s.name == "L4-S1"}
structures = st.sampled_from(STRUCTURES)
schemes = st.sampled_from(sorted(SCHEMES))


def allows(names: tuple[str, ...], structure: Structure) -> bool:
    return bool({structure.name, structure.kind.value, "unknown"} & set(names))


@given(schemes, structures)
def test_every_structure_comes_back_or_is_unannotated(name: str, structure: Structure) -> None:
    """Only what no regular spine has may be missing from a scheme without a word."""
    table = SCHEMES[name]
    value = value_for_structure(table, structure.name)
    assert allows(table[value], structure) or (not value and structure.name in RARE)


@given(schemes, structures)
def test_a_value_that_names_a_level_names_the_right_one(name: str, structure: Structure) -> None:
    table = SCHEMES[name]
    value = value_for_structure(table, structure.name)
    by_name = [other for other in table[value] if value and other not in tuple(Kind)]
    assert not by_name or structure.name in by_name


@pytest.mark.parametrize("name", SCHEMES)
def test_schemes_are_valid_tables(name: str) -> None:
    rows = {str(value): list(names) for value, names in SCHEMES[name].items()}
    assert parse_label_table(rows, name) == SCHEMES[name]
    assert frozenset(CLASSES) not in [kinds_from_names(names) for value, names in SCHEMES[name].items() if value]


def test_schemes_have_the_numbers_of_their_programs() -> None:
    """L1, L5, T12, the disc L4-L5, that on the sacrum, the sacrum and the canal, as the programs document them."""
    structures_value = ("L1", "L5", "T12", "L4-L5", "L5-S1", "sacrum", "canal")
    expected = {
        "default": (1, 5, 13, 9, 10, 11, 12),
        "spider": (5, 1, 6, 202, 201, 0, 100),
        "mrspineseg": (6, 2, 7, 12, 11, 1, 0),
        "totalsegmentator": (6, 2, 7, 0, 0, 1, 0),
        "spineps": (20, 24, 19, 123, 124, 26, 61),
        "totalspineseg": (41, 45, 32, 95, 100, 50, 2),
        "spineps_subregions": (49, 49, 49, 100, 100, 26, 61),
    }
    for name, values in expected.items():
        assert tuple(value_for_structure(SCHEMES[name], structure) for structure in structures_value) == values, name
    assert value_for_structure(SCHEMES["totalspineseg"], "T12-L1") == 91
    assert value_for_structure(SCHEMES["totalspineseg"], "T11-T12") == 82
    assert value_for_structure(SCHEMES["spineps"], "T12-L1") == 119
    assert value_for_structure(SCHEMES["spineps"], LEVELS[-1]) == 25


def test_tables_of_real_exams_mean_what_is_annotated() -> None:
    default = SCHEMES["default"]
    space, slices = (read_label_table(LABEL_TABLES / f"{name}.json") for name in ("spider_space", "spider_t2"))
    siegen = read_label_table(LABEL_TABLES / "siegen.json")
    assert tuple(value_for_structure(siegen, name) for name in ("L1", "L5", "T12", "L4-L5", "sacrum")) == (
        1,
        5,
        13,
        0,
        30,
    )
    assert {value: names[0] for value, names in default.items() if value} == {s.label: s.name for s in STRUCTURES}
    without_sacrum, vertebra = frozenset({Kind.BACKGROUND, Kind.SACRUM}), frozenset({Kind.BODY, Kind.ARCH})
    assert kinds_from_names(space[0]) == kinds_from_names(slices[0]) == without_sacrum
    assert {kinds_from_names(slices[structure_by_name(level).label]) for level in LUMBAR_LEVELS} == {vertebra}
    assert [kinds_from_names(space[value]) for value in (1, 2, 3)] == [vertebra, {Kind.DISC}, {Kind.CANAL}]
    assert {"T12", "disc", "canal", "arch"} <= set(SCHEMES["lumbar_bodies"][0])
    assert {"T12-L1", "body", "canal"} <= set(SCHEMES["lumbar_discs"][0])


@given(st.sets(structures, min_size=1))
def test_names_of_a_set_of_structures_mean_that_set(selected: set[Structure]) -> None:
    labels = frozenset(s.label for s in selected)
    assert labels_for_names(names_for_labels(labels)) == labels


@given(st.lists(st.sampled_from([s.name for s in STRUCTURES]), min_size=1, unique=True))
def test_the_row_of_zero_names_what_is_not_annotated(names: list[str]) -> None:
    row = unannotated_names([(name,) for name in names])
    assert row[0] == Kind.BACKGROUND
    assert not set(row) & set(names)
    for kind in set(Kind) - {Kind.BACKGROUND}:
        annotated = [name for name in names if structure_by_name(name).kind is kind]
        left = set(regular_structures(kind)) - set(names)
        assert (kind.value in row) == (not annotated) or kind.value in names
        assert not annotated or left <= set(row)


def test_a_partly_annotated_kind_leaves_the_rest_open() -> None:
    assert unannotated_names([("canal",), ("body", "arch"), ("disc",)], partial_kinds=[Kind.CANAL]) == (
        "background",
        "canal",
        "sacrum",
    )


def test_levels_of_the_column() -> None:
    assert (REGULAR_VERTEBRAE[0], REGULAR_VERTEBRAE[-1], len(REGULAR_VERTEBRAE)) == ("T1", "L5", 17)
    assert [disc_below(level) for level in ("T12", "L4", "L5", LEVELS[-1])] == ["T12-L1", "L4-L5", "L5-S1", "L6-S1"]
    assert whole_vertebra("L3") == ("L3", "L3 arch")


def test_labels_are_encoded_by_value() -> None:
    labels = np.array(
        [0, structure_by_name("L5").label, structure_by_name("L5 arch").label, structure_by_name("L5-S1").label],
        np.uint8,
    )
    np.testing.assert_array_equal(encode_labels(labels, get_scheme("spider")), [0, 1, 1, 201])
    with pytest.raises(DatasetError, match="no scheme of label values; choose one of default"):
        get_scheme("khali")
