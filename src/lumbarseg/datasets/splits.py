"""Splits into training, validation and test data by patient: all exams of a patient are in one split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lumbarseg.errors import DatasetError

from .dataset import Case

_HASH_RANGE = 2.0**64


@dataclass(frozen=True)
class SplitSettings:
    """How a dataset is split: in folds, newly by a seed, or as it states itself.

    Attributes
    ----------
    fold : (k, n), fold k of n; patients of the split "test" stay there
    seed : of the folds, or of the new splits
    val_fraction, test_fraction : of the patients in new splits
    """

    fold: tuple[int, int] | None = None
    seed: int | None = None
    val_fraction: float = 0.1
    test_fraction: float = 0.0

    def assign(self, cases: Iterable[Case]) -> list[Case]:
        """Return the cases with their splits; DatasetError as `fold_splits` and `predefined_splits`."""
        cases = list(cases)
        if self.fold:
            test_patients = {patient_id(case) for case in cases if case.split == "test"}
            others = [case for case in cases if patient_id(case) not in test_patients]
            splits = fold_splits(others, *self.fold, self.seed or 0)
        elif self.seed is not None:
            splits = random_splits(cases, self.seed, self.val_fraction, self.test_fraction)
        else:
            splits = predefined_splits(cases)
        return [replace(case, split=splits.get(case.name, "test")) for case in cases]


def patient_id(case: Case) -> str:
    """Return the patient of a case; a case without one counts as a patient of its own."""
    return case.patient or case.name


def split_from_hash(patient: str, seed: int, val_fraction: float, test_fraction: float) -> str:
    """Return the split of a patient from a hash of seed and name, stable when patients are added.

    The fractions, 0..1 of the patients, are reached on average; with few patients a split may stay empty.
    """
    check_fractions(val_fraction, test_fraction)
    position = _hash_fraction(patient, seed)
    if position < test_fraction:
        return "test"
    return "val" if position < test_fraction + val_fraction else "train"


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise DatasetError when the fractions leave no patient to train on."""
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        fractions = f"val {val_fraction:g} and test {test_fraction:g}"
        raise DatasetError(f"splits: {fractions} must be 0 or more, and below 1 together")


def random_splits(cases: Iterable[Case], seed: int, val_fraction: float, test_fraction: float) -> dict[str, str]:
    """Return the split of each case by `split_from_hash`."""
    return {case.name: split_from_hash(patient_id(case), seed, val_fraction, test_fraction) for case in cases}


def fold_splits(cases: Iterable[Case], k: int, n: int, seed: int = 0) -> dict[str, str]:
    """Return the split of each case: "val" in fold `k` of 1..n, else "train".

    Patients are assigned in the order of falling numbers of exams, each to the fold with the fewest, so that folds
    differ by the exams of one patient at most; `seed` decides the order of equals. Over all folds every patient is
    validated once.
    """
    cases = list(cases)
    if n < 2 or not 1 <= k <= n:
        raise DatasetError(f"fold {k}/{n}: write K/N with N of 2 or more and K from 1 to N")
    exams = Counter(map(patient_id, cases))
    if len(exams) < n:
        reason = "all cases are of one patient" if len(exams) == 1 else f"there are only {len(exams)} patients"
        raise DatasetError(f"fold {k}/{n}: {reason}; choose fewer folds, or fill in the field patient")
    sizes, fold_of = [0] * n, {}
    for patient in sorted(exams, key=lambda name: (-exams[name], _hash_fraction(name, seed), name)):
        fold_of[patient] = sizes.index(min(sizes))
        sizes[fold_of[patient]] += exams[patient]
    return {case.name: "val" if fold_of[patient_id(case)] == k - 1 else "train" for case in cases}


def predefined_splits(cases: Iterable[Case]) -> dict[str, str]:
    """Return the split of each case as the dataset states it; DatasetError when a patient is in two splits."""
    cases = list(cases)
    for patient, splits in patients_in_several_splits(cases).items():
        raise DatasetError(f"patient {patient} is in the splits {' and '.join(splits)}; make new splits with --seed")
    return {case.name: case.split for case in cases}


def patients_in_several_splits(cases: Iterable[Case]) -> dict[str, Sequence[str]]:
    """Return the splits of each patient whose exams are in more than one."""
    splits_of: dict[str, set[str]] = {}
    for case in cases:
        splits_of.setdefault(patient_id(case), set()).add(case.split)
    return {patient: sorted(splits) for patient, splits in sorted(splits_of.items()) if len(splits) > 1}


def _hash_fraction(patient: str, seed: int) -> float:
    """Return a number in 0..1 that depends on patient and seed only."""
    digest = hashlib.sha256(f"{seed}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / _HASH_RANGE
