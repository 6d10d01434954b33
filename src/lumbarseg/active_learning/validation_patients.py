"""Which patients judge the models of a loop: drawn once, kept in the app's folder, never trained on by it."""

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
from lumbarseg.io import atomic_write

VALIDATION_FILE = "validation.json"
MIN_PATIENTS = 3
"""Patients, below which nobody is held out, for there would be nothing to learn from."""


@dataclass(frozen=True)
class ValidationPatients:
    """Patients and whether they judge. share: of the patients, that is aimed at; seed: of the draw."""

    fraction: float = 0.2
    seed: int = 0
    is_validation: dict[str, bool] = field(default_factory=dict)

    def with_patients(self, patients: Iterable[str]) -> ValidationPatients:
        """The same with patients that came since; nobody who is there already moves.

        DatasetError when fewer than `MIN_PATIENTS` are known in all.
        """
        new = sorted(set(patients) - set(self.is_validation), key=self._hash_rank)
        total = len(self.is_validation) + len(new)
        if total < MIN_PATIENTS:
            few = "1 patient" if total == 1 else f"{total} patients"
            raise DatasetError(
                f"finished exams of {few}: one of {MIN_PATIENTS} is held out to judge by, so correct {MIN_PATIENTS - total} more, "
                "or give a dataset to judge by"
            )
        judges = dict(self.is_validation)
        wanted = max(1, math.floor(self.fraction * total + 0.5))
        for patient in new:
            judges[patient] = sum(judges.values()) < wanted
        return replace(self, is_validation=dict(sorted(judges.items())))

    def _hash_rank(self, patient: str) -> str:
        return hashlib.sha256(f"{self.seed}/{patient}".encode()).hexdigest()

    def assign_splits(self, dataset: Dataset) -> Dataset:
        """A dataset whose cases are "val" where their patient judges, else "train"."""
        cases = tuple(
            replace(case, split="val" if self.is_validation[patient_id(case)] else "train")
            for case in dataset.all_cases
        )
        return replace(dataset, all_cases=cases)


def load_validation_patients(folder: Path, fraction: float, seed: int, patients: Iterable[str]) -> ValidationPatients:
    """Who judges, as drawn the first time and kept in `folder`, with patients that came since."""
    path = folder / VALIDATION_FILE
    before = _read_file(path) if path.exists() else ValidationPatients(fraction, seed)
    now = before.with_patients(patients)
    if now != before:
        with atomic_write(path) as file:
            values = {"share": now.fraction, "seed": now.seed, "judges": now.is_validation}
            file.write(json.dumps(values, indent=1).encode())
    return now


def _read_file(path: Path) -> ValidationPatients:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return ValidationPatients(
            float(values["share"]), int(values["seed"]), {str(k): bool(v) for k, v in values["judges"].items()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: cannot be read, and says who may not be trained on: {error}") from error
