"""`lumbarseg segment EXAM ... -o DIR`: names the lumbar spine in exams."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import LumbarsegError, SegmentError

from . import answers, options, outputs, say, values

if TYPE_CHECKING:
    from lumbarseg.files import Exam
    from lumbarseg.model import Model

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """An exam to answer and the files of its answer, or the reason why it cannot be begun."""

    path: Path
    files: dict[str, Path] = field(default_factory=dict)
    refusal: str | None = None


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "segment",
        "name the vertebrae and discs of exams",
        "Writes for each exam DIR/NAME_labels.nii.gz (label map on the exam's own grid), DIR/NAME_report.json and\n"
        "DIR/NAME.png. Reads NIfTI, MHA/MHD, NRRD and folders of DICOM files; a folder of exams means each of them.\n"
        "Exit code 3 means: done, with warnings that a person should look at.",
        "lumbarseg segment exam.nii.gz -o out",
    )
    parser.add_argument("exams", nargs="+", type=Path, metavar="EXAM", help="files, DICOM folders or folders of exams")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="where the answers go")
    options.engine(parser)
    parser.add_argument(
        "--lowest",
        type=options.level,
        metavar="LEVEL",
        help="name of the lowest whole vertebra in view, for example L5",
    )
    parser.add_argument(
        "--pin",
        action="append",
        default=[],
        type=options.pin,
        metavar="L3@x,y,z",
        help="a vertebra at a point, RAS+ mm",
    )
    parser.add_argument(
        "--clicks",
        type=Path,
        metavar="FILE",
        help="refine the answer of one exam by points: clicks.json, or a markups file of 3D Slicer (docs/clicks.md)",
    )
    parser.add_argument(
        "--format",
        action="append",
        default=[],
        type=outputs.formats,
        metavar="NAME[,NAME]",
        help=f"what the label map is written as: {', '.join(outputs.FORMS)} (default: {outputs.DEFAULT[0]})",
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--whole", action="store_true", help="posterior elements get the number of their body")
    parts.add_argument("--bodies", action="store_true", help="leave posterior elements out")
    parser.add_argument(
        "--scheme",
        choices=values.SCHEMES,
        default=values.OWN,
        help="whose label values are written (default: %(default)s, the package's own)",
    )
    parser.add_argument("--volume", type=options.natural, metavar="N", help="which volume of a 4-D file, from 0")
    parser.add_argument("--timings", action="store_true", help="tell how long each stage took")
    parser.add_argument("--strict", action="store_true", help="warnings are errors: exit code 1 instead of 3")
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Answer every exam; one that fails does not stop the rest."""
    clock = answers.Clock()
    with ThreadPoolExecutor(3) as pool:
        pool.submit(answers.warm)
        jobs = list(_jobs(args.exams, args.out, outputs.asked(args)))
        if args.clicks and len(jobs) > 1:
            raise SegmentError(f"{args.clicks}: clicks belong to one exam, and {len(jobs)} are given; name that one")
        model = pool.submit(answers.load, args.model, args.device, clock, len(jobs))
        rows = list(_rows(args, jobs, model, pool, clock))
    code = _code(rows, args.strict)
    timings = {name: round(seconds, 3) for name, seconds in (clock.stages | _whole()).items()}
    if args.json:
        say.as_json({"exams": rows} | ({"timings": timings} if args.timings else {}))
    elif args.timings:
        print("\n".join(f"{name:10s} {seconds:7.3f} s" for name, seconds in timings.items()))
    return code


def _rows(
    args: argparse.Namespace, jobs: Sequence[Job], model: Future[Model], pool: ThreadPoolExecutor, clock: answers.Clock
) -> Iterator[Row]:
    """One row per exam, told as it comes; the next exam is read while the network works on this one."""
    progress = say.Progress("exams", len(jobs)) if args.json and len(jobs) > 1 else None

    def read(job: Job) -> Exam:
        with clock("read"):
            from lumbarseg.files import read_exam

            return read_exam(job.path, args.volume)

    for job, coming in _ahead(pool, read, jobs):
        row: Row = {"exam": str(job.path), "error": job.refusal}
        if coming is not None:
            row = _answered(job, coming, model.result(), args, clock)
        if row["error"]:
            say.error(row["error"])
        elif not args.json:
            print("\n  ".join([row["exam"], *row.pop("told"), "  ".join(row["files"].values())]), flush=True)
        row.pop("told", None)
        if progress:
            progress.step()
        yield row


def _jobs(arguments: Sequence[Path], out: Path, forms: Sequence[str]) -> Iterator[Job]:
    """Every exam that the arguments mean, once; those whose files would meet another's are refused."""
    from lumbarseg.files import find_exams, stem

    seen: set[Path] = set()
    taken: dict[str, Path] = {}
    inputs = {path.resolve() for path in arguments}
    for argument in arguments:
        try:
            exams = find_exams([argument])
        except LumbarsegError as error:
            yield Job(argument, refusal=str(error))
            continue
        for exam in exams:
            if exam.resolve() in seen:
                continue
            seen.add(exam.resolve())
            name = stem(exam)
            files = outputs.paths(out, name, forms)
            other = taken.setdefault(name.casefold(), exam)
            if other != exam:
                reason = (
                    f"{exam}: its answer would replace that of {other}, of the same name; use another -o or rename it"
                )
                yield Job(exam, refusal=reason)
            elif inputs & {path.resolve() for path in files.values()}:
                yield Job(exam, refusal=f"{exam}: its answer would replace an exam of this call; use another -o")
            else:
                yield Job(exam, files)


def _ahead(
    pool: ThreadPoolExecutor, read: Callable[[Job], Exam], jobs: Sequence[Job]
) -> Iterator[tuple[Job, Future[Exam] | None]]:
    """Each job with its reading, that of the next one being under way; None for a job that was refused."""
    coming: dict[int, Future[Exam]] = {}
    for i, job in enumerate(jobs):
        for near in range(i, min(i + 2, len(jobs))):
            if near not in coming and not jobs[near].refusal:
                coming[near] = pool.submit(read, jobs[near])
        yield job, coming.pop(i, None)


def _answered(job: Job, coming: Future[Exam], model: Model, args: argparse.Namespace, clock: answers.Clock) -> Row:
    """The row of one exam: answered and written, or with the error that stopped it."""
    from lumbarseg.segment import Pin

    parts = "whole" if args.whole else "bodies" if args.bodies else "apart"
    pins = tuple(Pin(*pin) for pin in args.pin)
    try:
        wish = answers.Wish(args.lowest, pins, parts, answers.clicks(args.clicks), args.scheme)
        exam = coming.result()
        outputs.check(exam, job.files)
        given = answers.answer(str(job.path), exam, model, wish, clock)
        with clock("write"):
            outputs.write(given, exam, job.files)
    except (LumbarsegError, OSError, MemoryError) as error:
        reason = say.reason(error)
        return {"exam": str(job.path), "error": reason if str(job.path) in reason else f"{job.path}: {reason}"}
    files = {name: str(path) for name, path in job.files.items()}
    return {"exam": str(job.path), "error": None, "files": files, **answers.summary(given), "told": answers.told(given)}


def _code(rows: Sequence[Row], strict: bool) -> int:
    if any(row["error"] for row in rows):
        return say.FAILED
    if any(row["warnings"] for row in rows):
        return say.FAILED if strict else say.WARNED
    return say.DONE


def _whole() -> dict[str, float]:
    """Seconds since this process began, where the system tells."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return {"whole": time.clock_gettime(time.CLOCK_BOOTTIME) - began}
    except (OSError, ValueError, AttributeError, IndexError):
        return {}
