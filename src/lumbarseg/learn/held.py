"""Which patients judge the models of a loop: drawn once, kept in the app's folder, never trained on by it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lumbarseg.datasets import Dataset
from lumbarseg.datasets.splits import patient_of
from lumbarseg.errors import DatasetError
from lumbarseg.files import replacing

FILE = "validation.json"
FEWEST = 3
"""Patients, below which nobody is held out, for there would be nothing to learn from."""


@dataclass(frozen=True)
class Held:
    """Patients and whether they judge. share: of the patients, that is aimed at; seed: of the draw."""

    share: float = 0.2
    seed: int = 0
    judges: dict[str, bool] = field(default_factory=dict)

    def joined(self, patients: Iterable[str]) -> Held:
        """The same with patients that came since; nobody who is there already moves.

        DatasetError when fewer than `FEWEST` are known in all.
        """
        new = sorted(set(patients) - set(self.judges), key=self._place)
        total = len(self.judges) + len(new)
        if total < FEWEST:
            few = "1 patient" if total == 1 else f"{total} patients"
            raise DatasetError(
                f"finished exams of {few}: one of {FEWEST} is held out to judge by, so correct {FEWEST - total} more, "
                "or give a dataset to judge by"
            )
        judges = dict(self.judges)
        wanted = max(1, math.floor(self.share * total + 0.5))
        for patient in new:
            judges[patient] = sum(judges.values()) < wanted
        return replace(self, judges=dict(sorted(judges.items())))

    def _place(self, patient: str) -> str:
        return hashlib.sha256(f"{self.seed}/{patient}".encode()).hexdigest()

    def split(self, dataset: Dataset) -> Dataset:
        """A dataset whose cases are "val" where their patient judges, else "train"."""
        cases = tuple(
            replace(case, split="val" if self.judges[patient_of(case)] else "train") for case in dataset.everything
        )
        return replace(dataset, everything=cases)


def held(folder: Path, share: float, seed: int, patients: Iterable[str]) -> Held:
    """Who judges, as drawn the first time and kept in `folder`, with patients that came since."""
    path = folder / FILE
    before = _read(path) if path.exists() else Held(share, seed)
    now = before.joined(patients)
    if now != before:
        with replacing(path) as file:
            values = {"share": now.share, "seed": now.seed, "judges": now.judges}
            file.write(json.dumps(values, indent=1).encode())
    return now


def _read(path: Path) -> Held:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Held(float(values["share"]), int(values["seed"]), {str(k): bool(v) for k, v in values["judges"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: cannot be read, and says who may not be trained on: {error}") from error
