from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import sets

from lumbarseg.batch.demo import synthetic_exam as demo_exam
from lumbarseg.datasets import Dataset
from lumbarseg.inference import ModelCard
from lumbarseg.metrics.structure_names import own_label_table
from lumbarseg.training.initial_weights import InitialWeights
from lumbarseg.training.networks import PlanarUNet
from lumbarseg.training.targets import Targets
from lumbarseg.training.torch_predictor import TorchPredictor
from lumbarseg.training.validation import (
    CaseStructureScore,
    ValidationExam,
    ValidationReport,
    load_validation_exams,
    validate,
)


@pytest.fixture(scope="module")
def model() -> TorchPredictor:
    start = InitialWeights.load("shipped")
    network = PlanarUNet(start.channels, start.spec.inputs)
    network.load_state_dict(start.weights)
    return TorchPredictor(ModelCard(start.spec), network.eval(), "float32")


@pytest.fixture(scope="module")
def exam() -> ValidationExam:
    phantom_exam = demo_exam(194)
    return ValidationExam(
        "p", "p", 0, phantom_exam.image, phantom_exam.labels.array, {0: ("background",), **own_label_table()}
    )


def test_a_whole_exam_is_scored_by_name(model: TorchPredictor, exam: ValidationExam) -> None:
    torch.set_num_threads(1)
    report = validate(model, [exam], Targets())
    means = report.dataset_means(0)
    assert report.name_errors == {}
    assert means["L3"][0] > 0.85
    assert means["sacrum"][0] > 0.7
    assert report.mean_dice == pytest.approx(np.mean([row.dice for row in report.scores]))
    renamed = replace(exam, labels=_renamed(exam.labels))
    wrong = validate(model, [renamed], Targets.parse(["L3", "spine"]))
    assert wrong.name_errors == {"p": ["L3 as L4"]}
    assert wrong.dataset_means(0)["L3"][0] < 0.1
    assert wrong.dataset_means(0)["body"][0] > 0.8  # as one structure, names do not matter
    assert set(wrong.dataset_means(0)) == {"L3", "body"}


def _renamed(labels: np.ndarray) -> np.ndarray:
    """L3 called L4, and L4 called L3."""
    return np.where(labels == 3, 4, np.where(labels == 4, 3, labels)).astype(np.uint8)


def test_an_exam_in_which_nothing_can_be_named_scores_nothing(model: TorchPredictor) -> None:
    image, labels = sets.exam(0)
    report = validate(model, [ValidationExam("noise", "noise", 0, image, labels.array, sets.TABLE)], Targets())
    assert report.mean_dice == 0
    assert {row.dice for row in report.scores} == {0.0}


def test_the_score_is_a_mean_of_exams_then_of_datasets() -> None:
    def row(exam: str, group: int, name: str, dice: float) -> CaseStructureScore:
        return CaseStructureScore(exam, exam, group, name, dice, 1.0)

    rows = (row("a", 0, "L1", 1.0), row("a", 0, "L2", 0.5), row("b", 0, "L1", 0.25), row("c", 1, "L1", 0.1))
    report = ValidationReport(rows, {})
    assert report.mean_dice == pytest.approx(((0.75 + 0.25) / 2 + 0.1) / 2)
    assert report.dataset_means(0) == {"L1": (0.625, 1.0), "L2": (0.5, 1.0)}
    assert ValidationReport((), {}).mean_dice == 0


def test_held_out_exams_are_read_evenly(tmp_path: Path) -> None:
    dataset = sets.write(tmp_path / "a", train=1, val=5)
    assert [exam.name for exam in load_validation_exams([dataset], 0)] == [f"case-{n}" for n in range(1, 6)]
    assert [exam.name for exam in load_validation_exams([dataset], 3)] == ["case-1", "case-3", "case-5"]
    assert load_validation_exams([Dataset(tmp_path, "none", sets.TABLE)], 2) == []
