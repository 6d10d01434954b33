"""Who is trained on, validated on, tested on: always whole patients, so that no exam of a patient tells of another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lumbarseg.errors import DatasetError

from .dataset import Case

_HASH_RANGE = 2.0**64


@dataclass(frozen=True)
class SplitSettings:
    """How a dataset is split: in folds, anew by a seed, or as it says itself.

    folds: (k, n), patients of the split "test" staying there; seed: of the folds, or of the split anew; val, test:
    shares of the patients in a split anew.
    """

    fold: tuple[int, int] | None = None
    seed: int | None = None
    val_fraction: float = 0.1
    test_fraction: float = 0.0

    def assign(self, cases: Iterable[Case]) -> list[Case]:
        """The same cases with their split; DatasetError as `fold` and `official`."""
        held = list(cases)
        if self.fold:
            kept = {patient_id(case) for case in held if case.split == "test"}
            split = fold_splits([case for case in held if patient_id(case) not in kept], *self.fold, self.seed or 0)
        elif self.seed is not None:
            split = random_splits(held, self.seed, self.val_fraction, self.test_fraction)
        else:
            split = predefined_splits(held)
        return [replace(case, split=split.get(case.name, "test")) for case in held]


def patient_id(case: Case) -> str:
    """Whose exam it is; an exam of which nobody said so is its own patient."""
    return case.patient or case.name


def split_from_hash(patient: str, seed: int, val_fraction: float, test_fraction: float) -> str:
    """The split of a patient from a hash of seed and name alone: whoever comes later, nobody moves.

    val, test: shares of the patients, 0..1, reached on average; with few patients a split may stay empty.
    """
    check_fractions(val_fraction, test_fraction)
    place = _hash_fraction(patient, seed)
    if place < test_fraction:
        return "test"
    return "val" if place < test_fraction + val_fraction else "train"


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """DatasetError when the shares leave nobody to train on."""
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise DatasetError(
            f"splits: val {val_fraction:g} and test {test_fraction:g} must be 0 or more, and below 1 together"
        )


def random_splits(cases: Iterable[Case], seed: int, val_fraction: float, test_fraction: float) -> dict[str, str]:
    """Name to split: each patient's `stable` one."""
    return {case.name: split_from_hash(patient_id(case), seed, val_fraction, test_fraction) for case in cases}


def fold_splits(cases: Iterable[Case], k: int, n: int, seed: int = 0) -> dict[str, str]:
    """Name to split: "val" in fold `k` of 1..n, else "train"; over all folds every patient is validated once.

    Patients are dealt out by falling number of exams, each to the fold that has the fewest, so that folds differ by one
    patient's exams at most; among equals the order is drawn by `seed`, whatever the order of `cases`.
    """
    held = list(cases)
    if n < 2 or not 1 <= k <= n:
        raise DatasetError(f"fold {k}/{n}: write K/N with N of 2 or more and K from 1 to N")
    exams: dict[str, int] = {}
    for case in held:
        exams[patient_id(case)] = exams.get(patient_id(case), 0) + 1
    if len(exams) < n:
        few = "all cases are of one patient" if len(exams) == 1 else f"there are only {len(exams)} patients"
        raise DatasetError(f"fold {k}/{n}: {few}; choose fewer folds, or say who is who in the field patient")
    sizes, of = [0] * n, {}
    for patient in sorted(exams, key=lambda name: (-exams[name], _hash_fraction(name, seed), name)):
        of[patient] = sizes.index(min(sizes))
        sizes[of[patient]] += exams[patient]
    return {case.name: "val" if of[patient_id(case)] == k - 1 else "train" for case in held}


def predefined_splits(cases: Iterable[Case]) -> dict[str, str]:
    """Name to split, as the dataset says; DatasetError when a patient is in two splits."""
    held = list(cases)
    for patient, splits in patients_in_several_splits(held).items():
        raise DatasetError(f"patient {patient} is in the splits {' and '.join(splits)}; split anew with --seed")
    return {case.name: case.split for case in held}


def patients_in_several_splits(cases: Iterable[Case]) -> dict[str, Sequence[str]]:
    """Patients whose exams are in more than one split: patient to those splits."""
    seen: dict[str, set[str]] = {}
    for case in cases:
        seen.setdefault(patient_id(case), set()).add(case.split)
    return {patient: sorted(splits) for patient, splits in sorted(seen.items()) if len(splits) > 1}


def _hash_fraction(patient: str, seed: int) -> float:
    """A number in 0..1, the same for ever."""
    digest = hashlib.sha256(f"{seed}\0{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / _HASH_RANGE
