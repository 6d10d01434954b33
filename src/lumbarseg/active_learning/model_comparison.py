"""Compare a candidate model with the current one on the same validation exams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.datasets import Dataset
from lumbarseg.errors import DatasetError
from lumbarseg.evaluation.evaluate import evaluate_case
from lumbarseg.evaluation.predictors import CasePredictor, predictor_from_model
from lumbarseg.inference import Model
from lumbarseg.metrics.bootstrap import bootstrap_mean
from lumbarseg.metrics.case_scores import Row, exam_rows

VALIDATION_SPLIT = "val"


@dataclass(frozen=True)
class ModelComparison:
    """Result of a comparison.

    accepted: whether the candidate is not worse; candidate, current: mean Dice by structure name over the validation
    exams, current is None without a current model; difference: mean gain in Dice with the low and high end of its 95 %
    interval over patients, which are None where it cannot be computed; exams: Dice of both models for each exam.
    """

    accepted: bool
    reason: str
    candidate: float
    current: float | None = None
    difference: tuple[float, float | None, float | None] | None = None
    exams: tuple[dict[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelComparison:
        """Create a comparison from its values as JSON."""
        difference = values["difference"]
        return cls(**{**values, "exams": tuple(values["exams"]), "difference": difference and tuple(difference)})


def compare_models(candidate: Model, current: Model | None, datasets: Sequence[Dataset]) -> ModelComparison:
    """Score two models, or the candidate alone, on the validation cases by Dice; DatasetError without cases."""
    cases = [(dataset.name, case) for dataset in datasets for case in dataset.cases(VALIDATION_SPLIT)]
    if not cases:
        raise DatasetError("there is no validation exam; correct more exams, or give a dataset with --val-dataset")
    predictors = [_expect_all_structures(predictor_from_model(model)) for model in (candidate, current) if model]
    rows = [evaluate_case(name, case, predictors, with_distances=False) for name, case in cases]
    return compare_case_rows([row[0] for row in rows], [row[1] for row in rows] if current else None)


def _expect_all_structures(predictor: CasePredictor) -> CasePredictor:
    """Score structures that a model was not trained on as missed, so that models of different scope are comparable."""
    return lambda case, image: replace(predictor(case, image), segmented_kinds=frozenset(CLASSES))


def compare_case_rows(candidate_rows: Sequence[Row], current_rows: Sequence[Row] | None) -> ModelComparison:
    """Compare two models by their rows of `evaluate_case` for the same cases; a missed structure scores 0.

    The candidate is accepted when its mean Dice by name is no lower and it has no more wrong names and no more exams
    without a segmentation.
    """
    candidate = exam_rows(candidate_rows)
    scored = [i for i, row in enumerate(candidate) if row["dice"] is not None]
    if not scored:
        raise DatasetError("no validation exam shows a structure that is scored; choose other validation exams")
    scores = [float(candidate[i]["dice"]) for i in scored]
    names, mean = [candidate[i]["case"] for i in scored], float(np.mean(scores))
    if current_rows is None:
        exams = tuple({"exam": name, "candidate": score} for name, score in zip(names, scores, strict=True))
        return ModelComparison(mean > 0, "the first model" if mean > 0 else "it finds nothing", mean, exams=exams)
    current = exam_rows(current_rows)
    current_scores = [float(current[i]["dice"] or 0.0) for i in scored]
    current_mean = float(np.mean(current_scores))
    gains = [new - old for new, old in zip(scores, current_scores, strict=True)]
    gain = bootstrap_mean(gains, [candidate[i]["patient"] for i in scored])
    wrong, wrong_before = (sum(row["wrong"] or 0 for row in rows) for rows in (candidate, current))
    failed, failed_before = (sum(bool(row["error"]) for row in rows) for rows in (candidate_rows, current_rows))
    reason = f"mean Dice {current_mean:.4f} to {mean:.4f}, wrong names {wrong_before:.0f} to {wrong:.0f}"
    if failed or failed_before:
        reason += f", exams without a segmentation {failed_before} to {failed}"
    rows = zip(names, scores, current_scores, strict=True)
    exams = tuple({"exam": name, "candidate": new, "current": old} for name, new, old in rows)
    return ModelComparison(
        mean >= current_mean and wrong <= wrong_before and failed <= failed_before,
        reason,
        mean,
        current_mean,
        (float(gain.mean or 0.0), gain.low, gain.high),
        exams,
    )
