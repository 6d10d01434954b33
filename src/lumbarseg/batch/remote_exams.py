"""Exams on a DICOMweb server: fetched into a temporary folder, and results sent back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lumbarseg.errors import LumbarsegError, SegmentError, describe_error
from lumbarseg.io.dicom import web

from .exam_result import ExamJob, ExamResult, failed_result
from .options import DICOM_FORMATS, BatchOptions


@contextmanager
def fetched_exams(options: BatchOptions) -> Iterator[tuple[list[Path | ExamJob], Path]]:
    """Fetch the studies that are on servers; yield the sources of the batch and the folder of its results.

    Both may be temporary: they are deleted at the end.
    """
    local = [source for source in options.exams if isinstance(source, Path)]
    if options.store and local:
        raise SegmentError(f"{local[0]}: is not on a server, so its result cannot be sent back; leave --store out")
    with tempfile.TemporaryDirectory(prefix="lumbarseg-") as folder:
        sources = [
            source if isinstance(source, Path) else _fetch(source, Path(folder) / str(index), options.exam.series)
            for index, source in enumerate(options.exams)
        ]
        yield sources, options.output_dir or Path(folder) / "out"


def _fetch(address: web.StudyAddress, folder: Path, series: str | None) -> ExamJob:
    path = folder / address.study_uid
    try:
        web.fetch_series(address, path, series)
    except (LumbarsegError, OSError) as error:
        reason = describe_error(error)
        reason = reason if str(address) in reason else f"{address}: {reason}"
        return ExamJob(path, str(address), error=reason, address=address)
    return ExamJob(path, str(address), address=address)


def store_result(result: ExamResult, job: ExamJob, keep_files: bool) -> ExamResult:
    """Send the DICOM objects of a result to the server of its exam. keep_files: its files are not temporary."""
    if job.address is None or result.error:
        return result
    formats = tuple(name for name in DICOM_FORMATS if name in job.output_files)
    try:
        web.store_objects(job.address, [job.output_files[name] for name in formats])
    except LumbarsegError as error:
        return failed_result(job, error)
    lines = (*result.text_lines, f"stored on the server: {', '.join(formats)}")
    return replace(result, stored=formats, files=result.files if keep_files else {}, text_lines=lines)
