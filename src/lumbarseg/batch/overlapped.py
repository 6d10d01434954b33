"""A batch in one process: while one exam is segmented, the next one is read and the one before is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from lumbarseg.segmentation import Segmentation

from .exam_result import ExamJob, ExamResult
from .exam_task import ExamInput, ExamTask

LARGE_EXAM_VOXELS = 2**25
"""From this size on an exam is alone in memory: nothing is read or written at the same time."""
OnFailure = Callable[[ExamJob, Exception], ExamResult]


@dataclass(frozen=True)
class OverlappedExecutor:
    """Executes an ExamTask in threads of this process. Segmenting stays in the calling thread."""

    def map(self, task: ExamTask, jobs: Iterable[ExamJob], on_failure: OnFailure) -> Iterator[ExamResult]:
        """Yield the results in the order of the jobs, which are taken one ahead; ModelError for an unusable model."""
        remaining = iter(jobs)
        pool = ThreadPoolExecutor(3)
        try:
            model = pool.submit(task.load_model)
            writing: Future[ExamResult] | None = None
            reading = pool.submit(_read_next, task, remaining, on_failure)
            model.result()
            while read := reading.result():
                job, loaded = read
                is_large = isinstance(loaded, ExamInput) and loaded.exam.volume.array.size >= LARGE_EXAM_VOXELS
                if not is_large:
                    reading = pool.submit(_read_next, task, remaining, on_failure)
                elif writing:
                    yield writing.result()
                    writing = None
                result: ExamResult | tuple[ExamInput, Segmentation]
                if isinstance(loaded, ExamInput):
                    try:
                        result = task.segment(loaded)
                    except Exception as error:
                        result = on_failure(job, error)
                else:
                    result = loaded
                if writing:
                    yield writing.result()
                writing = pool.submit(_write, task, job, result, on_failure)
                del read, loaded, result  # the exam is freed as soon as it is written
                if is_large:
                    yield writing.result()
                    writing = None
                    reading = pool.submit(_read_next, task, remaining, on_failure)
            if writing:
                yield writing.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read_next(
    task: ExamTask, jobs: Iterator[ExamJob], on_failure: OnFailure
) -> tuple[ExamJob, ExamInput | ExamResult] | None:
    """Read the next exam; return None after the last."""
    job = next(jobs, None)
    if job is None:
        return None
    try:
        return job, task.load(job)
    except Exception as error:
        return job, on_failure(job, error)


def _write(
    task: ExamTask, job: ExamJob, result: ExamResult | tuple[ExamInput, Segmentation], on_failure: OnFailure
) -> ExamResult:
    if isinstance(result, ExamResult):
        return result
    try:
        return task.write(job, *result)
    except Exception as error:
        return on_failure(job, error)
