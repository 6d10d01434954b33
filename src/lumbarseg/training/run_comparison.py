"""Runs side by side: what each learned, at what cost, beside the founding page's own figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.metrics.structure_names import anatomical_sort_key

from .presets import TABLE, ProjectPageResult

RunResult = Mapping[str, Any]
_EXPERIMENT_FIELDS = ("preset", "targets", "method", "network", "init", "seed", "datasets")
"""What the folds of one experiment have in common."""


@dataclass(frozen=True)
class ComparisonRow:
    """One run, or the folds of one. tags: how many were asked for, 0 for all that was drawn; train: exams, mean of the
    folds; held_out: exams that were scored, in all folds together; mixed: those of them with mixed-up names.

    dice: by structure; mean: over the exams; both are means of the folds at their best moments, and None or empty where
    nothing was held out. finished: whether each run has reached its end.
    """

    name: str
    runs: tuple[str, ...]
    folds: tuple[str, ...]
    method: str
    target_count: int
    training_exams: float
    scored_exams: int
    epochs: float
    minutes: float
    dice: dict[str, float]
    mean_dice: float | None
    name_errors: int
    finished: bool
    founding: ProjectPageResult | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def compare_runs(runs: Sequence[tuple[Path, RunResult]]) -> list[ComparisonRow]:
    """One line for each experiment, in the order of its first run; folds of one experiment share a line."""
    groups: dict[tuple[Any, ...], list[tuple[Path, RunResult]]] = {}
    for path, result in runs:
        turn = 0
        while any(other["fold"] == result["fold"] for _, other in groups.get(_experiment_key(result, turn), [])):
            turn += 1
        groups.setdefault(_experiment_key(result, turn), []).append((path, result))
    return [_comparison_row(group) for group in groups.values()]


def structure_names(rows: Sequence[ComparisonRow]) -> list[str]:
    """Every structure that some line has a Dice for, by kind and from head to foot."""
    return sorted({name for line in rows for name in line.dice}, key=anatomical_sort_key)


def _experiment_key(result: RunResult, repetition: int) -> tuple[Any, ...]:
    """Equal for folds of one experiment; turn: which of several runs of the same fold."""
    return (*(str(result[name]) for name in _EXPERIMENT_FIELDS), result["fold"].partition("/")[2], repetition)


def _comparison_row(group: Sequence[tuple[Path, RunResult]]) -> ComparisonRow:
    results = sorted((result for _, result in group), key=lambda result: str(result["fold"]))
    first = results[0]
    moments = [result["best"] if "score" in result["best"] else result["last"] for result in results]
    scores = [moment["score"] for moment in moments if moment]
    names = dict.fromkeys(name for moment in moments if moment for name in moment["dice"])
    dice = {n: _mean(moment["dice"][n] for moment in moments if moment and n in moment["dice"]) for n in names}
    preset = TABLE.get(first["preset"])
    single = group[0][0].resolve().name if len(group) == 1 and not first["preset"] else ""
    return ComparisonRow(
        name=first["preset"] or single or " ".join(first["targets"]) or "all that was drawn",
        runs=tuple(str(path) for path, _ in group),
        folds=tuple(result["fold"] for result in results if result["fold"]),
        method=first["method"],
        target_count=len(first["targets"]),
        training_exams=_mean(result["exams"]["train"] for result in results),
        scored_exams=sum(_scored_exam_count(result) for result in results),
        epochs=_mean(result["epochs"] for result in results),
        minutes=_mean(result["minutes"] for result in results),
        dice={name: dice[name] for name in sorted(dice, key=anatomical_sort_key)},
        mean_dice=_mean(scores) if scores else None,
        name_errors=sum(_name_error_count(moment) for moment in moments),
        finished=all(result["finished"] for result in results),
        founding=preset.project_page_result if preset else None,
    )


def _scored_exam_count(result: RunResult) -> int:
    """Exams that were scored: of those held out, the ones that show a target."""
    return len(result["best"]["exams"]) if "exams" in result["best"] else int(result["exams"]["held_out"])


def _name_error_count(moment: RunResult) -> int:
    if "exams" in moment:
        return sum(bool(exam["wrong"]) for exam in moment["exams"])
    return int(moment.get("mixed", 0))


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
