"""How corrected exams enter training: how often each is seen, and which share of the samples they are in all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from lumbarseg.datasets import Case, Dataset
from lumbarseg.training.training_volumes import SAMPLE_WEIGHT_KEY

_NEW_EXAM_FACTOR = 2.0  # an exam that no published model has seen, beside one that was
_CORRECTED_FACTOR = 2.0  # an exam that a person drew anew, beside one that was only confirmed
_LARGE_CORRECTION = 0.2  # of Dice between the answer and the person's label, from which an exam counts as drawn anew
_CORRECTED_FRACTION = 0.5  # of the samples, that corrected exams get beside older data, however few they are ...
_MAX_REPETITION = 10.0  # ... as long as each is seen no more than so often as an exam of the older data


def with_case_weights(corrected: Dataset, trained_on: Collection[str]) -> Dataset:
    """Corrected exams with the weight of each; seen: names of those that the present model was trained on."""
    cases = tuple(
        replace(case, metadata={**case.metadata, SAMPLE_WEIGHT_KEY: case_weight(case, case.name in trained_on)})
        for case in corrected.all_cases
    )
    return replace(corrected, all_cases=cases)


def case_weight(case: Case, was_trained_on: bool) -> float:
    """How often an exam is seen beside others: more where the model was corrected much, or has not learned it yet.

    An exam of which no answer is known, for example because it was drawn by hand, counts as drawn anew.
    """
    told: dict[str, Any] = case.metadata.get("annotated", {})
    wrong = 1 - float(told.get("answer_dice", 0.0))
    return round(
        (1 + (_CORRECTED_FACTOR - 1) * min(1.0, max(0.0, wrong) / _LARGE_CORRECTION))
        * (1.0 if was_trained_on else _NEW_EXAM_FACTOR),
        4,
    )


def dataset_weights(corrected: int, base: Sequence[int]) -> tuple[float, ...]:
    """Share of the samples of the corrected exams, then of each older dataset; given their training exams.

    Half of them for corrected exams, however few, unless each would be seen ten times as often as an older one; more
    where they are more than half of all exams.
    """
    others = sum(base)
    if not others:
        return (1.0,)
    most = _MAX_REPETITION * corrected / (_MAX_REPETITION * corrected + others)
    mine = max(corrected / (corrected + others), min(_CORRECTED_FRACTION, most))
    return (mine, *((1 - mine) * count / others for count in base))
