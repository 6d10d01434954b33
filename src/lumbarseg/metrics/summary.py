"""Summarize the rows of many cases: measures by group with their intervals, and two models compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import Estimate, bootstrap_mean, permutation_test
from .case_scores import Row
from .structure_names import anatomical_sort_key

Group = tuple[str, ...]

RATIO_MEASURES: dict[str, tuple[str, str]] = {
    "precision": ("hit", "found"),
    "recall": ("hit", "drawn"),
    "f1": ("twice_hit", "drawn_found"),
    "named_precision": ("named", "found"),
    "named_recall": ("named", "drawn"),
    "named_f1": ("twice_named", "drawn_found"),
}
"""Measures of instances that are a sum divided by a sum, over all rows of a group: numerator and denominator."""

_ANATOMICAL_KEYS = {"structure", "level", "kind"}


@dataclass(frozen=True)
class GroupSummary:
    """Measures of one group of rows; group: its values of the group keys."""

    group: Group
    exams: int
    patients: int
    estimates: dict[str, Estimate]

    def to_dict(self) -> Row:
        """Return the values for JSON."""
        estimates = {name: estimate.to_dict() for name, estimate in self.estimates.items()}
        return {"group": list(self.group), "exams": self.exams, "patients": self.patients, **estimates}


@dataclass(frozen=True)
class ModelDifference:
    """Two models compared on the same exams.

    first, second : means of the models
    difference : first minus second, with its interval
    p_value : None with one patient
    first_higher, first_lower : number of exams in which the first model has the higher and the lower value
    """

    group: Group
    first: float
    second: float
    difference: Estimate
    p_value: float | None
    first_higher: int
    first_lower: int

    def to_dict(self) -> Row:
        """Return the values for JSON."""
        return {
            "group": list(self.group),
            "first": self.first,
            "second": self.second,
            **self.difference.to_dict(),
            "probability": self.p_value,
            "better": self.first_higher,
            "worse": self.first_lower,
        }


def summarize_groups(
    rows: Sequence[Row], group_keys: Sequence[str], measures: Sequence[str], seed: int = 0
) -> list[GroupSummary]:
    """Estimate measures for each group of rows, sorted by group, structures by kind and from head to foot.

    Parameters
    ----------
    rows : with the columns of CASE_KEYS, those of `group_keys` and the measures; a None is left out
    group_keys : columns whose values define a group; none for all rows together
    measures : numeric columns, or names in RATIO_MEASURES
    """
    summaries = []
    for group, members in _group_rows(rows, group_keys).items():
        estimates = {name: _estimate_measure(members, name, seed) for name in measures}
        exams, patients = {_case_id(row) for row in members}, {row["patient"] for row in members}
        summaries.append(GroupSummary(group, len(exams), len(patients), estimates))
    return summaries


def compare_models(
    first: Sequence[Row], second: Sequence[Row], group_keys: Sequence[str], measure: str, seed: int = 0
) -> list[ModelDifference]:
    """Compare two models on the rows that both have; rows of the same exam and structure are pairs.

    Pairs with an infinite value are left out and counted.

    Parameters
    ----------
    first, second : rows of either model as for `summarize_groups`, one per exam or one per exam and structure
    """
    partners = {_row_id(row): row for row in second}
    pairs = [(row, partners[_row_id(row)]) for row in first if _row_id(row) in partners]
    paired = [
        row | {"_first": row[measure], "_second": other[measure]}
        for row, other in pairs
        if row[measure] is not None and other[measure] is not None
    ]
    comparisons = []
    for group, members in _group_rows(paired, group_keys).items():
        a, b = (np.array([row[key] for row in members], float) for key in ("_first", "_second"))
        finite = np.isfinite(a) & np.isfinite(b)
        if not finite.any():
            continue
        gaps = np.full(len(a), np.inf)
        gaps[finite] = a[finite] - b[finite]
        patients = np.array([row["patient"] for row in members])
        difference = bootstrap_mean(gaps.tolist(), patients.tolist(), seed=seed)
        p_value = permutation_test(gaps[finite].tolist(), patients[finite].tolist(), seed)
        means = float(a[finite].mean()), float(b[finite].mean())
        signs = int((gaps[finite] > 0).sum()), int((gaps[finite] < 0).sum())
        comparisons.append(ModelDifference(group, *means, difference, p_value, *signs))
    return comparisons


def worst_rows(rows: Sequence[Row], measure: str, count: int = 5) -> list[Row]:
    """Return the rows with the lowest values, the lowest first."""
    measured = [row for row in rows if row[measure] is not None]
    return sorted(measured, key=lambda row: (row[measure], _case_id(row)))[:count]


def _estimate_measure(rows: Sequence[Row], name: str, seed: int) -> Estimate:
    numerator, denominator = RATIO_MEASURES.get(name, (name, None))
    measured = [row for row in rows if row[numerator] is not None]
    weights = [row[denominator] for row in measured] if denominator else None
    values, patients = [row[numerator] for row in measured], [row["patient"] for row in measured]
    return bootstrap_mean(values, patients, weights, seed=seed)


def _group_rows(rows: Sequence[Row], group_keys: Sequence[str]) -> Mapping[Group, list[Row]]:
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[key]) or "unknown" for key in group_keys), []).append(row)

    def sort_key(group: Group) -> tuple[tuple[int, int, str], ...]:
        parts = zip(group_keys, group, strict=True)
        return tuple(anatomical_sort_key(part) if key in _ANATOMICAL_KEYS else (0, 0, part) for key, part in parts)

    return {group: groups[group] for group in sorted(groups, key=sort_key)}


def _case_id(row: Row) -> tuple[str, str]:
    return row["dataset"], row["case"]


def _row_id(row: Row) -> tuple[str, str, str]:
    return (*_case_id(row), row.get("structure", ""))
