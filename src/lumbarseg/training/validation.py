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

from lumbarseg.datasets.dataset import Dataset, read_case
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.errors import SegmentError
from lumbarseg.inference import ModelCard
from lumbarseg.metrics.overlap import StructureScore, find_wrong_names, score_structures
from lumbarseg.segmentation import segment
from lumbarseg.volume import Array, Volume

from .partial_annotations import make_zones_explicit
from .precision import autocast, to_channels_last
from .targets import Targets

_MAX_WORST_CASES = 3  # of the worst exams


@dataclass(frozen=True, eq=False)
class ValidationExam:
    """A held-out exam. labels: (I, J, K) uint8, values of `table`; group: of which dataset."""

    name: str
    dataset_index: int
    image: Volume
    labels: Array
    table: LabelTable


@dataclass(frozen=True)
class CaseStructureScore:
    """One structure of one exam. dice: by name; ratio: found to drawn volume."""

    exam: str
    dataset_index: int
    name: str
    dice: float
    volume_ratio: float


@dataclass(frozen=True, eq=False)
class WorstCase:
    """An exam that came out badly. found: (I, J, K) uint8, the package's values; dice: mean; wrong: mixed-up names."""

    exam: ValidationExam
    prediction: Array
    dice: float
    name_errors: tuple[str, ...]


@dataclass(frozen=True)
class ValidationReport:
    """A validation. wrong: names that were mixed up, per exam, "L4 as L5"; worst: few exams, the worst first."""

    scores: tuple[CaseStructureScore, ...]
    name_errors: dict[str, list[str]]
    worst_cases: tuple[WorstCase, ...] = field(default=(), compare=False)

    @property
    def mean_dice(self) -> float:
        """Mean Dice of the targets, first over each exam, then over each dataset, then over the datasets."""
        groups: dict[int, dict[str, list[float]]] = {}
        for row in self.scores:
            groups.setdefault(row.dataset_index, {}).setdefault(row.exam, []).append(row.dice)
        exams = [[float(np.mean(dices)) for dices in group.values()] for group in groups.values()]
        return float(np.mean([np.mean(group) for group in exams])) if exams else 0.0

    @property
    def summary_line(self) -> str:
        """The score and the names that were mixed up, for a person."""
        mixed = "".join(f"; {exam}: {', '.join(names)}" for exam, names in self.name_errors.items())
        return f"mean Dice of held-out exams {self.mean_dice:.4f}{mixed}"

    def dataset_means(self, dataset_index: int) -> dict[str, tuple[float, float]]:
        """Structure to mean Dice and mean volume ratio over the exams of a dataset."""
        rows = [row for row in self.scores if row.dataset_index == dataset_index]
        names = dict.fromkeys(row.name for row in rows)
        return {name: _mean_dice_and_ratio([row for row in rows if row.name == name]) for name in names}

    def dice_by_structure(self) -> dict[str, float]:
        """Structure to mean Dice, first over the exams of each dataset, then over the datasets."""
        groups = [self.dataset_means(group) for group in sorted({row.dataset_index for row in self.scores})]
        names = dict.fromkeys(name for means in groups for name in means)
        return {name: float(np.mean([means[name][0] for means in groups if name in means])) for name in names}

    def exam_rows(self) -> list[dict[str, Any]]:
        """Each exam with its number of dataset, mean Dice and mixed-up names, as plain values."""
        dices: dict[tuple[int, str], list[float]] = {}
        for row in self.scores:
            dices.setdefault((row.dataset_index, row.exam), []).append(row.dice)
        return [
            {"exam": exam, "group": group, "dice": float(np.mean(values)), "wrong": self.name_errors.get(exam, [])}
            for (group, exam), values in dices.items()
        ]


@dataclass(frozen=True, eq=False)
class TorchPredictor:
    """A network in training, answering as a model file would."""

    card: ModelCard
    network: nn.Module
    precision: str

    @torch.no_grad()
    def run(self, windows: Array) -> Array:
        """windows: (N, inputs, A, S) float32 to (N, classes, A, S) float32; (N, 1, D, A, S) where it has depth."""
        where = next(self.network.parameters()).device
        images = to_channels_last(torch.from_numpy(np.ascontiguousarray(windows)).to(where))
        with autocast(self.precision, where):
            return self.network(images).float().cpu().numpy()


def load_validation_exams(datasets: Sequence[Dataset], max_per_dataset: int) -> list[ValidationExam]:
    """The held-out exams; most: at most so many per dataset, spread evenly, 0 for all."""
    out = []
    for group, dataset in enumerate(datasets):
        cases = dataset.cases("val")
        if max_per_dataset and len(cases) > max_per_dataset:
            cases = [cases[i] for i in np.linspace(0, len(cases) - 1, max_per_dataset).astype(int)]
        for case in cases:
            image, labels = read_case(case)
            out.append(ValidationExam(case.name, group, image, *make_zones_explicit(labels.array, case.label_table)))
    return out


def validate(model: TorchPredictor, exams: Sequence[ValidationExam], targets: Targets) -> ValidationReport:
    """Segment each exam and score the targets, or everything where there are none."""
    results: list[CaseStructureScore] = []
    wrong: dict[str, list[str]] = {}
    worst: list[WorstCase] = []
    for exam in exams:
        found = _segment_or_empty(model, exam)
        rows = list(_score_exam(found, exam, targets))
        own = [
            CaseStructureScore(exam.name, exam.dataset_index, row.name, row.dice, row.volume_ratio)
            for row in rows
            if row.dice is not None and row.volume_ratio is not None
        ]
        results += own
        wrong[exam.name] = find_wrong_names(rows)
        if own:
            poor = WorstCase(exam, found, float(np.mean([row.dice for row in own])), tuple(wrong[exam.name]))
            worst = sorted([*worst, poor], key=lambda one: one.dice)[:_MAX_WORST_CASES]
    return ValidationReport(tuple(results), {name: rows for name, rows in wrong.items() if rows}, tuple(worst))


def _segment_or_empty(model: TorchPredictor, exam: ValidationExam) -> Array:
    try:
        return segment(exam.image, model).labels.array
    except SegmentError:
        return np.zeros(exam.labels.shape, np.uint8)


def _score_exam(prediction: Array, exam: ValidationExam, targets: Targets) -> Iterator[StructureScore]:
    for table in targets.scoring_tables(exam.table):
        if table:
            yield from score_structures(prediction, exam.labels, table)


def _mean_dice_and_ratio(rows: Sequence[CaseStructureScore]) -> tuple[float, float]:
    return float(np.mean([row.dice for row in rows])), float(np.mean([row.volume_ratio for row in rows]))
