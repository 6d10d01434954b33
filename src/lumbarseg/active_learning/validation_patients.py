"""The patients whose exams only validate: chosen once, kept in the app's folder, never trained on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lumbarseg.datasets import Dataset
from lumbarseg.datasets.splits import patient_id
from lumbarseg.errors import DatasetError
from lumbarseg.io import write_json

VALIDATION_FILE = "validation.json"
MIN_PATIENTS = 3
"""Minimum number of patients; with fewer, one for validation leaves too little to train on."""


@dataclass(frozen=True)
class ValidationPatients:
    """Assignment of patients to validation (True) or training (False).

    fraction: target fraction of validation patients; seed: of the order in which patients are assigned.
    """

    fraction: float = 0.2
    seed: int = 0
    is_validation: dict[str, bool] = field(default_factory=dict)

    def with_patients(self, patients: Iterable[str]) -> ValidationPatients:
        """Return a copy that includes new patients; the assignment of the others stays.

        Raises DatasetError when there are fewer than `MIN_PATIENTS` in all.
        """
        new = sorted(set(patients) - set(self.is_validation), key=self._hash_rank)
        total = len(self.is_validation) + len(new)
        if total < MIN_PATIENTS:
            raise DatasetError(
                f"finished exams of {total} patient{'s' * (total != 1)}: one of {MIN_PATIENTS} is needed for "
                f"validation; correct {MIN_PATIENTS - total} more, or give a dataset with --val-dataset"
            )
        assigned = dict(self.is_validation)
        target = max(1, math.floor(self.fraction * total + 0.5))
        for patient in new:
            assigned[patient] = sum(assigned.values()) < target
        return replace(self, is_validation=dict(sorted(assigned.items())))

    def _hash_rank(self, patient: str) -> str:
        return hashlib.sha256(f"{self.seed}/{patient}".encode()).hexdigest()

    def assign_splits(self, dataset: Dataset) -> Dataset:
        """Set the split of each case: "val" for validation patients, else "train"."""
        splits = {True: "val", False: "train"}
        cases = (replace(case, split=splits[self.is_validation[patient_id(case)]]) for case in dataset.all_cases)
        return replace(dataset, all_cases=tuple(cases))


def load_validation_patients(folder: Path, fraction: float, seed: int, patients: Iterable[str]) -> ValidationPatients:
    """Load the assignment stored in `folder`, or start one, and store it with the patients that are new."""
    path = folder / VALIDATION_FILE
    stored = _read_file(path) if path.exists() else ValidationPatients(fraction, seed)
    updated = stored.with_patients(patients)
    if updated != stored:
        write_json(path, {"share": updated.fraction, "seed": updated.seed, "judges": updated.is_validation})
    return updated


def _read_file(path: Path) -> ValidationPatients:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        assigned = {str(patient): bool(flag) for patient, flag in values["judges"].items()}
        return ValidationPatients(float(values["share"]), int(values["seed"]), assigned)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}; restore it, it lists the validation patients") from error
