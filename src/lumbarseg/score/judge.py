"""One exam judged in full, as plain values; and many such exams taken apart into rows for the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.volume import Array

from .compare import flagged, missing, score, wrong_names
from .instances import instances
from .names import Names, kind_of, level_of, tissues_of

Row = dict[str, Any]

FACTS = ("dataset", "case", "patient", "contrast", "scanner")
"""What every row of an exam says about it; patient: what the bootstrap draws, the same for all exams of a person."""


def judge(
    found: Array,
    truth: Array,
    table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    *,
    distances: bool = True,
    uncertain: Iterable[str] = (),
    meaning: Iterable[Names] = (),
    painted: Iterable[str] = CLASSES,
) -> Row:
    """What one exam shows, ready for JSON: structures, instances, wrong names, missing ones, whether all are right.

    found, truth, table, spacing, meaning: as for `score`; distances: whether to measure those of surfaces; uncertain:
    levels that were marked so, wrong_flagged being the wrong names among them; painted: kinds of tissue that the answer
    may show at all, others are not asked of it. names_right: None where the reference gives no names.
    """
    meaning = tuple(meaning)
    kinds = frozenset(painted)
    scores = [
        row
        for row in score(found, truth, table, spacing if distances else None, meaning)
        if tissues_of(row.name) <= kinds
    ]
    things = [each for each in instances(found, truth, table, spacing, meaning) if tissues_of(each.kind) <= kinds]
    wrong = wrong_names(scores)
    named = [row for row in scores if row.overlap is not None]
    return {
        "structures": [row.to_dict() for row in scores],
        "instances": [each.to_dict() for each in things],
        "wrong_names": wrong,
        "wrong_flagged": flagged(wrong, uncertain),
        "missing": missing(scores),
        "names_right": all(row.named for row in named) if named else None,
        "distances": distances,
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
                _facts(exam, row["name"])
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
            told = _facts(exam, name) | {"kind": row["kind"]}
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
            {key: exam.get(key, "") for key in FACTS}
            | means
            | {key: float(n) if named else None for key, n in counts.items()}
        )
    return out


def _mean(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row[key] is not None]
    return float(np.mean(values)) if values else None


def _facts(exam: Row, name: str) -> Row:
    return {key: exam.get(key, "") for key in FACTS} | {
        "structure": name,
        "kind": kind_of(name),
        "level": level_of(name),
    }
