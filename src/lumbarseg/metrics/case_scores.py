"""Score one case completely, and split scored cases into table rows for the statistics."""

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
"""A row of a table or of a JSON file: column name to value."""

CASE_KEYS = ("dataset", "case", "patient", "contrast", "scanner")
"""Columns that every row has; patient is the unit of the bootstrap, the same for all exams of a person."""


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
    """Score structures, instances and names of one case.

    Parameters
    ----------
    prediction, reference, label_table, spacing, prediction_names : see `score_structures`
    with_distances : measure surface distances
    uncertain_levels : levels that the prediction marks as uncertain
    segmented_kinds : kinds that the model segments; others are not scored

    Returns
    -------
    Values for JSON. "wrong_flagged" are the wrong names that were marked uncertain; "names_right" is None if the
    reference gives no names.
    """
    prediction_names, kinds = tuple(prediction_names), frozenset(segmented_kinds)
    measured = spacing if with_distances else None
    scores = [
        score
        for score in score_structures(prediction, reference, label_table, measured, prediction_names)
        if tissue_kinds(score.name) <= kinds
    ]
    matches = match_instances(prediction, reference, label_table, spacing, prediction_names)
    wrong_names = find_wrong_names(scores)
    with_names = [score for score in scores if score.covering_dice is not None]
    return {
        "structures": [score.to_dict() for score in scores],
        "instances": [match.to_dict() for match in matches if tissue_kinds(match.kind) <= kinds],
        "wrong_names": wrong_names,
        "wrong_flagged": select_marked_uncertain(wrong_names, uncertain_levels),
        "missing": find_missing_structures(scores),
        "names_right": all(score.is_named_right for score in with_names) if with_names else None,
        "distances": with_distances,
    }


def structure_rows(cases: Iterable[Row]) -> list[Row]:
    """Return a row for each structure that a reference shows.

    Columns are dice, ratio, surface_mm, surface95_mm and named (1, 0 or None). Distances are infinite if the structure
    was not predicted, None if they were not measured.

    Parameters
    ----------
    cases : results of `score_case` with the columns of CASE_KEYS
    """
    rows = []
    for case in cases:
        for structure in case["structures"]:
            if "dice" not in structure:
                continue
            default = float("inf") if case["distances"] else None
            distances = structure.get("distances", {})
            is_right = None if "overlap" not in structure else float(structure.get("found_as") == structure["name"])
            rows.append(
                _case_columns(case, structure["name"])
                | {"dice": structure["dice"], "ratio": structure["ratio"], "named": is_right}
                | {"surface_mm": distances.get("mean", default), "surface95_mm": distances.get("p95", default)}
            )
    return rows


def instance_rows(cases: Iterable[Row]) -> list[Row]:
    """Return a row for each instance of a reference or a prediction, with what precision, recall and F1 need.

    Columns are drawn (in the reference), found (predicted), hit, named (0 or 1; None if the reference gives no name),
    and sums of them.
    """
    rows = []
    for case in cases:
        for match in case["instances"]:
            predicted, name = match["found_as"] is not None, match["name"] or match["found_as"] or ""
            unnamed = not match["nameable"] or (match["drawn"] and match["name"] is None)
            is_right = None if unnamed else float(match["name"] is not None and match["name"] == match["found_as"])
            in_reference, hit = float(match["drawn"]), float(match["drawn"] and predicted)
            rows.append(
                _case_columns(case, name)
                | {
                    "kind": match["kind"],
                    "drawn": in_reference,
                    "found": float(predicted),
                    "hit": hit,
                    "named": is_right,
                }
                | {
                    "twice_hit": 2 * hit,
                    "twice_named": is_right and 2 * is_right,
                    "drawn_found": in_reference + predicted,
                }
            )
    return rows


def exam_rows(cases: Iterable[Row]) -> list[Row]:
    """Return a row for each case with the means over its structures and the counts of its names.

    Columns are dice, surface_mm and surface95_mm (infinite if a structure was not predicted), names_right, wrong,
    flagged and missing. A column is None if it does not apply.
    """
    rows = []
    for case in cases:
        structures = structure_rows([case])
        counts = {"wrong": len(case["wrong_names"]), "flagged": len(case["wrong_flagged"])}
        counts |= {"missing": len(case["missing"]), "names_right": case["names_right"]}
        has_names = case["names_right"] is not None
        rows.append(
            {key: case.get(key, "") for key in CASE_KEYS}
            | {key: _mean(structures, key) for key in ("dice", "surface_mm", "surface95_mm")}
            | {key: float(count) if has_names else None for key, count in counts.items()}
        )
    return rows


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def _case_columns(case: Row, name: str) -> Row:
    columns = {key: case.get(key, "") for key in CASE_KEYS}
    return columns | {"structure": name, "kind": kind_of_name(name), "level": level_in_name(name)}
