"""Scores as text for a person: tables with their intervals, names that were wrong, the worst exams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lumbarseg.evaluation import EvaluationTable
    from lumbarseg.metrics import Estimate, ModelDifference

Row = dict[str, Any]

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
_TABLE_TITLES = {
    "structures": "structures",
    "instances": "vertebrae and discs as things, overlap above a half",
    "exams": "exams, each with the mean of its structures",
}


def format_tables(tables: Sequence[EvaluationTable]) -> list[str]:
    """Every table, one after the other; columns in which nothing applies are left out."""
    out: list[str] = []
    for table in tables:
        measures = [key for key in table.groups[0].estimates if any(line.estimates[key].count for line in table.groups)]
        infinite = any(line.estimates[key].left_out for line in table.groups for key in measures)
        head = [
            *table.group_keys,
            "exams",
            "patients",
            *(_COLUMNS[key][0] for key in measures),
            *(["not found"] * infinite),
        ]
        rows = [head]
        for line in table.groups:
            figures = [_format_estimate(line.estimates[key], _COLUMNS[key][1]) for key in measures]
            lost = [str(max(line.estimates[key].left_out for key in measures))] if infinite else []
            rows.append([*line.group, str(line.exams), str(line.patients), *figures, *lost])
        out += [
            f"{_TABLE_TITLES[table.subject]}, by {' and '.join(table.group_keys)}",
            *align_columns(rows, len(table.group_keys)),
            "",
        ]
    return out


def format_wrong_names(exams: Sequence[Row]) -> list[str]:
    """What was called wrong or not found, and which exams the model refused."""
    out = []
    for exam in exams:
        marked = set(exam["wrong_flagged"])
        doubts = [f"{text} (marked uncertain)" if text in marked else text for text in exam["wrong_names"]]
        doubts += [f"no {name}" for name in exam["missing"]]
        if exam["error"]:
            doubts = [f"refused, which counts as nothing found: {exam['error']}"]
        if doubts:
            out.append(f"  {exam['dataset']} {exam['case']}: {', '.join(doubts)}")
    wrong, flagged = (sum(len(exam[key]) for exam in exams) for key in ("wrong_names", "wrong_flagged"))
    if out:
        out = [f"names: {wrong} wrong, {flagged} of them marked uncertain; what is wrong or missing:", *out, ""]
    return out


def format_worst_exams(rows: Sequence[Row]) -> list[str]:
    """The exams with the lowest mean Dice."""
    if not rows:
        return []
    told = [[f"  {row['dataset']} {row['case']}", f"{row['dice']:.3f}"] for row in rows]
    return ["lowest mean Dice", *align_columns(told, 1), ""]


def format_differences(
    model_names: tuple[str, str], rows_by_measure: Mapping[str, Sequence[ModelDifference]]
) -> list[str]:
    """Two models side by side."""
    out = [f"{model_names[0]} (first) against {model_names[1]} (second), on the same exams"]
    for measure, found in rows_by_measure.items():
        title, digits = _COLUMNS[measure]
        rows = [["dataset", "structure", "exams", "patients", "first", "second", "first - second", "p", "higher/lower"]]
        for row in found:
            counts = [str(row.difference.count), str(row.difference.patients)]
            means = [
                f"{row.first:.{digits}f}",
                f"{row.second:.{digits}f}",
                _format_estimate(row.difference, digits, "+"),
            ]
            chance = "-" if row.p_value is None else f"{row.p_value:.4f}"
            rows.append([*row.group, *counts, *means, chance, f"{row.first_higher}/{row.first_lower}"])
        out += [title, *align_columns(rows, 2), ""]
    return [*out, "p: signs of the patients' differences turned at random; not corrected for the number of rows", ""]


def format_deficits(model_names: tuple[str, str], rows: Sequence[Row]) -> list[str]:
    """The exams in which the second model leads by most."""
    told = [[f"  {row['dataset']} {row['case']}", f"{row['dice']:+.3f}"] for row in rows]
    return (
        [f"exams in which {model_names[0]} falls behind most, mean Dice", *align_columns(told, 1), ""] if told else []
    )


def align_columns(rows: Sequence[Sequence[str]], text_columns: int) -> list[str]:
    """Rows in columns; texts: how many of the first are words, which stand left, figures right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < text_columns else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _format_estimate(value: Estimate, digits: int, sign: str = "") -> str:
    """A figure with its interval, "-" where nothing applies and no interval where there is one patient."""
    if value.mean is None:
        return "-"
    text = f"{value.mean:{sign}.{digits}f}"
    if value.low is None or value.high is None:
        return text
    return f"{text} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"
