"""Runs side by side: what each learned, at what cost, beside the founding page's own figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.score.names import rank

from .presets import TABLE, Founding

Result = Mapping[str, Any]
_SAME = ("preset", "targets", "method", "network", "init", "seed", "datasets")
"""What the folds of one experiment have in common."""


@dataclass(frozen=True)
class Line:
    """One run, or the folds of one. tags: how many were asked for, 0 for all that was drawn; train: exams, mean of the
    folds; held_out: exams that were scored, in all folds together; mixed: those of them with mixed-up names.

    dice: by structure; mean: over the exams; both are means of the folds at their best moments, and None or empty where
    nothing was held out. finished: whether each run has reached its end.
    """

    name: str
    runs: tuple[str, ...]
    folds: tuple[str, ...]
    method: str
    tags: int
    train: float
    held_out: int
    epochs: float
    minutes: float
    dice: dict[str, float]
    mean: float | None
    mixed: int
    finished: bool
    founding: Founding | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def lines(runs: Sequence[tuple[Path, Result]]) -> list[Line]:
    """One line for each experiment, in the order of its first run; folds of one experiment share a line."""
    groups: dict[tuple[Any, ...], list[tuple[Path, Result]]] = {}
    for path, result in runs:
        turn = 0
        while any(other["fold"] == result["fold"] for _, other in groups.get(_key(result, turn), [])):
            turn += 1
        groups.setdefault(_key(result, turn), []).append((path, result))
    return [_line(group) for group in groups.values()]


def structures(table: Sequence[Line]) -> list[str]:
    """Every structure that some line has a Dice for, by kind and from head to foot."""
    return sorted({name for line in table for name in line.dice}, key=rank)


def _key(result: Result, turn: int) -> tuple[Any, ...]:
    """Equal for folds of one experiment; turn: which of several runs of the same fold."""
    return (*(str(result[name]) for name in _SAME), result["fold"].partition("/")[2], turn)


def _line(group: Sequence[tuple[Path, Result]]) -> Line:
    results = sorted((result for _, result in group), key=lambda result: str(result["fold"]))
    first = results[0]
    moments = [result["best"] if "score" in result["best"] else result["last"] for result in results]
    scores = [moment["score"] for moment in moments if moment]
    names = dict.fromkeys(name for moment in moments if moment for name in moment["dice"])
    dice = {n: _mean(moment["dice"][n] for moment in moments if moment and n in moment["dice"]) for n in names}
    preset = TABLE.get(first["preset"])
    single = group[0][0].resolve().name if len(group) == 1 and not first["preset"] else ""
    return Line(
        name=first["preset"] or single or " ".join(first["targets"]) or "all that was drawn",
        runs=tuple(str(path) for path, _ in group),
        folds=tuple(result["fold"] for result in results if result["fold"]),
        method=first["method"],
        tags=len(first["targets"]),
        train=_mean(result["exams"]["train"] for result in results),
        held_out=sum(_scored(result) for result in results),
        epochs=_mean(result["epochs"] for result in results),
        minutes=_mean(result["minutes"] for result in results),
        dice={name: dice[name] for name in sorted(dice, key=rank)},
        mean=_mean(scores) if scores else None,
        mixed=sum(_mixed(moment) for moment in moments),
        finished=all(result["finished"] for result in results),
        founding=preset.founding if preset else None,
    )


def _scored(result: Result) -> int:
    """Exams that were scored: of those held out, the ones that show a target."""
    return len(result["best"]["exams"]) if "exams" in result["best"] else int(result["exams"]["held_out"])


def _mixed(moment: Result) -> int:
    if "exams" in moment:
        return sum(bool(exam["wrong"]) for exam in moment["exams"])
    return int(moment.get("mixed", 0))


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
