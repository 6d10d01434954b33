"""Format an evaluation as text: tables with intervals, wrong names, the worst exams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lumbarseg.metrics.bootstrap import Estimate
from lumbarseg.metrics.case_scores import Row, exam_rows
from lumbarseg.metrics.summary import ModelDifference, worst_rows

from .evaluate import Evaluation
from .tables import EvaluationTable, compare_evaluations, evaluation_tables, largest_deficits

_COLUMNS = {
    "dice": ("Dice", 3),
    "ratio": ("volume", 2),
    "surface_mm": ("ASSD mm", 2),
    "surface95_mm": ("HD95 mm", 2),
    "named": ("named right", 2),
    "precision": ("precision", 2),
    "recall": ("recall", 2),
    "f1": ("F1", 2),
    "named_precision": ("by name: prec.", 2),
    "named_recall": ("recall", 2),
    "named_f1": ("F1", 2),
    "names_right": ("all names right", 2),
    "wrong": ("wrong per exam", 2),
    "flagged": ("of them marked", 2),
    "missing": ("missing", 2),
}
"""Heading and digits of each measure."""

_TABLE_TITLES = {
    "structures": "structures",
    "instances": "vertebrae and discs as instances, intersection over union above 0.5",
    "exams": "exams, each with the mean of its structures",
}


def format_evaluations(evaluations: Sequence[Evaluation], group_keys: Sequence[str]) -> list[str]:
    """Return the lines that describe one evaluation, or two and their differences."""
    lines = []
    for evaluation in evaluations:
        lines += ["", evaluation.name] if len(evaluations) > 1 else []
        lines += format_tables(evaluation_tables(evaluation.cases, group_keys))
        lines += format_naming_failures(evaluation.cases)
        lines += _format_exam_dice(worst_rows(exam_rows(evaluation.cases), "dice"), "lowest mean Dice", ".3f")
    if len(evaluations) > 1:
        first, second = evaluations
        lines += format_differences((first.name, second.name), compare_evaluations(first.cases, second.cases))
        title = f"exams in which {first.name} falls behind most, mean Dice"
        lines += _format_exam_dice(largest_deficits(first.cases, second.cases), title, "+.3f")
    return lines[1:] if lines and not lines[0] else lines


def format_tables(tables: Sequence[EvaluationTable]) -> list[str]:
    """Return the lines of all tables; columns without any value are left out."""
    lines: list[str] = []
    for table in tables:
        groups = table.groups
        measures = [key for key in groups[0].estimates if any(group.estimates[key].count for group in groups)]
        infinite = any(group.estimates[key].left_out for group in groups for key in measures)
        heading = [*table.group_keys, "exams", "patients", *(_COLUMNS[key][0] for key in measures)]
        rows = [heading + ["not predicted"] * infinite]
        for group in groups:
            cells = [_format_estimate(group.estimates[key], _COLUMNS[key][1]) for key in measures]
            cells += [str(max(group.estimates[key].left_out for key in measures))] if infinite else []
            rows.append([*group.group, str(group.exams), str(group.patients), *cells])
        title = f"{_TABLE_TITLES[table.subject]}, by {' and '.join(table.group_keys)}"
        lines += [title, *align_columns(rows, len(table.group_keys)), ""]
    return lines


def format_naming_failures(cases: Sequence[Row]) -> list[str]:
    """Return lines about wrong names, missing structures and refused exams."""
    lines = []
    for case in cases:
        marked = set(case["wrong_flagged"])
        faults = [f"{text} (marked uncertain)" if text in marked else text for text in case["wrong_names"]]
        faults += [f"no {name}" for name in case["missing"]]
        if case["error"]:
            faults = [f"refused, which counts as an empty prediction: {case['error']}"]
        if faults:
            lines.append(f"  {case['dataset']} {case['case']}: {', '.join(faults)}")
    wrong, flagged = (sum(len(case[key]) for case in cases) for key in ("wrong_names", "wrong_flagged"))
    if lines:
        lines = [f"names: {wrong} wrong, {flagged} of them marked uncertain; wrong or missing names:", *lines, ""]
    return lines


def format_differences(
    model_names: tuple[str, str], rows_by_measure: Mapping[str, Sequence[ModelDifference]]
) -> list[str]:
    """Return lines that compare two models."""
    lines = [f"{model_names[0]} (first) against {model_names[1]} (second), on the same exams"]
    heading = ["dataset", "structure", "exams", "patients", "first", "second", "first - second", "p", "higher/lower"]
    for measure, differences in rows_by_measure.items():
        title, digits = _COLUMNS[measure]
        rows = [heading]
        for row in differences:
            counts = [str(row.difference.count), str(row.difference.patients)]
            means = [
                f"{row.first:.{digits}f}",
                f"{row.second:.{digits}f}",
                _format_estimate(row.difference, digits, "+"),
            ]
            p_value = "-" if row.p_value is None else f"{row.p_value:.4f}"
            rows.append([*row.group, *counts, *means, p_value, f"{row.first_higher}/{row.first_lower}"])
        lines += [title, *align_columns(rows, 2), ""]
    return [*lines, "p: sign-flip permutation test over patients; not corrected for the number of rows", ""]


def _format_exam_dice(rows: Sequence[Row], title: str, number_format: str) -> list[str]:
    """Return a title, then one line per exam with its mean Dice; [] without exams."""
    cells = [[f"  {row['dataset']} {row['case']}", f"{row['dice']:{number_format}}"] for row in rows]
    return [title, *align_columns(cells, 1), ""] if cells else []


def align_columns(rows: Sequence[Sequence[str]], text_columns: int) -> list[str]:
    """Align the cells of rows: the first `text_columns` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _format_estimate(estimate: Estimate, digits: int, sign: str = "") -> str:
    """Format a mean with its interval; "-" without a value, no interval for one patient."""
    if estimate.mean is None:
        return "-"
    text = f"{estimate.mean:{sign}.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{estimate.low:{sign}.{digits}f}, {estimate.high:{sign}.{digits}f}]"
