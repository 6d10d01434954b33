from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.datasets.dataset import Case
from lumbarseg.datasets.splits import (
    fold_splits,
    patients_in_several_splits,
    predefined_splits,
    random_splits,
    split_from_hash,
)
from lumbarseg.errors import DatasetError


def case(name: str, patient: str = "", split: str = "train") -> Case:
    return Case(name, Path("i"), Path("l"), {0: ("background",)}, patient=patient, split=split)


PATIENTS = st.lists(st.integers(1, 4), min_size=2, max_size=25)  # exams of each


def exams(counts: list[int]) -> list[Case]:
    return [case(f"p{p}-{e}", f"p{p}") for p, count in enumerate(counts) for e in range(count)]


@given(PATIENTS, st.integers(2, 10), st.integers(0, 1000), st.randoms())
def test_every_patient_is_validated_once_in_folds_of_even_size(counts, n, seed, random) -> None:  # type: ignore[no-untyped-def]
    cases = exams(counts)
    if len(counts) < n:
        with pytest.raises(DatasetError, match="only"):
            fold_splits(cases, 1, n, seed)
        return
    splits = [fold_splits(cases, k, n, seed) for k in range(1, n + 1)]
    held = [{case.patient for case in cases if split[case.name] == "val"} for split in splits]
    assert Counter(patient for patients in held for patient in patients) == {f"p{i}": 1 for i in range(len(counts))}
    for split, patients in zip(splits, held, strict=True):
        assert patients
        assert all((split[case.name] == "val") == (case.patient in patients) for case in cases)
    sizes = [list(split.values()).count("val") for split in splits]
    assert max(sizes) - min(sizes) <= max(counts)
    shuffled = random.sample(cases, len(cases))
    assert fold_splits(shuffled, 1, n, seed) == splits[0]


def test_folds_of_patients_with_one_exam_differ_by_one_and_by_seed() -> None:
    cases = exams([1] * 23)
    sizes = [list(fold_splits(cases, k, 5, 0).values()).count("val") for k in range(1, 6)]
    assert sorted(sizes) == [4, 4, 5, 5, 5]
    assert fold_splits(cases, 1, 5, 0) != fold_splits(cases, 1, 5, 1)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (6, 5), (1, 1), (-1, 3)])
def test_a_fold_that_does_not_exist_is_refused(k: int, n: int) -> None:
    with pytest.raises(DatasetError, match=f"fold {k}/{n}"):
        fold_splits(exams([1] * 9), k, n, 0)


def test_cases_of_one_patient_cannot_be_folded() -> None:
    with pytest.raises(DatasetError, match="all cases are of one patient") as caught:
        fold_splits(exams([7]), 1, 5, 0)
    assert "\n" not in str(caught.value)


@given(st.sets(st.text(max_size=8), min_size=1, max_size=30), st.text(), st.integers(0, 99))
def test_new_patients_do_not_change_other_splits(patients: set[str], late: str, seed: int) -> None:
    before = {patient: split_from_hash(patient, seed, 0.2, 0.1) for patient in patients}
    after = random_splits([case(f"c{i}", p) for i, p in enumerate([*sorted(patients), late])], seed, 0.2, 0.1)
    by_name = [case(f"c{i}", p) for i, p in enumerate(sorted(patients)) if p]
    assert all(after[c.name] == before[c.patient] for c in by_name)


def test_shares_are_kept_on_average() -> None:
    counts = Counter(split_from_hash(f"patient {i}", 5, 0.2, 0.1) for i in range(5000))
    assert counts["val"] / 5000 == pytest.approx(0.2, abs=0.02)
    assert counts["test"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert {split_from_hash(f"p{i}", 0, 0.0, 0.0) for i in range(50)} == {"train"}
    for val, test in ((-0.1, 0.0), (0.5, 0.5), (float("nan"), 0.0)):
        with pytest.raises(DatasetError, match="splits"):
            split_from_hash("p", 0, val, test)


def test_the_official_split_is_kept_unless_a_patient_is_in_two() -> None:
    cases = [case("a", "p", "val"), case("b", "q", "test"), case("c", split="train")]
    assert predefined_splits(cases) == {"a": "val", "b": "test", "c": "train"}
    assert patients_in_several_splits([*cases, case("d", "p", "train")]) == {"p": ["train", "val"]}
    with pytest.raises(DatasetError, match="patient p is in the splits train and val"):
        predefined_splits([*cases, case("d", "p", "train")])


def test_exams_without_patient_count_as_patients() -> None:
    cases = [case(f"c{i}") for i in range(4)]
    assert sorted(fold_splits(cases, 1, 4, 0).values()) == ["train", "train", "train", "val"]
    assert patients_in_several_splits([case("a"), case("b", split="val")]) == {}
