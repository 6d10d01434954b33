from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import sets

from lumbarseg.cli.demo import exam as demo_exam
from lumbarseg.datasets import Dataset
from lumbarseg.model import Card
from lumbarseg.score import every_name
from lumbarseg.train.networks import PlanarUNet
from lumbarseg.train.targets import Targets
from lumbarseg.train.validate import Answering, Exam, Report, Result, read, validate
from lumbarseg.train.weights import Start


@pytest.fixture(scope="module")
def model() -> Answering:
    start = Start.of("shipped")
    network = PlanarUNet(start.channels, start.spec.inputs)
    network.load_state_dict(start.weights)
    return Answering(Card(start.spec), network.eval(), "float32")


@pytest.fixture(scope="module")
def exam() -> Exam:
    drawn = demo_exam(193)
    return Exam("p", 0, drawn.image, drawn.labels.array, {0: ("background",), **every_name()})


def test_a_whole_exam_is_scored_by_name(model: Answering, exam: Exam) -> None:
    torch.set_num_threads(1)
    report = validate(model, [exam], Targets())
    means = report.means(0)
    assert report.wrong == {}
    assert means["L3"][0] > 0.85
    assert means["sacrum"][0] > 0.7
    assert report.score == pytest.approx(np.mean([row.dice for row in report.results]))
    shifted = replace(exam, labels=_renamed(exam.labels))
    wrong = validate(model, [shifted], Targets.of(["L3", "spine"]))
    assert wrong.wrong == {"p": ["L3 as L4"]}
    assert wrong.means(0)["L3"][0] < 0.1
    assert wrong.means(0)["body"][0] > 0.8  # as one tag, names do not matter
    assert set(wrong.means(0)) == {"L3", "body"}


def _renamed(labels: np.ndarray) -> np.ndarray:
    """L3 called L4, and L4 called L3."""
    return np.where(labels == 3, 4, np.where(labels == 4, 3, labels)).astype(np.uint8)


def test_an_exam_in_which_nothing_can_be_named_scores_nothing(model: Answering) -> None:
    image, labels = sets.exam(0)
    report = validate(model, [Exam("noise", 0, image, labels.array, sets.TABLE)], Targets())
    assert report.score == 0
    assert {row.dice for row in report.results} == {0.0}


def test_the_score_is_a_mean_of_exams_then_of_datasets() -> None:
    def row(exam: str, group: int, name: str, dice: float) -> Result:
        return Result(exam, group, name, dice, 1.0)

    rows = (row("a", 0, "L1", 1.0), row("a", 0, "L2", 0.5), row("b", 0, "L1", 0.25), row("c", 1, "L1", 0.1))
    report = Report(rows, {})
    assert report.score == pytest.approx(((0.75 + 0.25) / 2 + 0.1) / 2)
    assert report.means(0) == {"L1": (0.625, 1.0), "L2": (0.5, 1.0)}
    assert Report((), {}).score == 0


def test_held_out_exams_are_read_evenly(tmp_path: Path) -> None:
    dataset = sets.write(tmp_path / "a", train=1, val=5)
    assert [exam.name for exam in read([dataset], 0)] == [f"case-{n}" for n in range(1, 6)]
    assert [exam.name for exam in read([dataset], 3)] == ["case-1", "case-3", "case-5"]
    assert read([Dataset(tmp_path, "none", sets.TABLE)], 2) == []
