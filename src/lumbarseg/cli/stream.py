"""A batch in one process: beside the segmenting of one exam the next is read, and the one before drawn and written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from . import work as works
from .answers import Clock
from .jobs import Job
from .work import Outcome, Read, Work

if TYPE_CHECKING:
    from lumbarseg.model import Model
    from lumbarseg.segment import Segmentation

LARGE = 2**25
"""Voxels of an exam from which on it is alone in memory: nothing is read or written beside it."""


def each(
    work: Work, jobs: Iterator[Job], model: Future[Model], pool: ThreadPoolExecutor, clock: Clock
) -> Iterator[Outcome]:
    """What becomes of each exam, in their order; jobs are taken one ahead."""
    writing: Future[Outcome] | None = None
    coming = _read(work, jobs, pool, clock)
    while coming:
        job, reading = coming
        got = reading.result()
        del reading, coming
        large = isinstance(got, Read) and got.exam.volume.array.size >= LARGE
        coming = None if large else _read(work, jobs, pool, clock)
        if large and writing:
            yield writing.result()
            writing = None
        found = _segment(work, job, got, model.result(), clock) if isinstance(got, Read) else got
        if writing:
            yield writing.result()
        writing = pool.submit(_write, work, job, got, found, model, clock)
        del got, found
        if large:
            yield writing.result()
            writing = None
            coming = _read(work, jobs, pool, clock)
    if writing:
        yield writing.result()
    model.result()  # what is wrong with it is told, even where nobody needed it


def _read(
    work: Work, jobs: Iterator[Job], pool: ThreadPoolExecutor, clock: Clock
) -> tuple[Job, Future[Read | Outcome]] | None:
    """The next exam, being read; None after the last."""
    job = next(jobs, None)
    if job is None:
        return None
    return job, pool.submit(lambda: works.safely(job, lambda: works.read(work, job, clock)))


def _segment(work: Work, job: Job, got: Read, model: Model, clock: Clock) -> Segmentation | Outcome:
    found: Segmentation | Outcome = works.safely(job, lambda: works.segment(work, job, got, model, clock))
    return found


def _write(
    work: Work, job: Job, got: Read | Outcome, found: Segmentation | Outcome, model: Future[Model], clock: Clock
) -> Outcome:
    if isinstance(got, Outcome):
        return got
    if isinstance(found, Outcome):
        return found
    outcome: Outcome = works.safely(job, lambda: works.write(work, job, got, found, model.result(), clock))
    return outcome
