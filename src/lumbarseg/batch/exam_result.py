"""One exam of a batch, and what became of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import LumbarsegError, describe_bug, describe_error

if TYPE_CHECKING:
    from lumbarseg.io.dicom.web import StudyAddress

SUMMARY_KEYS = ("anchor", "confidence", "uncertain", "levels", "warnings", "left_out")
"""Entries of the report that a result carries."""
_DISK_FULL_CODES = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class ExamJob:
    """An exam to segment and the files of its result, or the reason why it cannot be started.

    Attributes
    ----------
    path : where the exam is read from
    name : what the user calls it: a path, or an address
    output_files : "labels" (NIfTI) or another format, "report" and "picture"
    error : why it cannot be started
    address : the study on a server that `path` was fetched from
    series : which series of a DICOM study
    """

    path: Path
    name: str
    output_files: dict[str, Path] = field(default_factory=dict)
    error: str | None = None
    address: StudyAddress | None = None
    series: str | None = None

    def absolute(self) -> ExamJob:
        """Return the job with absolute paths, for a process that works in another folder."""
        files = {name: path.absolute() for name, path in self.output_files.items()}
        return replace(self, path=self.path.absolute(), output_files=files)


@dataclass(frozen=True)
class ExamResult:
    """What became of an exam.

    Attributes
    ----------
    exam : what the user calls it
    error : why it has no result
    skipped : it was segmented by an earlier run, and nothing changed since
    files : paths of the written files
    summary : the entries SUMMARY_KEYS of its report
    seconds : time it took
    stored : formats that were sent to its server
    text_lines : the result as text
    stage_seconds : time of each stage
    is_disk_full : it failed because the disk is full
    was_started : False where the disk was full before
    """

    exam: str
    error: str | None = None
    skipped: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    stored: tuple[str, ...] = ()
    text_lines: tuple[str, ...] = ()
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    is_disk_full: bool = False
    was_started: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON."""
        if self.error:
            return {"exam": self.exam, "error": self.error}
        row = {"exam": self.exam, "error": None, "skipped": self.skipped, "files": dict(self.files), **self.summary}
        row |= {} if self.seconds is None else {"seconds": round(self.seconds, 2)}
        return row | ({"stored": list(self.stored)} if self.stored else {})


def successful_result(job: ExamJob, report: Mapping[str, Any]) -> ExamResult:
    """Return the result of an exam whose report and other files are written."""
    files = {name: str(path) for name, path in job.output_files.items()}
    return ExamResult(job.name, files=files, summary={key: report[key] for key in SUMMARY_KEYS})


def failed_result(job: ExamJob, error: Exception) -> ExamResult:
    """Return the result of an exam that failed: one exam never stops the others.

    With LUMBARSEG_DEBUG in the environment an unexpected error is raised instead.
    """
    expected = isinstance(error, LumbarsegError | OSError | MemoryError)
    if not expected and os.environ.get("LUMBARSEG_DEBUG"):
        raise error
    reason = (describe_error(error) if expected else describe_bug(error)).replace(str(job.path), job.name)
    cause = error if isinstance(error, OSError) else error.__cause__
    is_disk_full = isinstance(cause, OSError) and cause.errno in _DISK_FULL_CODES
    return ExamResult(job.name, reason if job.name in reason else f"{job.name}: {reason}", is_disk_full=is_disk_full)


def disk_full_result(job: ExamJob) -> ExamResult:
    """Return the result of an exam that was not started because the disk was full."""
    return ExamResult(job.name, f"{job.name}: not started: the disk is full", was_started=False)
