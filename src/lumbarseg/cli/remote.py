"""Exams on a DICOMweb server: fetched into a folder that vanishes with the call, and answers sent back to them."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lumbarseg.errors import FileError, LumbarsegError, SegmentError

from . import say
from .jobs import Job
from .work import Outcome, failed

if TYPE_CHECKING:
    from lumbarseg.files.dicomweb import Address

_PREFIX = "dicomweb:"
SENT = ("dicom-seg", "dicom-labelmap", "dicom-sr")
"""Forms of an answer that a server takes."""


def exam(text: str) -> Path | Address:
    """An exam as the command line names it: a path, or a study on a server."""
    if not text.startswith(_PREFIX):
        return Path(text)
    from lumbarseg.files import dicomweb

    try:
        return dicomweb.parse(text)
    except FileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


@contextmanager
def visit(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The call with studies on servers fetched: `exams` are jobs or paths, `out` is a folder that may vanish, too."""
    local = [path for path in args.exams if isinstance(path, Path)]
    if args.store and local:
        raise SegmentError(f"{local[0]}: came from no server, so there is none to --store its answer on; leave it out")
    if args.out is None and not args.store:
        args.refuse("where do the answers go? -o DIR says it; only --store goes without")
    if len(local) == len(args.exams):
        yield args
        return
    with tempfile.TemporaryDirectory(prefix="lumbarseg-") as folder:
        exams = [_fetched(given, Path(folder) / str(index), args.series) for index, given in enumerate(args.exams)]
        yield argparse.Namespace(**{**vars(args), "exams": exams, "out": args.out or Path(folder) / "out"})


def _fetched(given: Path | Address, folder: Path, wish: str | None) -> Path | Job:
    """A path as it is; a study as a job whose files are not named yet."""
    if isinstance(given, Path):
        return given
    from lumbarseg.files import dicomweb

    place = folder / given.study
    try:
        dicomweb.fetch(given, place, wish)
    except LumbarsegError as error:
        return Job(place, refusal=str(error), source=given)
    except OSError as error:
        return Job(place, refusal=f"{given}: {say.reason(error)}", source=given)
    return Job(place, source=given)


def stored(outcomes: Iterable[Outcome], todo: Sequence[Job], keep: bool) -> Iterator[Outcome]:
    """Each outcome after its DICOM objects were sent back; keep: whether its files stay."""
    jobs = {job.exam: job for job in todo}
    for outcome in outcomes:
        yield outcome if outcome.row["error"] else _stored(outcome, jobs[outcome.row["exam"]], keep)


def _stored(outcome: Outcome, job: Job, keep: bool) -> Outcome:
    from lumbarseg.files import dicomweb

    if job.source is None:
        return outcome
    names = [name for name in SENT if name in job.files]
    try:
        dicomweb.store(job.source, [job.files[name] for name in names])
    except LumbarsegError as error:
        return failed(job, say.reason(error))
    row = outcome.row | {"stored": names} | ({} if keep else {"files": {}})
    return replace(outcome, row=row, told=(*outcome.told, f"stored on the server: {', '.join(names)}"))
