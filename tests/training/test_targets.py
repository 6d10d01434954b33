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
WHOLE: LabelTable = {0: ("background", "sacrum"), 4: ("L4", "L4 arch"), 5: ("L5", "L5 arch"), 9: ("L4-L5",)}
TISSUE: LabelTable = {0: ("background", "sacrum"), 1: ("body", "arch"), 2: ("disc",), 3: ("canal",)}
BACKGROUND, BODY, DISC, CANAL, SACRUM, ARCH = CLASSES
KINDS = st.frozensets(st.sampled_from(CLASSES))


def case(table: LabelTable, present: dict[int, int] | None = None) -> Case:
    return Case("c", Path("i"), Path("l"), table, voxel_counts=present or {})


def test_words_for_structures() -> None:
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


def test_what_is_taught_is_what_was_drawn_and_is_needed() -> None:
    assert Targets().trained_kinds([CHU]) == {BODY}
    assert Targets().trained_kinds([sets.TABLE]) == set(CLASSES[1:])
    assert Targets.parse(["discs"]).trained_kinds([sets.TABLE]) == {BODY, DISC, SACRUM}  # names are counted by these
    assert Targets.parse(["discs"]).trained_kinds([TISSUE]) == {BODY, ARCH, DISC}  # a body comes with its arch there
    assert Targets.parse(["canal"]).trained_kinds([{0: ("background",), 1: ("canal",)}]) == {CANAL}
    assert Targets().trained_kinds([{0: ("unknown",)}]) == set()


def test_posterior_elements_belong_to_vertebrae_that_were_drawn_whole() -> None:
    assert Targets.parse(["L4"]).with_annotated_arches([WHOLE]).names == ("L4", "L4 arch")
    assert Targets.parse(["spine"]).with_annotated_arches([TISSUE]).names == ("body", "arch")
    assert Targets.parse(["L4"]).with_annotated_arches([CHU]).names == ("L4",)
    assert Targets().with_annotated_arches([WHOLE]).names == ()


def test_a_case_annotates_what_was_drawn_in_it() -> None:
    wanted = Targets.parse(["L4", "L4-L5", "L3"])
    assert wanted.annotated_in(case(CHU)) == ("L4", "L3")
    assert wanted.annotated_in(case(CHU, {0: 5, 4: 5})) == ("L4",)
    assert wanted.annotated_in(case(WHOLE)) == ("L4", "L4-L5")
    assert wanted.annotated_in(case(TISSUE)) == ("L4", "L4-L5", "L3")  # as tissues, without their names
    assert wanted.annotated_in(case({**CHU, 0: ("background", "L3")})) == ("L4",)
    assert wanted.annotated_in(case({**CHU, 0: ("background", "body")})) == ()
    assert Targets.parse(["spine"]).annotated_in(case(CHU)) == ("body",)


def test_cases_without_a_target_are_left_out(tmp_path: Path) -> None:
    def dataset(*cases: Case) -> Dataset:
        return Dataset(tmp_path, "d", CHU, cases)

    here, there = case(CHU), replace(case({0: ("background", "body"), 9: ("L4-L5",)}), name="other")
    (kept,) = Targets.parse(["L4"]).select_datasets([dataset(here, there)])
    assert [c.name for c in kept.all_cases] == ["c"]
    assert Targets().select_datasets([dataset(here, there)])[0].all_cases == (here, there)
    with pytest.raises(DatasetError, match="no training case in which L4-L5 was drawn"):
        Targets.parse(["L4", "L4-L5"]).select_datasets([dataset(here)])
    with pytest.raises(DatasetError, match="no training case in which L4 was drawn"):
        Targets.parse(["L4"]).select_datasets([dataset(replace(here, split="val"))])
    assert Targets.parse(["levels"]).select_datasets([dataset(here)])[0].all_cases == (here,)


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


def test_narrowed_by_hand() -> None:
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
def test_narrowing_never_claims_more(allowed: frozenset[Kind], taught: frozenset[Kind], known: frozenset[Kind]) -> None:
    taught = taught - {BACKGROUND}
    alive = taught | known | {BACKGROUND}
    found = restrict_to_trained(allowed, taught, alive)
    assert found
    assert allowed & taught <= found
    if found != frozenset(CLASSES):
        assert found <= alive
        assert found & taught == allowed & taught
    if taught == set(CLASSES[1:]):
        assert found == allowed


def test_every_keyword_names_structures_or_kinds() -> None:
    for word in KEYWORDS:
        assert Targets.parse([word]).names == KEYWORDS[word]
