"""Tables of an evaluation: measures by dataset, structure, kind, level, contrast or scanner; two models compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lumbarseg.metrics.case_scores import Row, exam_rows, instance_rows, structure_rows
from lumbarseg.metrics.summary import GroupSummary, ModelDifference, compare_models, summarize_groups, worst_rows

GROUP_KEYS = ("level", "contrast", "scanner", "kind")
STRUCTURE_MEASURES = ("dice", "ratio", "surface_mm", "surface95_mm", "named")
INSTANCE_MEASURES = ("precision", "recall", "f1", "named_precision", "named_recall", "named_f1")
COMPARED_MEASURES = ("dice", "surface_mm", "surface95_mm")
EXAM_MEASURES = ("dice", "surface_mm", "surface95_mm", "names_right", "wrong", "flagged", "missing")


@dataclass(frozen=True)
class EvaluationTable:
    """Measures of groups of "structures", "instances" or "exams" (subject), grouped by `group_keys`."""

    subject: str
    group_keys: tuple[str, ...]
    groups: list[GroupSummary]

    def to_dict(self) -> Row:
        """Return the values for JSON."""
        return {"of": self.subject, "by": list(self.group_keys), "lines": [group.to_dict() for group in self.groups]}


def evaluation_tables(cases: Sequence[Row], group_keys: Sequence[str] = ()) -> list[EvaluationTable]:
    """Return all tables of an evaluation: by dataset and structure, then one for each of `group_keys`.

    group_keys: of GROUP_KEYS; these tables have a row for each kind of structure.
    """
    structures, instances, exams = structure_rows(cases), instance_rows(cases), exam_rows(cases)
    tables = [
        _table("structures", structures, ("dataset", "structure"), STRUCTURE_MEASURES),
        _table("instances", instances, ("dataset", "kind"), INSTANCE_MEASURES),
        _table("exams", exams, ("dataset",), EXAM_MEASURES),
    ]
    for key in group_keys:
        keys = tuple(dict.fromkeys((key, "kind")))
        with_key = [[row for row in rows if row["level"] or key != "level"] for rows in (structures, instances)]
        tables.append(_table("structures", with_key[0], keys, STRUCTURE_MEASURES))
        tables.append(_table("instances", with_key[1], keys, INSTANCE_MEASURES))
        if key in ("contrast", "scanner"):
            tables.append(_table("exams", exams, (key,), EXAM_MEASURES))
    return [table for table in tables if table.groups]


def _table(subject: str, rows: Sequence[Row], keys: tuple[str, ...], measures: Sequence[str]) -> EvaluationTable:
    return EvaluationTable(subject, keys, summarize_groups(rows, keys, measures))


def compare_evaluations(first: Sequence[Row], second: Sequence[Row]) -> dict[str, list[ModelDifference]]:
    """Compare Dice and distances of two models on the same exams.

    Each measure has a row "mean" for all structures of an exam, then a row for each structure. Structures that only
    one of the models is scored on are left out.
    """
    pair = restrict_to_shared(first, second), restrict_to_shared(second, first)
    exams = [[row | {"structure": "mean"} for row in exam_rows(cases)] for cases in pair]
    structures = [structure_rows(cases) for cases in pair]
    differences = {}
    for measure in COMPARED_MEASURES:
        differences_of_measure = [
            difference
            for rows, other_rows in (exams, structures)
            for difference in compare_models(rows, other_rows, ("dataset", "structure"), measure)
        ]
        if differences_of_measure:
            differences[measure] = differences_of_measure
    return differences


def largest_deficits(first: Sequence[Row], second: Sequence[Row], count: int = 5) -> list[Row]:
    """Return the exams in which the first model falls behind the second by most, in mean Dice of shared structures."""
    first, second = restrict_to_shared(first, second), restrict_to_shared(second, first)
    other_dice = {(row["dataset"], row["case"]): row["dice"] for row in exam_rows(second)}
    rows = [
        row | {"dice": row["dice"] - other_dice[row["dataset"], row["case"]]}
        for row in exam_rows(first)
        if row["dice"] is not None
    ]
    return [row for row in worst_rows(rows, "dice", count) if row["dice"] < 0]


def restrict_to_shared(cases: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    """Return the cases that others have too, with only the structures that are scored there."""
    shared = {(row["dataset"], row["case"]): {part["name"] for part in row["structures"]} for row in others}
    return [
        row
        | {"structures": [part for part in row["structures"] if part["name"] in shared[row["dataset"], row["case"]]]}
        for row in cases
        if (row["dataset"], row["case"]) in shared
    ]
