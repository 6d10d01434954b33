from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import sets

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind
from lumbarseg.datasets import Dataset
from lumbarseg.datasets.folder import Case, Table
from lumbarseg.errors import DatasetError
from lumbarseg.train.targets import KEYWORDS, Targets, narrowed

CHU: Table = {
    0: ("background", "disc", "canal", "sacrum", "arch", "T10"),
    **{n: (f"L{n}",) for n in range(1, 6)},
    13: ("T12",),
}
WHOLE: Table = {0: ("background", "sacrum"), 4: ("L4", "L4 arch"), 5: ("L5", "L5 arch"), 9: ("L4-L5",)}
TISSUE: Table = {0: ("background", "sacrum"), 1: ("body", "arch"), 2: ("disc",), 3: ("canal",)}
BACKGROUND, BODY, DISC, CANAL, SACRUM, ARCH = CLASSES
KINDS = st.frozensets(st.sampled_from(CLASSES))


def case(table: Table, present: dict[int, int] | None = None) -> Case:
    return Case("c", Path("i"), Path("l"), table, present=present or {})


def test_words_for_structures() -> None:
    assert Targets.of(["vertebrae"]).names == ("L1", "L2", "L3", "L4", "L5")
    assert Targets.of(["discs"]).names == ("L1-L2", "L2-L3", "L3-L4", "L4-L5")
    assert len(Targets.of(["all"]).names) == 9
    assert Targets.of(["L1 L2,L4", "arch", "L1"]).names == ("L1", "L2", "L4 arch")
    assert Targets.of(["spine"]).kinds == {Kind.BODY}
    assert Targets.of(["tissues"]).kinds == set(CLASSES[1:]) == Targets().kinds
    levels = {s.name for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC)}
    assert set(Targets.of(["levels"]).names) == levels
    for wrong in ("L9", "background", "unknown"):
        with pytest.raises(DatasetError, match=f"targets: '{wrong}'"):
            Targets.of([wrong])


def test_what_is_taught_is_what_was_drawn_and_is_needed() -> None:
    assert Targets().taught([CHU]) == {BODY}
    assert Targets().taught([sets.TABLE]) == set(CLASSES[1:])
    assert Targets.of(["discs"]).taught([sets.TABLE]) == {BODY, DISC, SACRUM}  # names are counted by these
    assert Targets.of(["discs"]).taught([TISSUE]) == {BODY, ARCH, DISC}  # a body comes with its arch there
    assert Targets.of(["canal"]).taught([{0: ("background",), 1: ("canal",)}]) == {CANAL}
    assert Targets().taught([{0: ("unknown",)}]) == set()


def test_posterior_elements_belong_to_vertebrae_that_were_drawn_whole() -> None:
    assert Targets.of(["L4"]).resolved([WHOLE]).names == ("L4", "L4 arch")
    assert Targets.of(["spine"]).resolved([TISSUE]).names == ("body", "arch")
    assert Targets.of(["L4"]).resolved([CHU]).names == ("L4",)
    assert Targets().resolved([WHOLE]).names == ()


def test_a_case_annotates_what_was_drawn_in_it() -> None:
    wanted = Targets.of(["L4", "L4-L5", "L3"])
    assert wanted.annotated(case(CHU)) == ("L4", "L3")
    assert wanted.annotated(case(CHU, {0: 5, 4: 5})) == ("L4",)
    assert wanted.annotated(case(WHOLE)) == ("L4", "L4-L5")
    assert wanted.annotated(case(TISSUE)) == ("L4", "L4-L5", "L3")  # as tissues, without their names
    assert wanted.annotated(case({**CHU, 0: ("background", "L3")})) == ("L4",)
    assert wanted.annotated(case({**CHU, 0: ("background", "body")})) == ()
    assert Targets.of(["spine"]).annotated(case(CHU)) == ("body",)


def test_cases_without_a_target_are_left_out(tmp_path: Path) -> None:
    def dataset(*cases: Case) -> Dataset:
        return Dataset(tmp_path, "d", CHU, cases)

    here, there = case(CHU), replace(case({0: ("background", "body"), 9: ("L4-L5",)}), name="other")
    (kept,) = Targets.of(["L4"]).chosen([dataset(here, there)])
    assert [c.name for c in kept.everything] == ["c"]
    assert Targets().chosen([dataset(here, there)])[0].everything == (here, there)
    with pytest.raises(DatasetError, match="no training case in which L4-L5 was drawn"):
        Targets.of(["L4", "L4-L5"]).chosen([dataset(here)])
    with pytest.raises(DatasetError, match="no training case in which L4 was drawn"):
        Targets.of(["L4"]).chosen([dataset(replace(here, split="val"))])
    assert Targets.of(["levels"]).chosen([dataset(here)])[0].everything == (here,)


def test_only_targets_are_scored() -> None:
    by_name, by_kind = Targets.of(["L4"]).scored(CHU)
    assert (set(by_name), by_kind) == ({0, 4}, {})
    by_name, by_kind = Targets.of(["spine"]).scored(CHU)
    assert by_name == {}
    assert {names for value, names in by_kind.items() if value} == {("body",)}
    by_name, _ = Targets.of(["discs"]).scored(TISSUE)
    assert set(by_name) == {0, 2}
    assert Targets().scored(CHU) == (CHU, {})
    assert Targets.of(["L4-L5"]).scored(CHU) == ({}, {})


def test_narrowed_by_hand() -> None:
    background, body = frozenset({BACKGROUND}), frozenset({BODY})
    rest = frozenset(CLASSES) - body
    assert narrowed(background, body, frozenset(CLASSES)) == rest  # a network that knows discs may see one there
    assert narrowed(frozenset({DISC}), body, frozenset(CLASSES)) == rest
    assert narrowed(frozenset({DISC}), body, body | background) == background
    assert narrowed(body, body, frozenset(CLASSES)) == body
    assert narrowed(frozenset({BODY, ARCH}), body, body | background) == frozenset(CLASSES)  # says nothing any more


@given(KINDS.filter(bool), KINDS, KINDS)
def test_narrowing_never_claims_more(allowed: frozenset[Kind], taught: frozenset[Kind], known: frozenset[Kind]) -> None:
    taught = taught - {BACKGROUND}
    alive = taught | known | {BACKGROUND}
    found = narrowed(allowed, taught, alive)
    assert found
    assert allowed & taught <= found
    if found != frozenset(CLASSES):
        assert found <= alive
        assert found & taught == allowed & taught
    if taught == set(CLASSES[1:]):
        assert found == allowed


def test_every_keyword_names_structures_or_kinds() -> None:
    for word in KEYWORDS:
        assert Targets.of([word]).names == KEYWORDS[word]
