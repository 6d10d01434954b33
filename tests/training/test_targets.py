from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import sets

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind
from lumbarseg.datasets import Dataset
from lumbarseg.datasets.dataset import Case
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.errors import DatasetError
from lumbarseg.training.targets import KEYWORDS, Targets, restrict_to_trained

CHU: LabelTable = {
    0: ("background", "disc", "canal", "sacrum", "arch", "T10"),
    **{n: (f"L{n}",) for n in range(1, 6)},
    13: ("T12",),
}
VERTEBRAE: LabelTable = {0: ("background", "sacrum"), 4: ("L4", "L4 arch"), 5: ("L5", "L5 arch"), 9: ("L4-L5",)}
TISSUE: LabelTable = {0: ("background", "sacrum"), 1: ("body", "arch"), 2: ("disc",), 3: ("canal",)}
BACKGROUND, BODY, DISC, CANAL, SACRUM, ARCH = CLASSES
KINDS = st.frozensets(st.sampled_from(CLASSES))


def case(table: LabelTable, present: dict[int, int] | None = None) -> Case:
    return Case("c", Path("i"), Path("l"), table, voxel_counts=present or {})


def test_keywords_and_names_are_parsed() -> None:
    assert Targets.parse(["vertebrae"]).names == ("L1", "L2", "L3", "L4", "L5")
    assert Targets.parse(["discs"]).names == ("L1-L2", "L2-L3", "L3-L4", "L4-L5")
    assert len(Targets.parse(["all"]).names) == 9
    assert Targets.parse(["L1 L2,L4", "arch", "L1"]).names == ("L1", "L2", "L4 arch")
    assert Targets.parse(["spine"]).kinds == {Kind.BODY}
    assert Targets.parse(["tissues"]).kinds == set(CLASSES[1:]) == Targets().kinds
    levels = {s.name for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC)}
    assert set(Targets.parse(["levels"]).names) == levels
    for wrong in ("L9", "background", "unknown"):
        with pytest.raises(DatasetError, match=f"targets: '{wrong}'"):
            Targets.parse([wrong])


def test_trained_kinds_are_annotated_and_needed() -> None:
    assert Targets().trained_kinds([CHU]) == {BODY}
    assert Targets().trained_kinds([sets.TABLE]) == set(CLASSES[1:])
    assert Targets.parse(["discs"]).trained_kinds([sets.TABLE]) == {BODY, DISC, SACRUM}  # names are counted by these
    assert Targets.parse(["discs"]).trained_kinds([TISSUE]) == {BODY, ARCH, DISC}  # a body comes with its arch there
    assert Targets.parse(["canal"]).trained_kinds([{0: ("background",), 1: ("canal",)}]) == {CANAL}
    assert Targets().trained_kinds([{0: ("unknown",)}]) == set()


def test_posterior_elements_belong_to_vertebrae_annotated_with_them() -> None:
    assert Targets.parse(["L4"]).with_annotated_arches([VERTEBRAE]).names == ("L4", "L4 arch")
    assert Targets.parse(["spine"]).with_annotated_arches([TISSUE]).names == ("body", "arch")
    assert Targets.parse(["L4"]).with_annotated_arches([CHU]).names == ("L4",)
    assert Targets().with_annotated_arches([VERTEBRAE]).names == ()


def test_targets_annotated_in_a_case() -> None:
    targets = Targets.parse(["L4", "L4-L5", "L3"])
    assert targets.annotated_in(case(CHU)) == ("L4", "L3")
    assert targets.annotated_in(case(CHU, {0: 5, 4: 5})) == ("L4",)
    assert targets.annotated_in(case(VERTEBRAE)) == ("L4", "L4-L5")
    assert targets.annotated_in(case(TISSUE)) == ("L4", "L4-L5", "L3")  # as tissues, without their names
    assert targets.annotated_in(case({**CHU, 0: ("background", "L3")})) == ("L4",)
    assert targets.annotated_in(case({**CHU, 0: ("background", "body")})) == ()
    assert Targets.parse(["spine"]).annotated_in(case(CHU)) == ("body",)


def test_cases_without_a_target_are_not_selected(tmp_path: Path) -> None:
    def dataset(*cases: Case) -> Dataset:
        return Dataset(tmp_path, "d", CHU, cases)

    first, second = case(CHU), replace(case({0: ("background", "body"), 9: ("L4-L5",)}), name="other")
    (selected,) = Targets.parse(["L4"]).select_datasets([dataset(first, second)])
    assert [c.name for c in selected.all_cases] == ["c"]
    assert Targets().select_datasets([dataset(first, second)])[0].all_cases == (first, second)
    with pytest.raises(DatasetError, match="no training case annotates L4-L5"):
        Targets.parse(["L4", "L4-L5"]).select_datasets([dataset(first)])
    with pytest.raises(DatasetError, match="no training case annotates L4"):
        Targets.parse(["L4"]).select_datasets([dataset(replace(first, split="val"))])
    assert Targets.parse(["levels"]).select_datasets([dataset(first)])[0].all_cases == (first,)


def test_only_targets_are_scored() -> None:
    by_name, by_kind = Targets.parse(["L4"]).scoring_tables(CHU)
    assert (set(by_name), by_kind) == ({0, 4}, {})
    by_name, by_kind = Targets.parse(["spine"]).scoring_tables(CHU)
    assert by_name == {}
    assert {names for value, names in by_kind.items() if value} == {("body",)}
    by_name, _ = Targets.parse(["discs"]).scoring_tables(TISSUE)
    assert set(by_name) == {0, 2}
    assert Targets().scoring_tables(CHU) == (CHU, {})
    assert Targets.parse(["L4-L5"]).scoring_tables(CHU) == ({}, {})


def test_restricted_sets_by_hand() -> None:
    background, body = frozenset({BACKGROUND}), frozenset({BODY})
    rest = frozenset(CLASSES) - body
    assert (
        restrict_to_trained(background, body, frozenset(CLASSES)) == rest
    )  # a network that knows discs may see one there
    assert restrict_to_trained(frozenset({DISC}), body, frozenset(CLASSES)) == rest
    assert restrict_to_trained(frozenset({DISC}), body, body | background) == background
    assert restrict_to_trained(body, body, frozenset(CLASSES)) == body
    assert restrict_to_trained(frozenset({BODY, ARCH}), body, body | background) == frozenset(
        CLASSES
    )  # says nothing any more


@given(KINDS.filter(bool), KINDS, KINDS)
def test_a_restricted_set_never_claims_more(
    allowed: frozenset[Kind], trained_kinds: frozenset[Kind], known_before: frozenset[Kind]
) -> None:
    trained_kinds = trained_kinds - {BACKGROUND}
    known_kinds = trained_kinds | known_before | {BACKGROUND}
    restricted = restrict_to_trained(allowed, trained_kinds, known_kinds)
    assert restricted
    assert allowed & trained_kinds <= restricted
    if restricted != frozenset(CLASSES):
        assert restricted <= known_kinds
        assert restricted & trained_kinds == allowed & trained_kinds
    if trained_kinds == set(CLASSES[1:]):
        assert restricted == allowed


def test_every_keyword_names_structures_or_kinds() -> None:
    for keyword in KEYWORDS:
        assert Targets.parse([keyword]).names == KEYWORDS[keyword]
