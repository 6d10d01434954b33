"""A batch in one process: the next exam is read and the one before is written while the network works on this one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from . import work as works
from .answers import Clock
from .jobs import Job
from .work import Outcome, Read, Work

if TYPE_CHECKING:
    from lumbarseg.model import Model

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
        given = _answer(work, job, got, model.result(), clock) if isinstance(got, Read) else got
        if writing:
            yield writing.result()
        writing = pool.submit(_write, work, job, got, given, clock)
        del got, given
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


def _answer(work: Work, job: Job, got: Read, model: Model, clock: Clock) -> Any:
    return works.safely(job, lambda: works.answer(work, job, got, model, clock))


def _write(work: Work, job: Job, got: Read | Outcome, given: Any, clock: Clock) -> Outcome:
    if isinstance(given, Outcome) or isinstance(got, Outcome):
        return given
    outcome: Outcome = works.safely(job, lambda: works.write(work, job, got, given, clock))
    return outcome
