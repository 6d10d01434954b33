"""Which cases of prepared datasets a run sees: of which contrast, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lumbarseg.datasets.folder import Dataset
from lumbarseg.datasets.splits import fold, patient_of
from lumbarseg.errors import DatasetError

from .settings import Settings

_ENOUGH = 5  # patients, below which none is held out unasked


def chosen(settings: Settings, datasets: Sequence[Dataset]) -> list[Dataset]:
    """The datasets as this run sees them; DatasetError when nothing is left of one.

    With `fold`, each dataset's patients are dealt out anew; the split "test" is never touched. Without, the datasets
    say themselves who is held out; where none of them does, a fifth of the patients is.
    """
    found = [_of_contrast(dataset, settings.contrast) for dataset in datasets]
    if settings.fold:
        number, count = folds(settings.fold)
        return [_dealt(dataset, number, count, settings.seed) for dataset in found]
    if any(dataset.cases("val") for dataset in found):
        return found
    return [_dealt(d, 1, _ENOUGH, settings.seed) if _patients(d) >= _ENOUGH else d for d in found]


def folds(text: str) -> tuple[int, int]:
    """ "1/5" as numbers; DatasetError when it is none of that kind."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise DatasetError(f"fold {text!r}: write K/N, for example 1/5")
    return int(number), int(count)


def _of_contrast(dataset: Dataset, contrasts: Sequence[str]) -> Dataset:
    if not contrasts:
        return dataset
    wanted = {text.casefold() for text in contrasts}
    cases = tuple(case for case in dataset.everything if case.contrast.casefold() in wanted)
    if not cases:
        there = ", ".join(sorted({case.contrast or "unknown" for case in dataset.everything}))
        raise DatasetError(f"{dataset.folder}: holds no case of contrast {' or '.join(contrasts)}, only {there}")
    return replace(dataset, everything=cases)


def _patients(dataset: Dataset) -> int:
    return len({patient_of(case) for case in dataset.cases("train")})


def _dealt(dataset: Dataset, number: int, count: int, seed: int) -> Dataset:
    try:
        splits = fold([case for case in dataset.everything if case.split != "test"], number, count, seed)
    except DatasetError as error:
        raise DatasetError(f"{dataset.folder}: {error}") from error
    cases = tuple(replace(case, split=splits.get(case.name, case.split)) for case in dataset.everything)
    return replace(dataset, everything=cases)
