"""Which cases of prepared datasets a run trains on, and which it validates on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lumbarseg.datasets.dataset import Dataset
from lumbarseg.datasets.selection import Selection, select_cases
from lumbarseg.datasets.splits import SplitSettings, patient_id
from lumbarseg.errors import DatasetError

from .settings import TrainingSettings

_MIN_PATIENTS = 5  # datasets with fewer hold none out by default


def select_training_cases(settings: TrainingSettings, datasets: Sequence[Dataset]) -> list[Dataset]:
    """Return the datasets with the cases and splits of a run; raise DatasetError if no case is left.

    With `fold`, the patients of each dataset are split into folds; the split "test" stays. Without, the splits are
    those of the datasets; if none of them has validation cases, a fifth of the patients becomes the validation set.
    """
    selection = Selection(contrasts=settings.contrasts)
    if settings.fold:
        return select_cases(datasets, selection, SplitSettings(_parse_fold(settings.fold), settings.seed))
    selected = select_cases(datasets, selection)
    if any(dataset.cases("val") for dataset in selected):
        return selected
    split = SplitSettings((1, _MIN_PATIENTS), settings.seed)
    return [replace(d, all_cases=tuple(split.assign(d.all_cases))) if _has_enough_patients(d) else d for d in selected]


def _parse_fold(text: str) -> tuple[int, int]:
    """Parse "1/5"."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise DatasetError(f"fold {text!r}: write K/N, for example 1/5")
    return int(number), int(count)


def _has_enough_patients(dataset: Dataset) -> bool:
    return len({patient_id(case) for case in dataset.cases("train")}) >= _MIN_PATIENTS
