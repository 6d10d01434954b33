"""The table of structures: its numbers, names, order, colours and codes."""

from __future__ import annotations

import itertools

import pytest
from pydicom.sr.codedict import codes

from lumbarseg.anatomy import (
    CLASSES,
    LEVELS,
    LUMBAR_LEVELS,
    STRUCTURES,
    Kind,
    Structure,
    arch_of_level,
    disc_between,
    kinds_from_names,
    labels_of_kind,
    levels_upward,
    name_and_levels,
    structure_by_label,
    structure_by_name,
)
from lumbarseg.errors import LumbarsegError

# what the project's first users number their labels, and what the design adds to it
MISSION = {
    "L1": 1,
    "L2": 2,
    "L3": 3,
    "L4": 4,
    "L5": 5,
    "L1-L2": 6,
    "L2-L3": 7,
    "L3-L4": 8,
    "L4-L5": 9,
    "L5-S1": 10,
    "sacrum": 11,
    "canal": 12,
    "T12": 13,
    "T12-L1": 14,
    "T11": 15,
    "T11-T12": 16,
    "T10": 17,
}


@pytest.mark.parametrize(("name", "label"), MISSION.items())
def test_the_numbers_of_the_first_users_stay(name: str, label: int) -> None:
    assert structure_by_name(name).label == label
    assert structure_by_label(label).name == name


def test_labels_and_names_are_unique_and_fit_a_byte() -> None:
    labels = [s.label for s in STRUCTURES]
    assert len(set(labels)) == len(labels)
    assert all(0 < label <= 255 for label in labels)
    assert len({s.name for s in STRUCTURES}) == len(STRUCTURES)


def test_upward_bodies_are_odd_and_discs_even() -> None:
    thoracic = [level for level in LEVELS if level.startswith("T")]
    assert [structure_by_name(level).label for level in reversed(thoracic)] == list(range(13, 37, 2))
    pairs = list(zip([*thoracic], [*thoracic[1:], "L1"], strict=True))
    assert [disc_between(*pair).label for pair in reversed(pairs)] == list(range(14, 38, 2))


@pytest.mark.parametrize("level", LEVELS)
def test_an_arch_is_its_body_and_fifty(level: str) -> None:
    body, arch = structure_by_name(level), arch_of_level(level)
    assert arch.label == body.label + 50
    assert (body.kind, arch.kind) == (Kind.BODY, Kind.ARCH)
    assert arch.code == body.code


def test_an_l6_and_its_discs_stand_above_all_others() -> None:
    special = {structure_by_name(name).label for name in ("L6", "L5-L6", "L6-S1", "L4-S1")}
    others = {s.label for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC)} - special
    assert min(special) > max(others)


def test_a_disc_stands_between_its_two_vertebrae() -> None:
    for disc in (s for s in STRUCTURES if s.kind is Kind.DISC):
        upper, lower = disc.name.split("-")
        below = structure_by_name("sacrum" if lower == "S1" else lower)
        assert structure_by_name(upper).order < arch_of_level(upper).order < disc.order < below.order


@pytest.mark.parametrize(
    ("name", "levels"),
    [("L3", {"L3"}), ("L3-L4", {"L3", "L4"}), ("L5-S1", {"L5", "S1"}), ("L6 arch", {"L6"}), ("sacrum", set())],
)
def test_a_structure_lies_at_its_levels(name: str, levels: set[str]) -> None:
    assert name_and_levels(name) == {name} | levels


def test_vertebrae_and_discs_follow_one_another_from_head_to_foot() -> None:
    regular = [s for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC, Kind.SACRUM)]
    names = [s.name for s in regular if "L6" not in s.name and s.name != "L4-S1"]
    assert names[:3] == ["T1", "T1-T2", "T2"]
    assert names[-5:] == ["L4", "L4-L5", "L5", "L5-S1", "sacrum"]
    assert names[::2] == [*LEVELS[:-1], "sacrum"]
    assert [s.order for s in STRUCTURES] == sorted(s.order for s in STRUCTURES)


def test_every_class_but_the_background_has_structures() -> None:
    assert CLASSES == ("background", "body", "disc", "canal", "sacrum", "arch")
    assert sorted(label for kind in Kind for label in labels_of_kind(kind)) == sorted(s.label for s in STRUCTURES)
    assert labels_of_kind(Kind.BACKGROUND) == ()
    assert labels_of_kind(Kind.BODY)[-6:] == (1, 2, 3, 4, 5, 37)


def expected_code(structure: Structure) -> str:
    """The SNOMED CT code that DICOM's context groups 7603 and 7604 give a structure."""
    if structure.kind in (Kind.BODY, Kind.ARCH):
        keyword = f"{structure.name.removesuffix(' arch')}Vertebra"
        return getattr(codes.cid7603, keyword).value if keyword in dir(codes.cid7603) else ""
    if structure.kind is Kind.DISC:
        keyword = f"{structure.name.replace('-', '')}Disc"
        return getattr(codes.cid7604, keyword).value if keyword in dir(codes.cid7604) else ""
    return {Kind.SACRUM: codes.SCT.Sacrum, Kind.CANAL: codes.SCT.VertebralCanal}[structure.kind].value


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.name)
def test_codes_are_those_of_the_dicom_standard(structure: Structure) -> None:
    assert structure.code == expected_code(structure)


def test_only_what_the_standard_does_not_know_is_without_a_code() -> None:
    assert {s.name for s in STRUCTURES if not s.code} == {"L6", "L6 arch", "L5-L6", "L6-S1", "L4-S1"}


def test_colours_are_bytes_and_neighbours_differ() -> None:
    assert all(0 <= part <= 255 for s in STRUCTURES for part in s.colour)
    bodies = [structure_by_name(level).colour for level in LEVELS]
    assert len(set(bodies)) == len(bodies)
    discs = [disc_between(upper, lower).colour for upper, lower in itertools.pairwise(LEVELS[:-1])]
    assert all(first != second for first, second in itertools.pairwise(discs))
    assert all(arch_of_level(level).colour != structure_by_name(level).colour for level in LEVELS)


def test_column() -> None:
    assert levels_upward("L5", 3) == ["L5", "L4", "L3"]
    assert levels_upward("L6", 3) == ["L6", "L5", "L4"]
    assert levels_upward("L4", 6) == ["L4", "L3", "L2", "L1", "T12", "T11"]
    assert levels_upward("L5", 17)[-1] == "T1"
    assert levels_upward("T3", 0) == []
    assert tuple(reversed(levels_upward("L5", 5))) == LUMBAR_LEVELS == ("L1", "L2", "L3", "L4", "L5")


@pytest.mark.parametrize(("lowest", "count"), [("S1", 1), ("C7", 1), ("", 1), ("L5", 18), ("T1", 2)])
def test_a_column_that_is_none_is_refused(lowest: str, count: int) -> None:
    with pytest.raises(LumbarsegError):
        levels_upward(lowest, count)


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (["L4"], {Kind.BODY}),
        (["L4 arch"], {Kind.ARCH}),
        (["L4-L5", "T12-L1"], {Kind.DISC}),
        (["L4", "L4 arch"], {Kind.BODY, Kind.ARCH}),
        (["body", "arch"], {Kind.BODY, Kind.ARCH}),
        (["background", "sacrum"], {Kind.BACKGROUND, Kind.SACRUM}),
        (["canal"], {Kind.CANAL}),
        (["unknown"], set(Kind)),
        (["unknown", "L4"], set(Kind)),
        ([], set()),
    ],
)
def test_classes_of(names: list[str], allowed: set[Kind]) -> None:
    assert kinds_from_names(names) == allowed


@pytest.mark.parametrize("name", ["L7", "l4", "L4-L6", "L5-L4", "vertebra", "", "S1"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(LumbarsegError, match="is no structure of the table"):
        structure_by_name(name)
    with pytest.raises(LumbarsegError, match="is no structure of the table"):
        kinds_from_names([name])


@pytest.mark.parametrize("label", [0, 41, 50, 255])
def test_unknown_labels_are_refused(label: int) -> None:
    with pytest.raises(LumbarsegError, match=f"label {label} is not in the table"):
        structure_by_label(label)
