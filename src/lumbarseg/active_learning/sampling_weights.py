"""Sampling weights of corrected exams in training: of each exam, and of the datasets against each other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from lumbarseg.datasets import Case, Dataset
from lumbarseg.training.training_volumes import SAMPLE_WEIGHT_KEY

_NEW_EXAM_FACTOR = 2.0  # exam that the current model was not trained on, against one that it was
_CORRECTED_FACTOR = 2.0  # exam that was corrected much, against one whose segmentation was confirmed
_LARGE_CORRECTION = 0.2  # 1 - Dice of segmentation and final label from which an exam counts as corrected much
_CORRECTED_FRACTION = 0.5  # of all samples come from corrected exams, however few there are ...
_MAX_REPETITION = 10.0  # ... but none is sampled more often than this, relative to an exam of the base datasets


def with_case_weights(corrected: Dataset, trained_on: Collection[str]) -> Dataset:
    """Add the sampling weight to each case; trained_on: names of cases that the current model was trained on."""
    cases = tuple(
        replace(case, metadata={**case.metadata, SAMPLE_WEIGHT_KEY: case_weight(case, case.name in trained_on)})
        for case in corrected.all_cases
    )
    return replace(corrected, all_cases=cases)


def case_weight(case: Case, was_trained_on: bool) -> float:
    """Return the relative sampling frequency of a case: higher if it was corrected much or is new to the model.

    A case without a stored segmentation, for example one annotated from scratch, counts as corrected much.
    """
    correction = 1 - float(case.metadata.get("annotated", {}).get("answer_dice", 0.0))
    corrected_share = min(1.0, max(0.0, correction) / _LARGE_CORRECTION)
    factor = 1 + (_CORRECTED_FACTOR - 1) * corrected_share
    return round(factor * (1.0 if was_trained_on else _NEW_EXAM_FACTOR), 4)


def dataset_weights(corrected: int, base: Sequence[int]) -> tuple[float, ...]:
    """Return the share of samples of the corrected dataset and of each base dataset, from their numbers of cases.

    Half of the samples are corrected cases, unless each would be sampled ten times as often as a base case; more than
    half where they are more than half of all cases.
    """
    base_total = sum(base)
    if not base_total:
        return (1.0,)
    upper_limit = _MAX_REPETITION * corrected / (_MAX_REPETITION * corrected + base_total)
    corrected_share = max(corrected / (corrected + base_total), min(_CORRECTED_FRACTION, upper_limit))
    return (corrected_share, *((1 - corrected_share) * count / base_total for count in base))
