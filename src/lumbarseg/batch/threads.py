"""A batch in one process: beside the segmenting of one exam the next is read, and the one before drawn and written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from . import exam_task as works
from .exam_result import StageTimer
from .exam_task import BatchConfig, ExamResult, PreparedExam
from .jobs import ExamJob

if TYPE_CHECKING:
    from lumbarseg.inference import Model
    from lumbarseg.segmentation import Segmentation

LARGE_EXAM_VOXELS = 2**25
"""Voxels of an exam from which on it is alone in memory: nothing is read or written beside it."""


def map_pipelined(
    config: BatchConfig, jobs: Iterator[ExamJob], model: Future[Model], pool: ThreadPoolExecutor, clock: StageTimer
) -> Iterator[ExamResult]:
    """What becomes of each exam, in their order; jobs are taken one ahead."""
    writing: Future[ExamResult] | None = None
    coming = _read(config, jobs, pool, clock)
    while coming:
        job, reading = coming
        got = reading.result()
        del reading, coming
        large = isinstance(got, PreparedExam) and got.exam.volume.array.size >= LARGE_EXAM_VOXELS
        coming = None if large else _read(config, jobs, pool, clock)
        if large and writing:
            yield writing.result()
            writing = None
        found = _segment(config, job, got, model.result(), clock) if isinstance(got, PreparedExam) else got
        if writing:
            yield writing.result()
        writing = pool.submit(_write, config, job, got, found, model, clock)
        del got, found
        if large:
            yield writing.result()
            writing = None
            coming = _read(config, jobs, pool, clock)
    if writing:
        yield writing.result()
    model.result()  # what is wrong with it is told, even where nobody needed it


def _read(
    work: BatchConfig, jobs: Iterator[ExamJob], pool: ThreadPoolExecutor, clock: StageTimer
) -> tuple[ExamJob, Future[PreparedExam | ExamResult]] | None:
    """The next exam, being read; None after the last."""
    job = next(jobs, None)
    if job is None:
        return None
    return job, pool.submit(lambda: works.catch_errors(job, lambda: works.load_exam(work, job, clock)))


def _segment(
    work: BatchConfig, job: ExamJob, got: PreparedExam, model: Model, clock: StageTimer
) -> Segmentation | ExamResult:
    found: Segmentation | ExamResult = works.catch_errors(job, lambda: works.segment_exam(work, job, got, model, clock))
    return found


def _write(
    work: BatchConfig,
    job: ExamJob,
    got: PreparedExam | ExamResult,
    found: Segmentation | ExamResult,
    model: Future[Model],
    clock: StageTimer,
) -> ExamResult:
    if isinstance(got, ExamResult):
        return got
    if isinstance(found, ExamResult):
        return found
    outcome: ExamResult = works.catch_errors(
        job, lambda: works.write_result(work, job, got, found, model.result(), clock)
    )
    return outcome
