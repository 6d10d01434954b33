"""One exam judged in full, as plain values; and many such exams taken apart into rows for the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.volume import Array

from .instances import match_instances
from .overlap import find_missing_structures, find_wrong_names, score_structures, select_marked_uncertain
from .structure_names import StructureNames, kind_of_name, level_in_name, tissue_kinds

Row = dict[str, Any]

CASE_KEYS = ("dataset", "case", "patient", "contrast", "scanner")
"""What every row of an exam says about it; patient: what the bootstrap draws, the same for all exams of a person."""


def score_case(
    prediction: Array,
    reference: Array,
    label_table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    with_distances: bool = True,
    uncertain_levels: Iterable[str] = (),
    prediction_names: Iterable[StructureNames] = (),
    segmented_kinds: Iterable[str] = CLASSES,
) -> Row:
    """What one exam shows, ready for JSON: structures, instances, wrong names, missing ones, whether all are right.

    found, truth, table, spacing, meaning: as for `score`; distances: whether to measure those of surfaces; uncertain:
    levels that were marked so, wrong_flagged being the wrong names among them; painted: kinds of tissue that the answer
    may show at all, others are not asked of it. names_right: None where the reference gives no names.
    """
    prediction_names = tuple(prediction_names)
    kinds = frozenset(segmented_kinds)
    scores = [
        row
        for row in score_structures(
            prediction, reference, label_table, spacing if with_distances else None, prediction_names
        )
        if tissue_kinds(row.name) <= kinds
    ]
    things = [
        each
        for each in match_instances(prediction, reference, label_table, spacing, prediction_names)
        if tissue_kinds(each.kind) <= kinds
    ]
    wrong = find_wrong_names(scores)
    named = [row for row in scores if row.overlap is not None]
    return {
        "structures": [row.to_dict() for row in scores],
        "instances": [each.to_dict() for each in things],
        "wrong_names": wrong,
        "wrong_flagged": select_marked_uncertain(wrong, uncertain_levels),
        "missing": find_missing_structures(scores),
        "names_right": all(row.is_named_right for row in named) if named else None,
        "distances": with_distances,
    }


def structure_rows(exams: Iterable[Row]) -> list[Row]:
    """One row per structure that a reference shows: dice, ratio, surface_mm, surface95_mm, named (1, 0 or None).

    Distances are infinite where the structure was not found at all, None where nobody asked. exams: `judge` with FACTS.
    """
    out = []
    for exam in exams:
        for row in exam["structures"]:
            if "dice" not in row:
                continue
            nothing = float("inf") if exam["distances"] else None
            gaps = row.get("distances", {})
            named = None if "overlap" not in row else float(row.get("found_as") == row["name"])
            out.append(
                _case_columns(exam, row["name"])
                | {"dice": row["dice"], "ratio": row["ratio"], "named": named}
                | {"surface_mm": gaps.get("mean", nothing), "surface95_mm": gaps.get("p95", nothing)}
            )
    return out


def instance_rows(exams: Iterable[Row]) -> list[Row]:
    """One row per thing that was drawn or found: drawn, found, hit, named (0 or 1), and what F1 is made of.

    named is None where the reference gives no names. exams: `judge` with FACTS.
    """
    out = []
    for exam in exams:
        for row in exam["instances"]:
            found, name = row["found_as"] is not None, row["name"] or row["found_as"] or ""
            nameless = not row["nameable"] or (row["drawn"] and row["name"] is None)
            named = None if nameless else float(row["name"] is not None and row["name"] == row["found_as"])
            told = _case_columns(exam, name) | {"kind": row["kind"]}
            drawn, hit = float(row["drawn"]), float(row["drawn"] and found)
            counts = {"drawn": drawn, "found": float(found), "hit": hit, "named": named}
            doubled = {"twice_hit": 2 * hit, "twice_named": named and 2 * named, "drawn_found": drawn + found}
            out.append(told | counts | doubled)
    return out


def exam_rows(exams: Iterable[Row]) -> list[Row]:
    """One row per exam: dice, surface_mm and surface95_mm as means over its structures, and what its names are.

    An exam in which a structure was not found at all has infinite distances. What does not apply is None: Dice where
    the reference shows no structure, names_right, wrong, flagged and missing where it gives no names. exams: `judge`
    with FACTS.
    """
    out = []
    for exam in exams:
        rows = structure_rows([exam])
        means = {key: _mean(rows, key) for key in ("dice", "surface_mm", "surface95_mm")}
        counts = {"wrong": len(exam["wrong_names"]), "flagged": len(exam["wrong_flagged"])}
        counts |= {"missing": len(exam["missing"]), "names_right": exam["names_right"]}
        named = exam["names_right"] is not None
        out.append(
            {key: exam.get(key, "") for key in CASE_KEYS}
            | means
            | {key: float(n) if named else None for key, n in counts.items()}
        )
    return out


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def _case_columns(exam: Row, name: str) -> Row:
    return {key: exam.get(key, "") for key in CASE_KEYS} | {
        "structure": name,
        "kind": kind_of_name(name),
        "level": level_in_name(name),
    }
