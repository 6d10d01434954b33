"""A batch in one process: while the network runs on one exam, others are read, prepared, measured and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

from .exam_result import ExamJob, ExamResult
from .exam_task import ExamTask

LARGE_EXAM_VOXELS = 2**25
"""From this size on no other exam is read until this one is written."""
EXAMS_AT_ONCE = 3
"""One in the network, one before and one after it: enough to keep the network busy."""
OnFailure = Callable[[ExamJob, Exception], ExamResult]


@dataclass(frozen=True)
class OverlappedExecutor:
    """Executes an ExamTask in threads of this process; the network itself runs on one exam at a time."""

    def map(self, task: ExamTask, jobs: Iterable[ExamJob], on_failure: OnFailure) -> Iterator[ExamResult]:
        """Yield the results in the order of the jobs, taken a few ahead; ModelError for an unusable model."""
        reading = Lock()
        pool = ThreadPoolExecutor(EXAMS_AT_ONCE + 1)
        running: deque[Future[ExamResult]] = deque()
        try:
            model = pool.submit(task.load_model)
            for job in jobs:
                running.append(pool.submit(_process, task, job, on_failure, reading, model))
                if len(running) == 1:
                    model.result()
                if len(running) == EXAMS_AT_ONCE:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _process(task: ExamTask, job: ExamJob, on_failure: OnFailure, reading: Lock, model: Future[Any]) -> ExamResult:
    """Read, segment and write an exam; hold `reading` while it is read, and to the end where it is large."""
    try:
        with reading:
            loaded = task.load(job)
            if isinstance(loaded, ExamResult):
                return loaded
            model.result()
            if loaded.exam.volume.array.size >= LARGE_EXAM_VOXELS:
                return task.write(job, *task.segment(loaded))
        return task.write(job, *task.segment(loaded))
    except Exception as error:
        return on_failure(job, error)
