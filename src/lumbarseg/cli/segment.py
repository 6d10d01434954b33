"""`lumbarseg segment EXAM ... -o DIR`: names the lumbar spine in exams."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.batch import exam_result, label_encoding, output_formats, remote_exams, runner
from lumbarseg.batch.exam_task import ExamResult
from lumbarseg.batch.jobs import find_jobs
from lumbarseg.errors import SegmentError

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.batch.summary import JsonLinesWriter

Row = dict[str, Any]


DESCRIPTION = (
    "Writes for each exam DIR/NAME_labels.nii.gz (label map on the exam's own grid), DIR/NAME_report.json and\n"
    "DIR/NAME.png. Reads NIfTI, MHA/MHD, NRRD, DICOM studies and ZIPs of these; a folder means every exam in it.\n"
    "Of a DICOM study the sagittal T2 is taken, else T1, else another; which, is told; --series takes another.\n"
    "Exit code 3 means: done, with warnings that a person should look at."
)
EXAMPLE = "lumbarseg segment exam.nii.gz -o out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "exams",
        nargs="+",
        type=remote_exams.parse_exam,
        metavar="EXAM",
        help="files, ZIPs, DICOM folders, folders of exams, or a study on a server: dicomweb:https://SERVER/studies/UID",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where the answers go")
    options.add_model_options(parser)
    parser.add_argument(
        "--lowest",
        type=options.parse_level,
        metavar="LEVEL",
        help="name of the lowest whole vertebra in view, for example L5",
    )
    parser.add_argument(
        "--pin",
        action="append",
        default=[],
        type=options.parse_pin,
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
        type=output_formats.parse_formats,
        metavar="NAME[,NAME]",
        help=f"what the label map is written as: {', '.join(output_formats.OUTPUT_FORMATS)} (default: {output_formats.DEFAULT_FORMATS[0]})",
    )
    parser.add_argument(
        "--store", action="store_true", help="send DICOM objects back to the server of the exam: dicom-seg, dicom-sr"
    )
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--whole", action="store_true", help="posterior elements get the number of their body")
    parts.add_argument("--bodies", action="store_true", help="leave posterior elements out")
    parser.add_argument(
        "--scheme",
        choices=label_encoding.OUTPUT_SCHEMES,
        default=label_encoding.DEFAULT_SCHEME,
        help="whose label values are written (default: %(default)s, the package's own)",
    )
    parser.add_argument(
        "--volume", type=options.non_negative_int, metavar="N", help="which volume of a 4-D file, from 0"
    )
    options.add_series_option(parser)
    runner.add_batch_options(parser)
    parser.add_argument("--timings", action="store_true", help="tell how long each stage took")
    parser.add_argument("--strict", action="store_true", help="warnings are errors: exit code 1 instead of 3")
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Answer every exam; one that fails does not stop the rest."""
    with remote_exams.fetched_exams(args) as call:
        return _run(call, keep=args.output is not None)


def _run(args: argparse.Namespace, keep: bool) -> int:
    """keep: whether the files of answers stay."""
    todo = list(find_jobs(args.exams, args.output, output_formats.requested_formats(args)))
    if args.clicks and len(todo) > 1:
        raise SegmentError(f"{args.clicks}: clicks belong to one exam, and {len(todo)} are given; name that one")
    clock, call = exam_result.StageTimer(), runner.BatchRun(args.output)
    with _lines(args.jsonl) as lines:
        outcomes = call.results(args, todo, clock)
        rows = _told(
            args, remote_exams.store_results(outcomes, todo, keep) if args.store else outcomes, len(todo), lines
        )
    if call.not_started:
        many = f"{len(call.not_started)} exams were" if len(call.not_started) > 1 else "1 exam was"
        console.print_error(
            f"{args.output}: the disk is full: {many} not begun; make room and run it again, it goes on"
        )
    places = {name: n for n, job in enumerate(todo) for name in (job.display_name, str(job.path.absolute()))}
    rows.sort(key=lambda row: places[row["exam"]])
    if args.table:
        from lumbarseg.batch.summary import write_table

        write_table(rows, args.table)
    timings = {name: round(seconds, 3) for name, seconds in (clock.seconds | _whole()).items()}
    if args.json:
        console.print_json({"exams": rows} | ({"timings": timings} if args.timings else {}))
    elif args.timings:
        print("\n".join(f"{name:10s} {seconds:7.3f} s" for name, seconds in timings.items()))
    code = _code(rows, args.strict)
    return console.print_error(lines.failure) if lines and lines.failure else code


def _told(
    args: argparse.Namespace, outcomes: Iterator[ExamResult], count: int, lines: JsonLinesWriter | None
) -> list[Row]:
    """The rows of all exams, each told as it comes."""
    bar = console.progress_bar("exams", count) if args.json and count > 1 else None
    rows = []
    for outcome in outcomes:
        row = outcome.row
        rows.append(row)
        if lines:
            lines.write_row(row)
        if row["error"] and outcome.started:
            console.print_error(row["error"])
        elif not row["error"] and not args.json:
            print("\n  ".join([row["exam"], *outcome.text_lines, "  ".join(row["files"].values())]), flush=True)
        if bar:
            bar.advance()
    if bar:
        bar.close()
    return rows


def _lines(path: Path | None) -> AbstractContextManager[JsonLinesWriter | None]:
    if path is None:
        return nullcontext()
    from lumbarseg.batch.summary import open_json_lines

    return open_json_lines(path)


def _code(rows: Sequence[Row], strict: bool) -> int:
    if any(row["error"] for row in rows):
        return console.EXIT_ERROR
    if any(row["warnings"] for row in rows):
        return console.EXIT_ERROR if strict else console.EXIT_WARNINGS
    return console.EXIT_OK


def _whole() -> dict[str, float]:
    """Seconds since this process began, where the system tells."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return {"whole": time.clock_gettime(time.CLOCK_BOOTTIME) - began}
    except (OSError, ValueError, AttributeError, IndexError):
        return {}
