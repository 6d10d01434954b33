"""Run a batch: find the exams, segment each by the executor that was asked for, report what became of each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lumbarseg.clicks import Click, parse_clicks
from lumbarseg.cpus import available_cpus
from lumbarseg.errors import FileError, LumbarsegError, SegmentError
from lumbarseg.executors import DaskExecutor, ProcessExecutor
from lumbarseg.inference import default_model_path
from lumbarseg.inference.model import read_card
from lumbarseg.io import atomic_write
from lumbarseg.io.file_access import open_for_reading

from .exam_result import ExamResult, failed_result
from .exam_task import ExamTask
from .jobs import ExamJob, find_jobs
from .options import BatchOptions
from .overlapped import OverlappedExecutor
from .remote_exams import fetched_exams, store_result
from .summary import JsonLinesWriter, open_json_lines, write_table

_PROBE_BYTES = 2**20  # must fit on a disk that was full before the next exam is started


class BatchRun:
    """One run of a batch; whatever happens to one exam, the others go on.

    Attributes
    ----------
    exam_count : number of exams, known when the first result is there
    rows : the results as plain values, in the order of the exams once all are there
    stage_seconds : time of each stage, summed over the exams
    not_started : exams that were not started because the disk was full
    log_failure : why the file of JSON lines is not complete
    """

    def __init__(self, options: BatchOptions) -> None:
        self.options = options
        self.exam_count = 0
        self.rows: list[dict[str, Any]] = []
        self.stage_seconds: dict[str, float] = {}
        self.not_started: list[ExamJob] = []
        self.log_failure: FileError | None = None
        self._is_disk_full = False

    def results(self) -> Iterator[ExamResult]:
        """Yield the result of each exam as soon as it is there."""
        with fetched_exams(self.options) as (sources, folder), open_json_lines(self.options.jsonl) as log:
            jobs = list(find_jobs(sources, folder, self.options.exam.formats))
            self.exam_count, by_name = len(jobs), {job.name: job for job in jobs}
            task = self._create_task(len(jobs))
            for result in self._execute(task, self._startable(jobs, folder)):
                self._is_disk_full |= result.is_disk_full
                keep_files = self.options.output_dir is not None
                stored = store_result(result, by_name[result.exam], keep_files) if self.options.store else result
                yield self._add(stored, log)
            for job in self.not_started:
                failed = failed_result(job, FileError("not started: the disk is full"))
                yield self._add(replace(failed, was_started=False), log)
            self.log_failure = log.failure if log else None
        self.stage_seconds["model"] = task.load_model()[1]
        order = {name: index for index, name in enumerate(by_name)}
        self.rows.sort(key=lambda row: order[row["exam"]])
        if self.options.table:
            write_table(self.rows, self.options.table)

    def _create_task(self, exam_count: int) -> ExamTask:
        """Return what is done with each exam; the model's digest is checked, but no engine is started yet."""
        options = self.options
        model = options.model or default_model_path()
        if options.clicks_file and exam_count > 1:
            raise SegmentError(
                f"{options.clicks_file}: clicks belong to one exam, and {exam_count} are given; name that one"
            )
        exam_options = replace(options.exam, clicks=_read_clicks(options.clicks_file))
        digest, run_id = read_card(model).digest, secrets.token_hex(8)
        return ExamTask(exam_options, model, digest, options.device, exam_count, 0, options.overwrite, run_id)

    def _execute(self, task: ExamTask, jobs: Iterator[ExamJob]) -> Iterator[ExamResult]:
        """Segment the exams with the executor that was asked for; the cores of this computer are shared among workers."""
        options = self.options
        if not (options.jobs or options.cluster):
            return OverlappedExecutor().map(task, jobs, failed_result)
        task.load_model()  # whatever is wrong with the model is reported once, and here
        if options.cluster:
            remote_task = replace(task, model_path=task.model_path.absolute(), threads=available_cpus())
            return DaskExecutor(options.cluster).map(remote_task, (job.absolute() for job in jobs), failed_result)
        workers = min(options.jobs or 1, self.exam_count)
        task = replace(task, threads=max(1, available_cpus() // workers))
        return ProcessExecutor(workers, in_order=False).map(task, jobs, failed_result)

    def _startable(self, jobs: Sequence[ExamJob], folder: Path) -> Iterator[ExamJob]:
        """Yield each job when its turn comes; after the disk was full, only while there is space again."""
        for job in jobs:
            self._is_disk_full = self._is_disk_full and not _has_space(folder)
            if self._is_disk_full:
                self.not_started.append(job)
            else:
                yield job

    def _add(self, result: ExamResult, log: JsonLinesWriter | None) -> ExamResult:
        """Keep a result and write its line."""
        self.rows.append(result.to_dict())
        if log:
            log.write_row(self.rows[-1])
        for stage, seconds in result.stage_seconds.items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds
        return result


def _read_clicks(path: Path | None) -> tuple[Click, ...]:
    """Return the clicks of a file; none without one."""
    if path is None:
        return ()
    with open_for_reading(path) as stream:
        return parse_clicks(stream.read().decode("utf-8", "replace"), str(path))


def _has_space(folder: Path) -> bool:
    """Return whether another megabyte fits into a folder."""
    probe = folder / ".lumbarseg-space-probe"
    try:
        with atomic_write(probe) as file:
            file.write(bytes(_PROBE_BYTES))
        probe.unlink()
    except (LumbarsegError, OSError):
        return False
    return True
