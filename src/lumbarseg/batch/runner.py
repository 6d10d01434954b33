"""Run a batch: find the exams, segment each by the chosen executor, report each result."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from lumbarseg.clicks import parse_clicks
from lumbarseg.cpus import inference_threads
from lumbarseg.errors import FileError, LumbarsegError, SegmentError
from lumbarseg.inference import bundled_model_path, default_model_path
from lumbarseg.inference.model import read_card
from lumbarseg.io import exam_name, find_exams, list_folder, write_json
from lumbarseg.io.archives import is_archive_folder
from lumbarseg.io.dicom.reader import list_series
from lumbarseg.io.file_access import open_for_reading, to_file_error
from lumbarseg.report.exam_report import build_failure_report

from .exam_result import ExamJob, ExamResult, disk_full_result, failed_result
from .exam_task import ExamTask
from .options import BatchOptions
from .output_formats import output_paths
from .overlapped import OverlappedExecutor
from .result_record import read_report
from .summary import open_json_lines, write_overview, write_table

ALL_SERIES = "all"
"""Stands for all series of a study in the plane of the best one."""
_PROBE_BYTES = 2**20  # must fit on a disk that was full before the next exam is started
_MIN_FREE_BYTES = 2**16


@dataclass
class BatchRun:
    """One run of a batch; whatever happens to one exam, the others go on.

    Attributes
    ----------
    exam_count : number of exams, known when the first result is there
    results : of the exams, in their order once all are done
    not_started : exams that were not started because the disk was full
    log_failure : why the file of JSON lines is not complete
    model_seconds : time that loading the model took
    notes : what was not read, known when the first result is there, and what was not written
    overview : files about all exams of the output folder, "index" and "measurements"
    """

    options: BatchOptions
    exam_count: int = 0
    results: list[ExamResult] = field(default_factory=list)
    not_started: list[ExamJob] = field(default_factory=list)
    log_failure: FileError | None = None
    model_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    overview: dict[str, str] = field(default_factory=dict)
    _is_disk_full: bool = False

    def run(self) -> Iterator[ExamResult]:
        """Yield the result of each exam as soon as it is there."""
        options = self.options
        sources: Sequence[Path | ExamJob] = [source for source in options.exams if isinstance(source, Path)]
        with ExitStack() as stack:
            folder = options.output_dir
            if folder is None or options.store or len(sources) < len(options.exams):
                from .remote_exams import fetched_exams

                sources, folder = stack.enter_context(fetched_exams(options))
            for target in (folder, *([options.table.parent] if options.table else [])):
                _try_to_write(target, _MIN_FREE_BYTES)  # before anything is computed
            log = stack.enter_context(open_json_lines(options.jsonl)) if options.jsonl else None
            jobs = list(find_jobs(sources, folder, options, self.notes))
            self.exam_count, by_name = len(jobs), {job.name: job for job in jobs}
            task = self._create_task()
            not_started = (disk_full_result(job) for job in self.not_started)
            try:
                for done in chain(self._execute(task, self._startable(jobs, folder)), not_started):
                    self._is_disk_full |= done.is_disk_full
                    result = self._finish(done, by_name[done.exam])
                    self.results.append(result)
                    if log:
                        log.write_row(result.to_dict())
                    yield result
            finally:
                self._write_overview(jobs)
            self.log_failure = log.failure if log else self.log_failure
        self.model_seconds = task.load_model()[1]
        order = {name: index for index, name in enumerate(by_name)}
        self.results.sort(key=lambda result: order[result.exam])
        if options.table:
            write_table(self.results, options.table)

    def _finish(self, result: ExamResult, job: ExamJob) -> ExamResult:
        """Send a result to its server, or note why there is none in the report; keep what an earlier run made."""
        report = job.output_files.get("report")
        if result.error and report and not (result.is_disk_full or self._is_disk_full or read_report(report)):
            with suppress(FileError):  # the folder is the problem, and that is what the error says
                write_json(report, build_failure_report(job.name, result.error))
        if not self.options.store:
            return result
        from .remote_exams import store_result

        return store_result(result, job, bool(self.options.output_dir))

    def _write_overview(self, jobs: Sequence[ExamJob]) -> None:
        folder = self.options.output_dir
        if not folder or not self.results or self._is_disk_full:
            return
        try:
            self.overview, notes = write_overview(folder, jobs, self.results, self.options.exam.formats)
            self.notes += notes
        except FileError as error:
            self.log_failure = error

    def summary(self) -> str:
        """Return how many exams there are, and what became of them."""
        results = self.results
        counts = {
            "segmented": sum(not result.error and not result.skipped for result in results),
            "unchanged": sum(result.skipped for result in results),
            "failed": sum(bool(result.error) for result in results),
            "with warnings": sum(bool(result.summary.get("warnings")) for result in results),
        }
        parts = [f"{count} {name}" for name, count in counts.items() if count]
        return f"{len(results)} exams: {', '.join(parts)}"

    def _create_task(self) -> ExamTask:
        """Return what is done with each exam; the model's digest is checked, but no engine is started yet."""
        options, exam_options = self.options, self.options.exam
        if options.clicks_file and self.exam_count > 1:
            raise SegmentError(
                f"{options.clicks_file}: clicks belong to one exam, and {self.exam_count} are given; name that one"
            )
        if options.clicks_file:
            with open_for_reading(options.clicks_file) as stream:
                text = stream.read().decode("utf-8", "replace")
            exam_options = replace(exam_options, clicks=parse_clicks(text, str(options.clicks_file)))
        model = options.model or default_model_path()
        if str(model) == "shipped" and not model.exists():
            model = bundled_model_path()
        return ExamTask(
            exam_options,
            model,
            read_card(model).digest,
            options.device,
            self.exam_count,
            overwrite=options.overwrite,
            run_id=secrets.token_hex(8),
        )

    def _execute(self, task: ExamTask, jobs: Iterator[ExamJob]) -> Iterator[ExamResult]:
        """Segment the exams with the chosen executor; the cores of this computer are shared among workers."""
        options = self.options
        if not (options.jobs or options.cluster):
            return OverlappedExecutor().map(task, jobs, failed_result)
        from lumbarseg.executors import DaskExecutor, ProcessExecutor  # multiprocessing: 10 ms

        task.load_model()  # whatever is wrong with the model is reported once, and here
        if options.cluster:
            remote_task = replace(task, model_path=task.model_path.absolute(), threads=inference_threads())
            return DaskExecutor(options.cluster).map(remote_task, (job.absolute() for job in jobs), failed_result)
        workers = min(options.jobs or 1, self.exam_count)
        task = replace(task, threads=inference_threads(workers))
        return ProcessExecutor(workers, in_order=False).map(task, jobs, failed_result)

    def _startable(self, jobs: Sequence[ExamJob], folder: Path) -> Iterator[ExamJob]:
        """Yield each job when its turn comes; after the disk was full, only while there is space again."""
        for job in jobs:
            self._is_disk_full = self._is_disk_full and not _has_space(folder)
            if self._is_disk_full:
                self.not_started.append(job)
            else:
                yield job


def find_jobs(
    sources: Sequence[Path | ExamJob], output_dir: Path, options: BatchOptions, notes: list[str]
) -> Iterator[ExamJob]:
    """Yield each exam of the sources once; those whose files would replace another's have an error.

    Results of exams below a folder keep their relative path below the output folder, unless `options.flat`. A source
    that is a job already only gets its output files. notes: gets a line for each folder with files that are not read.
    """
    resolved_paths: set[Path] = set()
    stems: dict[Path, Path] = {}
    inputs = {path.resolve() for path in sources if isinstance(path, Path)}
    series = options.exam.series
    for source in sources:
        if isinstance(source, ExamJob):
            files = output_paths(output_dir, source.path.name, options.exam.formats, series)
            yield replace(source, output_files=files, series=series)
            continue
        try:
            exams = _exams_below(source, output_dir, notes) if source.is_dir() else find_exams([source])
            jobs = [ExamJob(exam, str(exam), series=series) for exam in exams]
            if series == ALL_SERIES:
                jobs = [job for exam in exams for job in _jobs_of_all_series(exam)]
        except LumbarsegError as error:
            yield ExamJob(source, str(source), error=str(error))
            continue
        for job in jobs:
            key = job.path.resolve() / (job.series or "")
            if key in resolved_paths:
                continue
            resolved_paths.add(key)
            is_below = job.path != source and not options.flat
            folder = output_dir / _relative_folder(job.path, source) if is_below else output_dir
            files = output_paths(folder, exam_name(job.path), options.exam.formats, job.series)
            other = stems.setdefault(Path(str(files["report"]).casefold()), job.path)
            if other != job.path:
                problem = (
                    f"its result would replace that of {other}, which has the same name; use another -o or rename it"
                )
            elif inputs & {path.resolve() for path in files.values()}:
                problem = "its result would replace an exam of this batch; use another -o"
            else:
                yield replace(job, output_files=files)
                continue
            yield replace(job, error=f"{job.path}: {problem}")


def _jobs_of_all_series(exam: Path) -> list[ExamJob]:
    """Return a job for each series of a DICOM study in the plane of the best one; one job for any other exam."""
    stacks = list_series(exam) if exam.is_dir() or is_archive_folder(exam) else []
    jobs = [ExamJob(exam, f"{exam} ({stack.name})", series=stack.number) for stack in stacks]
    return jobs or [ExamJob(exam, str(exam))]


def _exams_below(source: Path, output_dir: Path, notes: list[str]) -> list[Path]:
    """Return the exams below a folder, and note what else is in it. Earlier results are not searched."""
    listing = list_folder(source, output_dir.absolute())
    skipped = [(len(listing.label_maps), "label map"), (len(listing.other_files), "other file")]
    counts = [f"{count} {noun}{'s' * (count > 1)}" for count, noun in skipped if count]
    if counts:
        suffixes = sorted({file.suffix.lower() or file.name for file in listing.other_files})[:5]
        kinds = f" ({', '.join(suffixes)})" if suffixes else ""
        notes.append(f"{source}: {len(listing.exams)} exams; not read: {' and '.join(counts)}{kinds}")
    return listing.exams


def _relative_folder(exam: Path, source: Path) -> Path:
    """Return where below the output folder the result of an exam below a folder or ZIP archive belongs."""
    folder = exam.parent.relative_to(source) if exam.is_relative_to(source) else Path()
    return Path(*(part[:-4] if part.lower().endswith(".zip") else part for part in folder.parts))


def _has_space(folder: Path) -> bool:
    """Return whether another megabyte fits into a folder."""
    try:
        _try_to_write(folder, _PROBE_BYTES)
    except (LumbarsegError, OSError):
        return False
    return True


def _try_to_write(folder: Path, size: int) -> None:
    """Write and delete a file in a folder, or where it will be made; FileError where that fails or the disk is full."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing, prefix=".lumbarseg-") as file:
            file.write(bytes(size))
            file.flush()
    except OSError as error:
        raise to_file_error(folder, error, "written") from error
