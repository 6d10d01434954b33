"""Exams that are processed at once: results in order, few exams ahead, large ones alone, one load of the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import numpy as np
import pytest

from lumbarseg.batch import overlapped
from lumbarseg.batch.exam_result import ExamJob, ExamResult, failed_result
from lumbarseg.batch.exam_task import ExamInput, StageTimer
from lumbarseg.batch.overlapped import EXAMS_AT_ONCE, OverlappedExecutor
from lumbarseg.errors import ModelError, SegmentError
from lumbarseg.io import LoadedExam
from lumbarseg.volume import Volume


class CountingTask:
    """Stands in for an ExamTask; `together`: exams that must be segmented at the same time."""

    def __init__(self, together: int = 1) -> None:
        self.lock, self.barrier = Lock(), Barrier(together)
        self.running = self.most = self.models = 0

    def load_model(self) -> None:
        """Count the calls."""
        self.models += 1

    def load(self, job: ExamJob) -> ExamInput:
        """Return an exam of 8 voxels; count those that are in memory."""
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        return ExamInput(LoadedExam(Volume(np.zeros((2, 2, 2)), np.eye(4)), [], {}, job.path), "", StageTimer())

    def segment(self, loaded: ExamInput) -> tuple[ExamInput, Any]:
        """Wait for the others; fail for the exam "bad"."""
        self.barrier.wait(timeout=20)
        if loaded.exam.path.name == "bad":
            with self.lock:
                self.running -= 1
            raise SegmentError("no spine")
        return loaded, None

    def write(self, job: ExamJob, *_: object) -> ExamResult:
        """Return an empty result."""
        with self.lock:
            self.running -= 1
        return ExamResult(job.name)


def run(task: Any, names: list[str]) -> list[ExamResult]:
    """Process exams of these names."""
    return list(OverlappedExecutor().map(task, (ExamJob(Path(name), name) for name in names), failed_result))


def test_results_come_in_order_and_an_error_is_a_result() -> None:
    results = run(CountingTask(), ["a", "bad", "c", "d"])
    assert [result.exam for result in results] == ["a", "bad", "c", "d"]
    assert [bool(result.error) for result in results] == [False, True, False, False]


def test_exams_are_segmented_at_the_same_time_with_one_model() -> None:
    task = CountingTask(together=EXAMS_AT_ONCE)
    assert len(run(task, [str(number) for number in range(2 * EXAMS_AT_ONCE)])) == 2 * EXAMS_AT_ONCE
    assert (task.most, task.models) == (EXAMS_AT_ONCE, 1)


def test_large_exams_are_alone_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlapped, "LARGE_EXAM_VOXELS", 8)
    task = CountingTask()
    run(task, [str(number) for number in range(6)])
    assert task.most == 1


def test_few_exams_are_taken_ahead() -> None:
    taken = []

    def jobs() -> Iterator[ExamJob]:
        for number in range(20):
            taken.append(number)
            yield ExamJob(Path(str(number)), str(number))

    task: Any = CountingTask()
    for done, _ in enumerate(OverlappedExecutor().map(task, jobs(), failed_result), start=1):
        assert len(taken) < done + EXAMS_AT_ONCE


def test_an_unusable_model_ends_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise ModelError("damaged")

    monkeypatch.setattr(CountingTask, "load_model", refuse)
    with pytest.raises(ModelError, match="damaged"):
        run(CountingTask(), ["a", "b"])
