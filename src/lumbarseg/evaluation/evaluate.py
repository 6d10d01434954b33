"""Score the cases of prepared datasets for one or several predictors, and write the scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from lumbarseg.datasets import Case, read_case
from lumbarseg.errors import LumbarsegError, describe_error
from lumbarseg.metrics.case_scores import Row, score_case, structure_rows

from .predictors import CasePredictor
from .tables import compare_evaluations, evaluation_tables


@dataclass(frozen=True)
class Evaluation:
    """Scored cases of one model, or of one folder of label files.

    name : what the user called it
    description : what identifies it in JSON
    cases : results of `evaluate_case`
    """

    name: str
    description: dict[str, str]
    cases: list[Row]

    def to_dict(self, group_keys: Sequence[str]) -> Row:
        """Return the values for JSON, with the tables by `group_keys`."""
        tables = [table.to_dict() for table in evaluation_tables(self.cases, group_keys)]
        return {"model": self.description, "cases": self.cases, "tables": tables}


@dataclass(frozen=True)
class CaseFailure:
    """A case that could not be scored."""

    dataset: str
    case: str
    error: str


def evaluate_case(
    dataset: str, case: Case, predictors: Sequence[CasePredictor], with_distances: bool = True
) -> list[Row]:
    """Score one case for each predictor; LumbarsegError if it cannot be read or has no prediction.

    Parameters
    ----------
    dataset : name of the dataset of the case
    with_distances : measure surface distances
    """
    image, reference = read_case(case)
    facts: Row = {
        "dataset": dataset,
        "case": case.name,
        "patient": f"{case.source or dataset}/{case.patient or case.name}",
        "contrast": case.contrast,
        "scanner": case.scanner,
        "split": case.split,
    }
    rows = []
    for prediction in (predictor(case, image) for predictor in predictors):
        scores = score_case(
            prediction.labels,
            reference.array,
            case.label_table,
            image.grid.spacing,
            with_distances=with_distances,
            uncertain_levels=prediction.uncertain_levels,
            prediction_names=prediction.value_names,
            segmented_kinds=prediction.segmented_kinds,
        )
        levels = {"levels": list(prediction.levels), "uncertain": list(prediction.uncertain_levels)}
        rows.append(facts | {"error": prediction.error or None} | levels | scores)
    return rows


def evaluate_cases(
    cases: Sequence[tuple[str, Case]],
    predictors: Sequence[CasePredictor],
    with_distances: bool = True,
    report: Callable[[str, CaseFailure | None], None] | None = None,
) -> tuple[list[list[Row]], list[CaseFailure]]:
    """Score cases for each predictor; a case that cannot be scored does not stop the others.

    Parameters
    ----------
    cases : pairs of the name of a dataset and a case of it
    report : is called with the name of each finished case, and its failure if it has one

    Returns
    -------
    results of `evaluate_case` for each predictor, cases in the same order; and the failures
    """
    results: list[list[Row]] = [[] for _ in predictors]
    failures = []
    for dataset, case in cases:
        failure = None
        try:
            rows = evaluate_case(dataset, case, predictors, with_distances)
        except (LumbarsegError, OSError, MemoryError) as error:
            failure = CaseFailure(dataset, case.name, describe_error(error))
            failures.append(failure)
        else:
            for result, row in zip(results, rows, strict=True):
                result.append(row)
        if report:
            report(case.name, failure)
    return results, failures


def result_to_dict(
    evaluations: Sequence[Evaluation], failures: Sequence[CaseFailure], group_keys: Sequence[str]
) -> Row:
    """Return one evaluation, or two and their differences, as values for JSON."""
    result = evaluations[0].to_dict(group_keys) | {"failed": [asdict(failure) for failure in failures]}
    if len(evaluations) > 1:
        differences = compare_evaluations(evaluations[0].cases, evaluations[1].cases)
        result["against"] = evaluations[1].to_dict(group_keys)
        result["differences"] = {measure: [row.to_dict() for row in rows] for measure, rows in differences.items()}
    return result


def result_to_csv(evaluations: Sequence[Evaluation]) -> str:
    """Return the scores as CSV, one line per model, exam and structure."""
    rows = [{"model": evaluation.name} | row for evaluation in evaluations for row in structure_rows(evaluation.cases)]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["model"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
