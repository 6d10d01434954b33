"""Tables of many exams: figures by group with their intervals, and two models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bootstrap import Estimate, bootstrap_mean, permutation_test
from .structure_names import anatomical_sort_key

Row = dict[str, Any]
Group = tuple[str, ...]

RATIO_MEASURES: dict[str, tuple[str, str]] = {
    "precision": ("hit", "found"),
    "recall": ("hit", "drawn"),
    "f1": ("twice_hit", "drawn_found"),
    "named_precision": ("named", "found"),
    "named_recall": ("named", "drawn"),
    "named_f1": ("twice_named", "drawn_found"),
}
"""Figures of instances that are sums by sums, over all of a group together: how many of the found ones are right."""

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class GroupSummary:
    """One group of rows. group: its values of the keys asked for; figures: by name of the measure."""

    group: Group
    exams: int
    patients: int
    estimates: dict[str, Estimate]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        figures = {name: figure.to_dict() for name, figure in self.estimates.items()}
        return {"group": list(self.group), "exams": self.exams, "patients": self.patients, **figures}


@dataclass(frozen=True)
class ModelDifference:
    """Two models on the same exams. first, second: their means; difference: first minus second, with its interval.

    probability: of a difference as large by chance alone, None with one patient; better, worse: exams in which the
    first has the higher and the lower value.
    """

    group: Group
    first: float
    second: float
    difference: Estimate
    p_value: float | None
    first_higher: int
    first_lower: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
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
    """Figures of each group of rows, sorted by group, structures by kind and from head to foot.

    rows: with "case", "patient", "dataset", the keys in `by` and the measures; by: keys whose values make a group, none
    for all rows together; measures: keys of numbers, or names in RATIOS. A row in which one is None does not count.
    """
    out = []
    for group, these in _group_rows(rows, group_keys).items():
        figures = {name: _estimate_measure(these, name, seed) for name in measures}
        exams, patients = {_case_id(row) for row in these}, {row["patient"] for row in these}
        out.append(GroupSummary(group, len(exams), len(patients), figures))
    return out


def compare_models(
    first: Sequence[Row], second: Sequence[Row], group_keys: Sequence[str], measure: str, seed: int = 0
) -> list[ModelDifference]:
    """Two models compared on what both have: rows of the same exam and structure are pairs.

    first, second: rows of either model as for `lines`, one per exam or one per exam and structure. Pairs of which one
    value is infinite are left out and counted.
    """
    partners = {_row_id(row): row for row in second}
    pairs = [(row, partners[_row_id(row)]) for row in first if _row_id(row) in partners]
    joined = [
        row | {"_first": row[measure], "_second": other[measure]}
        for row, other in pairs
        if row[measure] is not None and other[measure] is not None
    ]
    out = []
    for group, these in _group_rows(joined, group_keys).items():
        a, b = (np.array([row[key] for row in these], float) for key in ("_first", "_second"))
        people = [row["patient"] for row in these]
        both = np.isfinite(a) & np.isfinite(b)
        gap = np.where(both, np.where(both, a, 0) - np.where(both, b, 0), np.inf)
        if not both.any():
            continue
        kept = [who for who, counted in zip(people, both, strict=True) if counted]
        means = float(a[both].mean()), float(b[both].mean())
        chance = permutation_test(gap[both].tolist(), kept, seed)
        signs = int((gap[both] > 0).sum()), int((gap[both] < 0).sum())
        out.append(ModelDifference(group, *means, bootstrap_mean(gap.tolist(), people, seed=seed), chance, *signs))
    return out


def worst_rows(rows: Sequence[Row], measure: str, count: int = 5) -> list[Row]:
    """The rows with the lowest values, the lowest first."""
    known = [row for row in rows if row[measure] is not None]
    return sorted(known, key=lambda row: (row[measure], _case_id(row)))[:count]


def _estimate_measure(rows: Sequence[Row], name: str, seed: int) -> Estimate:
    if name in RATIO_MEASURES:
        top, bottom = RATIO_MEASURES[name]
        known = [row for row in rows if row[top] is not None]
        weights = [row[bottom] for row in known]
        return bootstrap_mean([row[top] for row in known], [row["patient"] for row in known], weights, seed=seed)
    known = [row for row in rows if row[name] is not None]
    return bootstrap_mean([row[name] for row in known], [row["patient"] for row in known], seed=seed)


def _group_rows(rows: Sequence[Row], group_keys: Sequence[str]) -> Mapping[Group, list[Row]]:
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[key]) or _UNKNOWN for key in group_keys), []).append(row)
    anatomical = {"structure", "level", "kind"}

    def place(group: Group) -> tuple[Any, ...]:
        return tuple(
            anatomical_sort_key(part) if key in anatomical else (0, 0, part)
            for key, part in zip(group_keys, group, strict=True)
        )

    return {group: groups[group] for group in sorted(groups, key=place)}


def _case_id(row: Row) -> tuple[str, str]:
    return row["dataset"], row["case"]


def _row_id(row: Row) -> tuple[str, str, str]:
    return (*_case_id(row), row.get("structure", ""))
