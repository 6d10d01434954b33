from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.datasets.dataset import Case, Dataset
from lumbarseg.datasets.selection import Selection, annotated_structures, parse_structures_and_kinds, select_cases
from lumbarseg.datasets.splits import SplitSettings
from lumbarseg.errors import DatasetError

KHALIL = {0: ("background", "arch", "canal", "sacrum", "T12"), 1: ("L1",), 2: ("L2",), 6: ("L1-L2",)}
SPIDER = {0: ("background", "sacrum"), 3: ("L1", "L1 arch"), 7: ("body", "arch"), 9: ("unknown",), 12: ("canal",)}


def case(name: str, table: dict[int, tuple[str, ...]], values: tuple[int, ...], **facts: str) -> Case:
    return Case(name, Path("i"), Path("l"), table, voxel_counts=dict.fromkeys(values, 5), **facts)  # type: ignore[arg-type]


def dataset(*cases: Case) -> Dataset:
    return Dataset(Path("data/set"), "set", KHALIL, cases)


COMPLETE = case("a", KHALIL, (0, 1, 2, 6), patient="p1", contrast="T2", scanner="Siemens Avanto 1.5T")
HALF = case("b", KHALIL | {0: (*KHALIL[0], "L2")}, (0, 1, 6), patient="p2", contrast="t2", scanner="Philips Achieva")
OTHER = case("c", SPIDER, (0, 3, 9, 12), patient="p3", contrast="STIR", split="val")
CASES = [COMPLETE, HALF, OTHER]


def test_what_is_annotated_is_what_occurs_outside_the_background() -> None:
    assert annotated_structures(COMPLETE) == {"L1", "L2", "L1-L2", "body", "disc"}
    assert annotated_structures(HALF) == {"L1", "L1-L2", "body", "disc"}
    assert annotated_structures(OTHER) == {"L1", "L1 arch", "body", "arch", "canal"}
    assert annotated_structures(replace(OTHER, voxel_counts={})) == annotated_structures(OTHER)


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(), "abc"),
        (Selection(structures=("L2",)), "a"),
        (Selection(structures=("L2", "canal")), "ac"),
        (Selection(structures=("L1", "L2"), complete=True), "a"),
        (Selection(structures=("disc", "body"), complete=True), "ab"),
        (Selection(contrasts=("T2",)), "ab"),
        (Selection(contrasts=("T2", "stir")), "abc"),
        (Selection(contrasts=("T",)), ""),
        (Selection(scanners=("avanto", "GE")), "a"),
        (Selection(split="val"), "c"),
        (Selection(patients=("p2", "p3")), "bc"),
        (Selection(patients=("p2", "p3"), contrasts=("STIR",), structures=("canal",)), "c"),
    ],
)
def test_cases_are_selected(selection: Selection, names: str) -> None:
    assert "".join(result.name for result in selection.apply(CASES)) == names


def test_complete_means_all_that_any_case_shows_of_the_lumbar_spine() -> None:
    chest = case("d", {0: ("background",), 1: ("L1",), 2: ("L2",), 6: ("L1-L2",), 13: ("T12",)}, (1, 2, 6, 13))
    assert Selection(complete=True).apply([COMPLETE, HALF, chest]) == [COMPLETE, chest]


def test_names_are_words_in_any_order() -> None:
    assert parse_structures_and_kinds(["L1 L2,L4-L5", "L4 arch disc", "arch", "L1"]) == (
        "L1",
        "L2",
        "L4-L5",
        "L4 arch",
        "disc",
        "arch",
    )
    for word, message in (
        ("L9", "'L9' is no structure"),
        ("background", "cannot be selected"),
        ("unknown", "cannot be selected"),
    ):
        with pytest.raises(DatasetError, match=message):
            Selection(structures=(word,))
    with pytest.raises(DatasetError, match="'valid' is no split"):
        Selection(split="valid")


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(contrasts=("T1",)), "data/set: no case with T1; there are STIR, T2, t2"),
        (Selection(scanners=("GE",)), "no case with GE; there are .not stated., Philips Achieva, Siemens Avanto 1.5T"),
        (Selection(structures=("L5",)), "no case with L5; there are L1, L1 arch, L1-L2, L2, arch"),
        (Selection(patients=("p9",)), "no case with p9; there are p1, p2, p3"),
        (Selection(split="test"), "none of 3 cases is left"),
        (Selection(split="val", contrasts=("T2",)), "none of 3 cases is left"),
    ],
)
def test_an_empty_selection_lists_what_there_is(selection: Selection, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        select_cases([dataset(*CASES)], selection)
    assert "\n" not in str(caught.value)


def test_one_of_several_datasets_may_be_left_empty() -> None:
    some, none = select_cases([dataset(COMPLETE, HALF), dataset(OTHER)], Selection(contrasts=("T2",)))
    assert (some.cases(), none.cases()) == ([COMPLETE, HALF], [])


@given(st.lists(st.sampled_from(["T1", "T2", "STIR"]), min_size=6, max_size=20), st.integers(0, 9))
def test_a_fold_holds_the_same_patients_whatever_is_selected(contrasts: list[str], seed: int) -> None:
    cases = [case(f"c{i}", KHALIL, (0, 1), patient=f"p{i // 2}", contrast=c) for i, c in enumerate(contrasts)]
    splitting = SplitSettings((1, 3), seed)
    (all_of_them,) = select_cases([dataset(*cases)], Selection(), splitting)
    (some,) = select_cases([dataset(*cases)], Selection(contrasts=(contrasts[0],)), splitting)
    splits = {result.name: result.split for result in all_of_them.cases()}
    assert {result.name: result.split for result in some.cases()}.items() <= splits.items()


def test_folds_leave_the_test_patients_alone() -> None:
    cases = [case(f"c{i}", KHALIL, (0, 1), patient=f"p{i}", split="test" if i < 3 else "train") for i in range(9)]
    for k in (1, 2, 3):
        split = [result.split for result in SplitSettings((k, 3)).assign(cases)]
        assert split[:3] == ["test"] * 3
        assert sorted(split[3:]) == ["train"] * 4 + ["val"] * 2


def test_a_split_is_made_anew_or_kept() -> None:
    assert SplitSettings().assign(CASES) == CASES
    shifted = SplitSettings(seed=1, val_fraction=0.5, test_fraction=0.4).assign(CASES)
    assert [replace(m, split=c.split) for m, c in zip(shifted, CASES, strict=True)] == CASES
    with pytest.raises(DatasetError, match="in the splits train and val"):
        SplitSettings().assign([COMPLETE, replace(OTHER, patient="p1")])
