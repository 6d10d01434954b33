"""Which cases of prepared datasets a run sees: of which contrast, and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lumbarseg.datasets.folder import Dataset
from lumbarseg.datasets.select import Selection
from lumbarseg.datasets.select import chosen as selected
from lumbarseg.datasets.splits import Splitting, patient_of
from lumbarseg.errors import DatasetError

from .settings import Settings

_ENOUGH = 5  # patients, below which none is held out unasked


def chosen(settings: Settings, datasets: Sequence[Dataset]) -> list[Dataset]:
    """The datasets as this run sees them; DatasetError when nothing is left of them.

    With `fold`, each dataset's patients are dealt out anew; the split "test" is never touched. Without, the datasets
    say themselves who is held out; where none of them does, a fifth of the patients is.
    """
    selection = Selection(contrasts=settings.contrast)
    if settings.fold:
        return selected(datasets, selection, Splitting(folds(settings.fold), settings.seed))
    found = selected(datasets, selection)
    if any(dataset.cases("val") for dataset in found):
        return found
    fifth = Splitting((1, _ENOUGH), settings.seed)
    return [replace(d, everything=tuple(fifth.apply(d.everything))) if _many(d) else d for d in found]


def folds(text: str) -> tuple[int, int]:
    """ "1/5" as numbers; DatasetError when it is none of that kind."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise DatasetError(f"fold {text!r}: write K/N, for example 1/5")
    return int(number), int(count)


def _many(dataset: Dataset) -> bool:
    return len({patient_of(case) for case in dataset.cases("train")}) >= _ENOUGH
