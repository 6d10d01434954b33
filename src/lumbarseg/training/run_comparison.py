"""Training runs side by side: their scores and their cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lumbarseg.metrics.bootstrap import bootstrap_mean
from lumbarseg.metrics.structure_names import anatomical_sort_key

from .run_result import RunResult


@dataclass(frozen=True)
class ComparisonRow:
    """One run, or the folds of one experiment.

    target_count : 0 for everything that is annotated; training_exams : mean of the folds; scored_exams : of all folds
    together; dice : of each structure; mean_dice : over the exams. Both are means of the folds at their best
    validation, empty or None without validation exams. interval : 95 % of the mean over exams, resampling patients;
    before : mean Dice of the initial weights, None from scratch; name_errors : exams with wrong level names;
    finished : whether each run has ended
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
    interval: tuple[float, float] | None
    before: float | None
    name_errors: int
    finished: bool


def compare_runs(runs: Sequence[tuple[Path, RunResult]]) -> list[ComparisonRow]:
    """Return one row for each experiment, in the order of its first run; folds of one experiment share a row."""
    experiments: dict[tuple[Any, ...], list[tuple[Path, RunResult]]] = {}
    for path, result in runs:
        repetition = 0
        while any(
            r.settings.fold == result.settings.fold for _, r in experiments.get(_experiment_key(result, repetition), [])
        ):
            repetition += 1
        experiments.setdefault(_experiment_key(result, repetition), []).append((path, result))
    return [_comparison_row(experiment) for experiment in experiments.values()]


def structure_names(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return every structure with a Dice in one of the rows, by kind and from head to foot."""
    return sorted({name for row in rows for name in row.dice}, key=anatomical_sort_key)


def _experiment_key(result: RunResult, repetition: int) -> tuple[Any, ...]:
    """Return a key that is equal for the folds of one experiment; `repetition` counts runs of the same fold."""
    settings, lists = result.settings, (tuple(result.targets), tuple(result.datasets))
    facts = (result.preset, result.init, settings.method, settings.network, settings.seed)
    return (*facts, *lists, settings.fold.partition("/")[2], repetition)


def _comparison_row(experiment: Sequence[tuple[Path, RunResult]]) -> ComparisonRow:
    results = sorted((result for _, result in experiment), key=lambda result: result.settings.fold)
    first = results[0]
    validations = [v for result in results if (v := result.best or result.last)]
    exams = [exam for validation in validations for exam in validation.exams]
    before = [result.before.score for result in results if result.before]
    names = sorted({name for validation in validations for name in validation.dice}, key=anatomical_sort_key)
    folder_name = experiment[0][0].resolve().name if len(experiment) == 1 else ""
    estimate = bootstrap_mean([exam.dice for exam in exams], [exam.patient for exam in exams])
    return ComparisonRow(
        name=first.preset or folder_name or " ".join(first.targets) or "all annotated structures",
        runs=tuple(str(path) for path, _ in experiment),
        folds=tuple(result.settings.fold for result in results if result.settings.fold),
        method=first.settings.method,
        target_count=len(first.targets),
        training_exams=fmean(result.exams["train"] for result in results),
        scored_exams=sum(len(r.best.exams) if r.best else r.exams["held_out"] for r in results),
        epochs=fmean(result.epochs for result in results),
        minutes=fmean(result.minutes for result in results),
        dice={name: fmean(v.dice[name] for v in validations if name in v.dice) for name in names},
        mean_dice=fmean(validation.score for validation in validations) if validations else None,
        interval=None if estimate.low is None or estimate.high is None else (estimate.low, estimate.high),
        before=fmean(before) if before else None,
        name_errors=sum(validation.mixed for validation in validations),
        finished=all(result.finished for result in results),
    )
