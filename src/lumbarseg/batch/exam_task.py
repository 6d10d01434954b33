"""What is done with one exam of a batch, in whatever process: look whether it was done, read, answer, write."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lumbarseg
from lumbarseg.errors import LumbarsegError, ModelError, describe_bug, describe_error

from . import exam_result, output_formats
from .jobs import ExamJob

if TYPE_CHECKING:
    from lumbarseg.inference import Model
    from lumbarseg.io import LoadedExam
    from lumbarseg.segmentation import Segmentation

Row = dict[str, Any]
_DISK_FULL_CODES = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class BatchConfig:
    """What a call wants of each of its exams.

    digest: of the model; exams: how many there are; threads: of the arithmetic, 0 for one per core; volume: which one
    of a 4-D file; again: whether to do what is done; run: a name for this call; series: which one of a DICOM study.
    """

    model: Path
    model_digest: str
    device: str
    exam_count: int
    threads: int
    options: exam_result.SegmentOptions
    volume_index: int | None
    overwrite: bool
    run_id: str
    series: str | None = None

    def options_digest(self, job: ExamJob) -> str:
        """Digest of everything that was asked for, but for the exam and the model."""
        from .provenance import values_digest

        return values_digest([asdict(self.options), sorted(job.output_files), self.volume_index, self.series])


@dataclass(frozen=True)
class ExamResult:
    """What became of an exam. row: for programs; told: for a person; full: the disk was; stages: seconds of each.

    begun: False for one that was left out, which the caller tells of all those at once.
    """

    row: Row
    text_lines: tuple[str, ...] = ()
    disk_full: bool = False
    stage_seconds: dict[str, float] = field(default_factory=dict)
    started: bool = True


@dataclass(frozen=True, eq=False)
class PreparedExam:
    """An exam as read, with the digest of its files, "" where that cannot be told; began: when."""

    exam: LoadedExam
    content_digest: str
    start_time: float


def process_exam(config: BatchConfig, job: ExamJob) -> ExamResult:
    """All of it, one after the other."""
    clock = exam_result.StageTimer()

    def all_of_it() -> ExamResult:
        got = load_exam(config, job, clock)
        if isinstance(got, ExamResult):
            return got
        model = load_model(config, clock)
        return write_result(config, job, got, segment_exam(config, job, got, model, clock), model, clock)

    return replace(catch_errors(job, all_of_it), stages=clock.seconds)


def catch_errors(job: ExamJob, stage: Callable[[], Any]) -> Any:
    """What `part` gives, or the outcome that says how it failed: one exam never stops the others."""
    try:
        return stage()
    except (LumbarsegError, OSError, MemoryError) as error:
        return failed_result(job, describe_error(error), _is_disk_full(error))
    except Exception as error:
        if os.environ.get("LUMBARSEG_DEBUG"):
            raise
        return failed_result(job, describe_bug(error))


def failed_result(job: ExamJob, reason: str, disk_full: bool = False) -> ExamResult:
    """The outcome of an exam without an answer."""
    reason = reason.replace(str(job.path), job.display_name)
    text = reason if job.display_name in reason else f"{job.display_name}: {reason}"
    return ExamResult({"exam": job.display_name, "error": text}, disk_full=disk_full)


def lost_result(job: ExamJob, cause: str) -> ExamResult:
    """The outcome of an exam on which workers died, or that failed on a cluster."""
    if cause.startswith("killed"):
        cause = (
            f"the processes that worked on it died ({cause}); it may need more memory than there is, try fewer --jobs"
        )
    return failed_result(job, cause)


def load_exam(config: BatchConfig, job: ExamJob, clock: exam_result.StageTimer) -> PreparedExam | ExamResult:
    """An exam, or what became of it where it was answered before and nothing changed."""
    from lumbarseg.io import read_exam

    from .provenance import content_digest

    if job.error:
        return ExamResult({"exam": job.display_name, "error": job.error})
    began = time.monotonic()
    with clock("digest"):
        content = content_digest(job.path) or ""
        known = _previous_result(config, job, content)
    if known:
        return known
    with clock("read"):
        return PreparedExam(read_exam(job.path, config.volume_index, config.series), content, began)


def segment_exam(
    config: BatchConfig, job: ExamJob, loaded: PreparedExam, model: Model, clock: exam_result.StageTimer
) -> Segmentation:
    """What is in an exam; what it cannot be written as is refused before."""
    output_formats.check_writable(loaded.exam, job.output_files)
    return exam_result.segment_exam(loaded.exam, model, config.options, clock)


def write_result(
    config: BatchConfig,
    job: ExamJob,
    loaded: PreparedExam,
    segmentation: Segmentation,
    model: Model,
    clock: exam_result.StageTimer,
) -> ExamResult:
    """The answer, measured and drawn, on disk; its report last: that says what it was made from, so it is there when
    all the rest is.
    """
    from .provenance import REPORT_KEY, Provenance, content_digest

    given = exam_result.build_result(job.display_name, loaded.exam, segmentation, model, config.options, clock)
    report = {"report": job.output_files["report"]}
    others = {name: path for name, path in job.output_files.items() if name not in report}
    with clock("write"):
        _delete_file(report["report"])  # whatever it says, it is no longer about these files
        output_formats.write_outputs(given, loaded.exam, others)
        digests = {name: content for name, path in others.items() if (content := content_digest(path))}
        record = Provenance(
            loaded.content_digest,
            config.model_digest,
            config.options_digest(job),
            lumbarseg.__version__,
            digests,
            given.warnings,
            given.structures_left_out,
            config.run_id,
        )
        given = replace(given, report=given.report | {REPORT_KEY: record.to_dict()})
        output_formats.write_outputs(given, loaded.exam, report)
    row = _result_row(job, exam_result.result_summary_dict(given), False) | {
        "seconds": round(time.monotonic() - loaded.start_time, 2)
    }
    return ExamResult(row, tuple(exam_result.format_result_lines(given)))


def _delete_file(path: Path) -> None:
    """No such file any more."""
    from lumbarseg.io.file_access import to_file_error

    try:
        path.unlink(missing_ok=True)
    except NotADirectoryError:
        pass  # whoever writes here next will say so
    except OSError as error:
        raise to_file_error(path, error, "replaced") from error


@lru_cache(maxsize=1)
def _cached_model(path: Path, digest: str, device: str, exams: int, threads: int) -> Model:
    from lumbarseg.inference import Model

    model = Model.load(path, device, exams, threads)
    if model.card.digest != digest:
        raise ModelError(f"{path}: is another model than the one that the batch began with; name the same one")
    return model


def load_model(config: BatchConfig, clock: exam_result.StageTimer) -> Model:
    """The model of this process, loaded once; its time in the network is counted."""
    with clock("model"):
        model = _cached_model(config.model, config.model_digest, config.device, config.exam_count, config.threads)
    return exam_result.with_timing(model, clock)


def _previous_result(config: BatchConfig, job: ExamJob, content: str) -> ExamResult | None:
    """What became of an exam that needs no new answer; None for one that does."""
    from .provenance import missing_and_modified
    from .provenance import read_provenance as read_record

    found = read_record(job.output_files["report"])
    if not found or (config.overwrite and found[1].run != config.run_id):
        return None
    facts, record = found
    gone, other = missing_and_modified(record, job.output_files)
    same = record.matches(content, config.model_digest, config.options_digest(job), lumbarseg.__version__)
    if gone or (not same and not other) or not content:
        return None
    kept = [f"{path}: was changed since it was written, so it is kept; --overwrite replaces it" for path in other]
    told = facts | {"warnings": [*record.warnings, *kept], "left_out": list(record.left_out)}
    lines = ["unchanged since it was answered; --overwrite answers it anew"] if not kept else []
    return ExamResult(
        _result_row(job, exam_result.report_summary_dict(told), record.run != config.run_id),
        (*lines, *(f"warning: {text}" for text in told["warnings"])),
    )


def _result_row(job: ExamJob, short: Row, skipped: bool) -> Row:
    files = {name: str(path) for name, path in job.output_files.items()}
    return {"exam": job.display_name, "error": None, "skipped": skipped, "files": files, **short}


def _is_disk_full(error: BaseException) -> bool:
    """Whether a failure means that the disk is full."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _DISK_FULL_CODES
