"""How corrected exams enter training: how often each is seen, and which share of the samples they are in all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from lumbarseg.datasets import Case, Dataset
from lumbarseg.train.stacks import WEIGHT

_NEW = 2.0  # an exam that no published model has seen, beside one that was
_REDRAWN = 2.0  # an exam that a person drew anew, beside one that was only confirmed
_MUCH = 0.2  # of Dice between the answer and the person's label, from which an exam counts as drawn anew
_HALF = 0.5  # of the samples, that corrected exams get beside older data, however few they are ...
_MOST = 10.0  # ... as long as each is seen no more than so often as an exam of the older data


def weighted(corrected: Dataset, seen: Collection[str]) -> Dataset:
    """Corrected exams with the weight of each; seen: names of those that the present model was trained on."""
    cases = tuple(
        replace(case, about={**case.about, WEIGHT: weight_of(case, case.name in seen)}) for case in corrected.everything
    )
    return replace(corrected, everything=cases)


def weight_of(case: Case, seen: bool) -> float:
    """How often an exam is seen beside others: more where the model was corrected much, or has not learned it yet.

    An exam of which no answer is known, for example because it was drawn by hand, counts as drawn anew.
    """
    told: dict[str, Any] = case.about.get("annotated", {})
    wrong = 1 - float(told.get("answer_dice", 0.0))
    return round((1 + (_REDRAWN - 1) * min(1.0, max(0.0, wrong) / _MUCH)) * (1.0 if seen else _NEW), 4)


def shares(corrected: int, base: Sequence[int]) -> tuple[float, ...]:
    """Share of the samples of the corrected exams, then of each older dataset; given their training exams.

    Half of them for corrected exams, however few, unless each would be seen ten times as often as an older one; more
    where they are more than half of all exams.
    """
    others = sum(base)
    if not others:
        return (1.0,)
    most = _MOST * corrected / (_MOST * corrected + others)
    mine = max(corrected / (corrected + others), min(_HALF, most))
    return (mine, *((1 - mine) * count / others for count in base))
