"""How good a network is on validation exams: whole exams through the whole pipeline, scored by name.

This measures what a user would get: preprocessed, predicted, separated into instances, named. An exam in which no level
can be named scores 0; structures that its source does not annotate do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lumbarseg.datasets.dataset import Dataset, read_case
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.datasets.splits import patient_id
from lumbarseg.errors import SegmentError
from lumbarseg.metrics.overlap import StructureScore, find_wrong_names, score_structures
from lumbarseg.segmentation import segment
from lumbarseg.volume import Array, Volume

from .partial_annotations import make_zones_explicit
from .run_result import ExamScore, ValidationScores
from .targets import Targets
from .torch_predictor import TorchPredictor

_MAX_WORST_CASES = 3
_MAX_SHOWN_NAMES = 3  # of wrong ones per exam, in one line


@dataclass(frozen=True, eq=False)
class ValidationExam:
    """A validation exam. dataset_index: of its dataset; labels: (I, J, K) uint8, values of `table`."""

    name: str
    patient: str
    dataset_index: int
    image: Volume
    labels: Array
    table: LabelTable


@dataclass(frozen=True)
class CaseStructureScore:
    """One structure of one exam.

    dataset_index: of the training datasets; dice: of the voxels with this name; volume_ratio: predicted to annotated.
    """

    exam: str
    patient: str
    dataset_index: int
    name: str
    dice: float
    volume_ratio: float


@dataclass(frozen=True, eq=False)
class WorstCase:
    """A validation exam with a low score. prediction: (I, J, K) uint8, labels of this package."""

    exam: ValidationExam
    prediction: Array
    dice: float
    name_errors: tuple[str, ...]


@dataclass(frozen=True)
class ValidationReport:
    """A validation. name_errors: wrong level names of each exam that has any; worst_cases: the worst exam first."""

    scores: tuple[CaseStructureScore, ...]
    name_errors: dict[str, list[str]]
    worst_cases: tuple[WorstCase, ...] = field(default=(), compare=False)

    @property
    def mean_dice(self) -> float:
        """Return the mean Dice of `settings.targets`: of each exam, then over a dataset's exams, then over datasets."""
        exams = self.exam_scores()
        datasets = sorted({exam.group for exam in exams})
        return _mean(_mean(exam.dice for exam in exams if exam.group == index) for index in datasets)

    def scores_at(self, step: int, seconds: float) -> ValidationScores:
        """Return the scores as those after `step` steps and `seconds` of training."""
        exams, mixed = self.exam_scores(), len(self.name_errors)
        return ValidationScores(step, seconds, self.mean_dice, mixed, self.dice_by_structure(), exams)

    @property
    def summary_line(self) -> str:
        """Return the score and the wrong level names as text."""
        wrong = "".join(f"; {exam}: {_shortened(names)}" for exam, names in self.name_errors.items())
        return f"mean Dice of validation exams {self.mean_dice:.4f}{wrong}"

    def dataset_means(self, dataset_index: int) -> dict[str, tuple[float, float]]:
        """Return the mean Dice and the mean volume ratio of each structure over the exams of a dataset."""
        rows: dict[str, list[CaseStructureScore]] = {}
        for row in self.scores:
            if row.dataset_index == dataset_index:
                rows.setdefault(row.name, []).append(row)
        return {n: (_mean(r.dice for r in own), _mean(r.volume_ratio for r in own)) for n, own in rows.items()}

    def dice_by_structure(self) -> dict[str, float]:
        """Return the mean Dice of each structure, first over the exams of each dataset, then over the datasets."""
        datasets = [self.dataset_means(index) for index in sorted({row.dataset_index for row in self.scores})]
        names = dict.fromkeys(name for means in datasets for name in means)
        return {name: _mean(means[name][0] for means in datasets if name in means) for name in names}

    def exam_scores(self) -> list[ExamScore]:
        """Return the score of each exam."""
        dices: dict[tuple[str, str, int], list[float]] = {}
        for row in self.scores:
            dices.setdefault((row.exam, row.patient, row.dataset_index), []).append(row.dice)
        return [ExamScore(*key, _mean(values), self.name_errors.get(key[0], [])) for key, values in dices.items()]


def load_validation_exams(datasets: Sequence[Dataset], max_per_dataset: int) -> list[ValidationExam]:
    """Load the validation exams: at most `max_per_dataset` of each dataset, spread evenly, 0 for all."""
    exams = []
    for index, dataset in enumerate(datasets):
        cases = dataset.cases("val")
        if max_per_dataset and len(cases) > max_per_dataset:
            cases = [cases[i] for i in np.linspace(0, len(cases) - 1, max_per_dataset).astype(int)]
        for case in cases:
            image, labels = read_case(case)
            labels_and_table = make_zones_explicit(labels.array, case.label_table)
            exams.append(ValidationExam(case.name, patient_id(case), index, image, *labels_and_table))
    return exams


def validate(model: TorchPredictor, exams: Sequence[ValidationExam], targets: Targets) -> ValidationReport:
    """Segment each exam and score the targets, or every annotated structure where there are no targets."""
    scores: list[CaseStructureScore] = []
    name_errors: dict[str, list[str]] = {}
    worst: list[WorstCase] = []
    for exam in exams:
        prediction = _segment_or_empty(model, exam)
        rows = list(_score_exam(prediction, exam, targets))
        own = [
            CaseStructureScore(exam.name, exam.patient, exam.dataset_index, row.name, row.dice, row.volume_ratio)
            for row in rows
            if row.dice is not None and row.volume_ratio is not None
        ]
        wrong = find_wrong_names(rows)
        if wrong:
            name_errors[exam.name] = wrong
        if own:
            case = WorstCase(exam, prediction, _mean(row.dice for row in own), tuple(wrong))
            worst = sorted([*worst, case], key=lambda case: case.dice)[:_MAX_WORST_CASES]
        scores += own
    return ValidationReport(tuple(scores), name_errors, tuple(worst))


def _segment_or_empty(model: TorchPredictor, exam: ValidationExam) -> Array:
    try:
        return segment(exam.image, model).labels.array
    except SegmentError:
        return np.zeros(exam.labels.shape, np.uint8)


def _score_exam(prediction: Array, exam: ValidationExam, targets: Targets) -> Iterator[StructureScore]:
    for table in targets.scoring_tables(exam.table):
        if table:
            yield from score_structures(prediction, exam.labels, table)


def _shortened(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = [f"{len(names) - _MAX_SHOWN_NAMES} more"] * (len(names) > _MAX_SHOWN_NAMES)
    return ", ".join([*names[:_MAX_SHOWN_NAMES], *more])


def _mean(values: Iterable[float]) -> float:
    """Return the mean, 0 of no values."""
    numbers = list(values)
    return float(np.mean(numbers)) if numbers else 0.0
