"""Exams on a DICOMweb server: fetched into a folder that vanishes with the call, and answers sent back to them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lumbarseg.errors import FileError, LumbarsegError, SegmentError, describe_error

from .exam_task import ExamResult, failed_result
from .jobs import ExamJob

if TYPE_CHECKING:
    from lumbarseg.io.dicom.web import StudyAddress

_PREFIX = "dicomweb:"
STORABLE_FORMATS = ("dicom-seg", "dicom-labelmap", "dicom-sr")
"""Forms of an answer that a server takes."""


def parse_exam(text: str) -> Path | StudyAddress:
    """An exam as the command line names it: a path, or a study on a server."""
    if not text.startswith(_PREFIX):
        return Path(text)
    from lumbarseg.io.dicom import web

    try:
        return web.parse_address(text)
    except FileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@contextmanager
def fetched_exams(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The call with studies on servers fetched: `exams` are jobs or paths, `out` is a folder that may vanish, too."""
    local = [path for path in args.exams if isinstance(path, Path)]
    if args.store and local:
        raise SegmentError(f"{local[0]}: came from no server, so there is none to --store its answer on; leave it out")
    if args.output is None and not args.store:
        args.usage_error("where do the answers go? -o DIR says it; only --store goes without")
    if len(local) == len(args.exams):
        yield args
        return
    with tempfile.TemporaryDirectory(prefix="lumbarseg-") as folder:
        exams = [_fetched(given, Path(folder) / str(index), args.series) for index, given in enumerate(args.exams)]
        yield argparse.Namespace(**{**vars(args), "exams": exams, "output": args.output or Path(folder) / "out"})


def _fetched(given: Path | StudyAddress, folder: Path, wish: str | None) -> Path | ExamJob:
    """A path as it is; a study as a job whose files are not named yet."""
    if isinstance(given, Path):
        return given
    from lumbarseg.io.dicom import web

    place = folder / given.study_uid
    try:
        web.fetch_series(given, place, wish)
    except LumbarsegError as error:
        return ExamJob(place, error=str(error), address=given)
    except OSError as error:
        return ExamJob(place, error=f"{given}: {describe_error(error)}", address=given)
    return ExamJob(place, address=given)


def store_results(results: Iterable[ExamResult], jobs: Sequence[ExamJob], keep_files: bool) -> Iterator[ExamResult]:
    """Each outcome after its DICOM objects were sent back; keep: whether its files stay."""
    by_name = {job.display_name: job for job in jobs}
    for outcome in results:
        yield outcome if outcome.row["error"] else _stored(outcome, by_name[outcome.row["exam"]], keep_files)


def _stored(outcome: ExamResult, job: ExamJob, keep: bool) -> ExamResult:
    from lumbarseg.io.dicom import web

    if job.address is None:
        return outcome
    names = [name for name in STORABLE_FORMATS if name in job.output_files]
    try:
        web.store_objects(job.address, [job.output_files[name] for name in names])
    except LumbarsegError as error:
        return failed_result(job, describe_error(error))
    row = outcome.row | {"stored": names} | ({} if keep else {"files": {}})
    return replace(outcome, row=row, text_lines=(*outcome.text_lines, f"stored on the server: {', '.join(names)}"))
