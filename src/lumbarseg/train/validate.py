"""How good a network is on held-out exams: whole exams through the whole pipeline, scored by name.

What is measured is what a person would get: prepared, answered, taken apart, named. An exam in which nothing can be
named scores 0; what its source did not draw counts neither way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lumbarseg.datasets.folder import Dataset, Table, read_case
from lumbarseg.errors import SegmentError
from lumbarseg.model import Card
from lumbarseg.score import Score, score, wrong_names
from lumbarseg.segment import segment
from lumbarseg.volume import Array, Volume

from .precision import autocast
from .targets import Targets
from .undrawn import explicit


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


@dataclass(frozen=True)
class Report:
    """A validation. wrong: names that were mixed up, per exam, "L4 as L5"."""

    results: tuple[Result, ...]
    wrong: dict[str, list[str]]

    @property
    def score(self) -> float:
        """Mean Dice of the targets, first over each exam, then over each dataset, then over the datasets."""
        groups: dict[int, dict[str, list[float]]] = {}
        for row in self.results:
            groups.setdefault(row.group, {}).setdefault(row.exam, []).append(row.dice)
        exams = [[float(np.mean(dices)) for dices in group.values()] for group in groups.values()]
        return float(np.mean([np.mean(group) for group in exams])) if exams else 0.0

    def means(self, group: int) -> dict[str, tuple[float, float]]:
        """Structure to mean Dice and mean volume ratio over the exams of a dataset."""
        rows = [row for row in self.results if row.group == group]
        names = dict.fromkeys(row.name for row in rows)
        return {name: _mean([row for row in rows if row.name == name]) for name in names}


@dataclass(frozen=True, eq=False)
class Answering:
    """A network in training, answering as a model file would."""

    card: Card
    network: nn.Module
    precision: str

    @torch.no_grad()
    def run(self, windows: Array) -> Array:
        """windows: (N, 2 * neighbours + 1, A, S) float32 to (N, classes, A, S) float32."""
        where = next(self.network.parameters()).device
        images = torch.from_numpy(np.ascontiguousarray(windows)).to(where, memory_format=torch.channels_last)
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
    for exam in exams:
        rows = list(_rows(_found(model, exam), exam, targets))
        results += [
            Result(exam.name, exam.group, row.name, row.dice, row.ratio)
            for row in rows
            if row.dice is not None and row.ratio is not None
        ]
        wrong[exam.name] = wrong_names(rows)
    return Report(tuple(results), {name: rows for name, rows in wrong.items() if rows})


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
