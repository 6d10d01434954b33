"""Which cases of prepared datasets a run sees: of which contrast, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lumbarseg.datasets.dataset import Dataset
from lumbarseg.datasets.selection import Selection
from lumbarseg.datasets.selection import select_cases as selected
from lumbarseg.datasets.splits import SplitSettings, patient_id
from lumbarseg.errors import DatasetError

from .settings import TrainingSettings

_MIN_PATIENTS = 5  # patients, below which none is held out unasked


def select_cases(settings: TrainingSettings, datasets: Sequence[Dataset]) -> list[Dataset]:
    """The datasets as this run sees them; DatasetError when nothing is left of them.

    With `fold`, each dataset's patients are dealt out anew; the split "test" is never touched. Without, the datasets
    say themselves who is held out; where none of them does, a fifth of the patients is.
    """
    selection = Selection(contrasts=settings.contrasts)
    if settings.fold:
        return selected(datasets, selection, SplitSettings(parse_fold(settings.fold), settings.seed))
    found = selected(datasets, selection)
    if any(dataset.cases("val") for dataset in found):
        return found
    fifth = SplitSettings((1, _MIN_PATIENTS), settings.seed)
    return [replace(d, all_cases=tuple(fifth.assign(d.all_cases))) if _has_enough_patients(d) else d for d in found]


def parse_fold(text: str) -> tuple[int, int]:
    """ "1/5" as numbers; DatasetError when it is none of that kind."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise DatasetError(f"fold {text!r}: write K/N, for example 1/5")
    return int(number), int(count)


def _has_enough_patients(dataset: Dataset) -> bool:
    return len({patient_id(case) for case in dataset.cases("train")}) >= _MIN_PATIENTS
