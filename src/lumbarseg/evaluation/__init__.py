"""Evaluate a model, or the label files of another program, on the cases of prepared datasets."""

from .evaluate import CaseFailure, Evaluation, evaluate_case, evaluate_cases
from .predictors import CasePrediction, CasePredictor, predictor_from_files, predictor_from_model, read_label_table
from .tables import EvaluationTable, compare_evaluations, evaluation_tables, largest_deficits

__all__ = [
    "CaseFailure",
    "CasePrediction",
    "CasePredictor",
    "Evaluation",
    "EvaluationTable",
    "compare_evaluations",
    "evaluate_case",
    "evaluate_cases",
    "evaluation_tables",
    "largest_deficits",
    "predictor_from_files",
    "predictor_from_model",
    "read_label_table",
]
