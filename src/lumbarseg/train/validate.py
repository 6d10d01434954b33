"""How good a network is on held-out exams: whole exams through the whole pipeline, scored by name.

What is measured is what a person would get: prepared, answered, taken apart, named. An exam in which nothing can be
named scores 0; what its source did not draw counts neither way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from lumbarseg.datasets.folder import Dataset, Table, read_case
from lumbarseg.errors import SegmentError
from lumbarseg.model import Card
from lumbarseg.score import Score, score, wrong_names
from lumbarseg.segment import segment
from lumbarseg.volume import Array, Volume

from .precision import autocast, laid
from .targets import Targets
from .undrawn import explicit

_SHOWN = 3  # of the worst exams


@dataclass(frozen=True, eq=False)
class Exam:
    """A held-out exam. labels: (I, J, K) uint8, values of `table`; group: of which dataset."""

    name: str
    group: int
    image: Volume
    labels: Array
    table: Table


@dataclass(frozen=True)
class Result:
    """One structure of one exam. dice: by name; ratio: found to drawn volume."""

    exam: str
    group: int
    name: str
    dice: float
    ratio: float


@dataclass(frozen=True, eq=False)
class Poor:
    """An exam that came out badly. found: (I, J, K) uint8, the package's values; dice: mean; wrong: mixed-up names."""

    exam: Exam
    found: Array
    dice: float
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """A validation. wrong: names that were mixed up, per exam, "L4 as L5"; worst: few exams, the worst first."""

    results: tuple[Result, ...]
    wrong: dict[str, list[str]]
    worst: tuple[Poor, ...] = field(default=(), compare=False)

    @property
    def score(self) -> float:
        """Mean Dice of the targets, first over each exam, then over each dataset, then over the datasets."""
        groups: dict[int, dict[str, list[float]]] = {}
        for row in self.results:
            groups.setdefault(row.group, {}).setdefault(row.exam, []).append(row.dice)
        exams = [[float(np.mean(dices)) for dices in group.values()] for group in groups.values()]
        return float(np.mean([np.mean(group) for group in exams])) if exams else 0.0

    @property
    def told(self) -> str:
        """The score and the names that were mixed up, for a person."""
        mixed = "".join(f"; {exam}: {', '.join(names)}" for exam, names in self.wrong.items())
        return f"mean Dice of held-out exams {self.score:.4f}{mixed}"

    def means(self, group: int) -> dict[str, tuple[float, float]]:
        """Structure to mean Dice and mean volume ratio over the exams of a dataset."""
        rows = [row for row in self.results if row.group == group]
        names = dict.fromkeys(row.name for row in rows)
        return {name: _mean([row for row in rows if row.name == name]) for name in names}

    def dice(self) -> dict[str, float]:
        """Structure to mean Dice, first over the exams of each dataset, then over the datasets."""
        groups = [self.means(group) for group in sorted({row.group for row in self.results})]
        names = dict.fromkeys(name for means in groups for name in means)
        return {name: float(np.mean([means[name][0] for means in groups if name in means])) for name in names}

    def exams(self) -> list[dict[str, Any]]:
        """Each exam with its number of dataset, mean Dice and mixed-up names, as plain values."""
        dices: dict[tuple[int, str], list[float]] = {}
        for row in self.results:
            dices.setdefault((row.group, row.exam), []).append(row.dice)
        return [
            {"exam": exam, "group": group, "dice": float(np.mean(values)), "wrong": self.wrong.get(exam, [])}
            for (group, exam), values in dices.items()
        ]


@dataclass(frozen=True, eq=False)
class Answering:
    """A network in training, answering as a model file would."""

    card: Card
    network: nn.Module
    precision: str

    @torch.no_grad()
    def run(self, windows: Array) -> Array:
        """windows: (N, inputs, A, S) float32 to (N, classes, A, S) float32; (N, 1, D, A, S) where it has depth."""
        where = next(self.network.parameters()).device
        images = laid(torch.from_numpy(np.ascontiguousarray(windows)).to(where))
        with autocast(self.precision, where):
            return self.network(images).float().cpu().numpy()


def read(datasets: Sequence[Dataset], most: int) -> list[Exam]:
    """The held-out exams; most: at most so many per dataset, spread evenly, 0 for all."""
    out = []
    for group, dataset in enumerate(datasets):
        cases = dataset.cases("val")
        if most and len(cases) > most:
            cases = [cases[i] for i in np.linspace(0, len(cases) - 1, most).astype(int)]
        for case in cases:
            image, labels = read_case(case)
            out.append(Exam(case.name, group, image, *explicit(labels.array, case.table)))
    return out


def validate(model: Answering, exams: Sequence[Exam], targets: Targets) -> Report:
    """Segment each exam and score the targets, or everything where there are none."""
    results: list[Result] = []
    wrong: dict[str, list[str]] = {}
    worst: list[Poor] = []
    for exam in exams:
        found = _found(model, exam)
        rows = list(_rows(found, exam, targets))
        own = [
            Result(exam.name, exam.group, row.name, row.dice, row.ratio)
            for row in rows
            if row.dice is not None and row.ratio is not None
        ]
        results += own
        wrong[exam.name] = wrong_names(rows)
        if own:
            poor = Poor(exam, found, float(np.mean([row.dice for row in own])), tuple(wrong[exam.name]))
            worst = sorted([*worst, poor], key=lambda one: one.dice)[:_SHOWN]
    return Report(tuple(results), {name: rows for name, rows in wrong.items() if rows}, tuple(worst))


def _found(model: Answering, exam: Exam) -> Array:
    try:
        return segment(exam.image, model).labels.array
    except SegmentError:
        return np.zeros(exam.labels.shape, np.uint8)


def _rows(found: Array, exam: Exam, targets: Targets) -> Iterator[Score]:
    for table in targets.scored(exam.table):
        if table:
            yield from score(found, exam.labels, table)


def _mean(rows: Sequence[Result]) -> tuple[float, float]:
    return float(np.mean([row.dice for row in rows])), float(np.mean([row.ratio for row in rows]))
