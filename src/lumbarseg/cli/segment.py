"""`lumbarseg segment EXAM ... -o DIR`: name and segment the lumbar spine in exams."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.batch.options import (
    DEFAULT_FORMATS,
    DEFAULT_SCHEME,
    DRAW_CHOICES,
    FORMAT_SUFFIXES,
    POSTERIOR_CHOICES,
    REQUIRED_FORMATS,
    SCHEMES,
    BatchOptions,
    ExamOptions,
)
from lumbarseg.errors import FileError

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.batch.runner import BatchRun
    from lumbarseg.io.dicom.web import StudyAddress

DESCRIPTION = (
    "Writes for each exam DIR/NAME_labels.nii.gz (label map on the exam's own grid), NAME_report.html and .json,\n"
    "NAME_measurements.csv and NAME.png; for several exams also DIR/index.html and DIR/measurements.csv.\n"
    "Reads NIfTI, MHA/MHD, NRRD, DICOM studies and ZIPs of these; a folder stands for every exam in it.\n"
    "From a DICOM study the sagittal T2 series is read, else T1, else another one; --series chooses.\n"
    "Exit code 3: done, with warnings that a person should look at."
)
EXAMPLE = "lumbarseg segment exam.nii.gz -o out"


def _parse_exam(text: str) -> Path | StudyAddress:
    """Parse a path, or the address of a study on a server."""
    if text.startswith(("http://", "https://")):
        hint = f"dicomweb:{text}" if "/studies/" in text else "dicomweb:https://SERVER/PATH/studies/UID"
        raise argparse.ArgumentTypeError(f"{text}: download it first; for a study on a DICOMweb server write {hint}")
    if not text.startswith("dicomweb:"):
        return Path(text)
    from lumbarseg.io.dicom import web  # pydicom

    try:
        return web.parse_address(text)
    except FileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parse_formats(text: str) -> list[str]:
    """Parse names of formats, separated by commas."""
    names = [name.strip().lower() for name in text.split(",")]
    unknown = [name for name in names if name not in FORMAT_SUFFIXES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not a format; choose from {', '.join(FORMAT_SUFFIXES)}")
    return names


_EXAMS: dict[str, Any] = {
    "metavar": "EXAM",
    "help": "files, ZIPs, DICOM folders, folders of exams, or a study on a server: dicomweb:https://SERVER/studies/UID",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "--pin": {
        "action": "append",
        "default": [],
        "type": options.parse_pin,
        "metavar": "L3@x,y,z",
        "help": "name of the vertebra at a point, RAS+ mm; may be repeated",
    },
    "--clicks": {
        "type": Path,
        "metavar": "FILE",
        "help": "correct the result of one exam by points: clicks.json, or markups of 3D Slicer (docs/clicks.md)",
    },
    "--format": {
        "action": "extend",
        "default": [],
        "type": _parse_formats,
        "metavar": "NAME[,NAME]",
        "help": f"what to write: {', '.join(FORMAT_SUFFIXES)} (default: {', '.join(DEFAULT_FORMATS)})",
    },
    "--draw": {
        "type": str.lower,
        "choices": DRAW_CHOICES,
        "default": DRAW_CHOICES[0],
        "help": "what the picture shows: outlines and names (default), or also heights, slips and lordosis",
    },
    "--store": {
        "action": "store_true",
        "help": "send DICOM objects back to the server of the exam: dicom-seg, dicom-sr",
    },
    "--posterior-elements": {
        "type": str.lower,
        "choices": POSTERIOR_CHOICES,
        "default": POSTERIOR_CHOICES[0],
        "help": "give them labels of their own (default), merge them into their vertebral body, or leave them out",
    },
    "--scheme": {
        "type": str.lower,
        "choices": SCHEMES,
        "default": DEFAULT_SCHEME,
        "help": "label values of another program (default: our own)",
    },
    "--modality": {
        "type": str.lower,
        "choices": ["mr"],
        "help": "the exam is MRI, although its values look like CT",
    },
    "--timings": {"action": "store_true", "help": "print how long each stage took"},
    "--strict": {"action": "store_true", "help": "warnings are errors: exit code 1 instead of 3"},
}
_SERIES_HELP = "series of a DICOM study: its number, part of its description, or all: each sagittal series on its own"
_BATCH_OPTIONS: dict[str, dict[str, Any]] = {
    "--flat": {"action": "store_true", "help": "write all results into DIR itself, not into folders below it"},
    "--overwrite": {"action": "store_true", "help": "segment again what is done and unchanged"},
    "--jsonl": {"type": Path, "metavar": "FILE", "help": "write a line of JSON per exam, as soon as it is done"},
    "--table": {"type": Path, "metavar": "FILE", "help": "write a table of all exams as CSV"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("exams", nargs="+", type=_parse_exam, **_EXAMS)
    options.add_shared_options(parser, "--output", help="folder of the results")
    options.add_shared_options(parser, "--model", "--device", "--lowest", "--volume")
    options.add_shared_options(parser, "--series", help=_SERIES_HELP)
    group = parser.add_argument_group("many exams (docs/batch.md)")
    for container, table in ((parser, _OPTIONS), (group, _BATCH_OPTIONS)):
        for name, settings in table.items():
            container.add_argument(name, **settings)
    workers = group.add_mutually_exclusive_group()
    options.add_shared_options(workers, "--jobs", help="worker processes (default: none but this one)")
    workers.add_argument("--cluster", metavar="ADDRESS", help="a dask scheduler: tcp://HOST:PORT")
    options.add_shared_options(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Segment every exam and print each result; one that fails does not stop the others."""
    if args.output is None and not args.store:
        args.usage_error("-o DIR is missing: the folder of the results; only --store goes without")
    from lumbarseg.batch.runner import BatchRun  # the libraries: half a second that --help need not wait for

    batch = BatchRun(_batch_options(args))
    bar = console.progress_bar("exams") if args.json else None
    console.print_status("segmenting ...")
    start = time.monotonic()
    for number, result in enumerate(batch.run(), start=1):
        _print_notes(batch)
        if bar is not None and batch.exam_count > 1:
            bar.advance(total=batch.exam_count)
        if result.error and result.was_started:
            console.print_error(result.error)
        elif not result.error and not args.json:
            progress = f" ({number} of {batch.exam_count})" if batch.exam_count > 1 else ""
            lines = [f"{result.exam}{progress}", *result.text_lines, "  ".join(result.files.values())]
            console.print_text("\n  ".join(lines))
        if bar is None and number < batch.exam_count:
            seconds = (time.monotonic() - start) / number * (batch.exam_count - number)
            console.print_status(f"{number} of {batch.exam_count} exams, {timedelta(seconds=round(seconds))} left")
    if bar is not None:
        bar.close()
    _print_notes(batch)
    _print_summary(batch, args, timedelta(seconds=round(time.monotonic() - start)))
    if batch.log_failure:
        return console.print_error(batch.log_failure)
    if any(result.error for result in batch.results):
        return console.EXIT_ERROR
    if any(result.summary["warnings"] for result in batch.results):
        return console.EXIT_ERROR if args.strict else console.EXIT_WARNINGS
    return console.EXIT_OK


def _print_summary(batch: BatchRun, args: argparse.Namespace, duration: timedelta) -> None:
    """Print what became of all exams: as JSON, or as text where there are several."""
    if batch.not_started:
        many = f"{len(batch.not_started)} exams were" if len(batch.not_started) > 1 else "1 exam was"
        console.print_error(
            f"{args.output}: the disk is full: {many} not started; make room and run it again, it goes on"
        )
    timings = _timings(batch) if args.timings else {}
    if args.json:
        extra = {"overview": batch.overview, "timings": timings}
        console.print_json(
            {"exams": [result.to_dict() for result in batch.results]}
            | {name: value for name, value in extra.items() if value}
        )
        return
    lines = [f"{batch.summary()} in {duration}"] if batch.exam_count > 1 else []
    lines += [f"all exams of {args.output}: {'  '.join(batch.overview.values())}"] if batch.overview else []
    lines += [f"{name:10s} {seconds:7.3f} s" for name, seconds in timings.items()]
    if lines:
        console.print_text("\n".join(lines))


def _print_notes(batch: BatchRun) -> None:
    for note in batch.notes:
        console.print_note(note)
    batch.notes.clear()


def _batch_options(args: argparse.Namespace) -> BatchOptions:
    formats = [*args.format, *(["dicom-seg"] if args.store else [])]
    with_required = [form for name in formats for form in (REQUIRED_FORMATS.get(name, name), name)]
    exam_options = ExamOptions(
        args.lowest,
        tuple(args.pin),
        posterior=args.posterior_elements,
        scheme=args.scheme,
        formats=tuple(dict.fromkeys(with_required)) or DEFAULT_FORMATS,
        volume_index=args.volume,
        series=args.series,
        modality=args.modality,
        draw=args.draw,
    )
    names = ("model", "device", "flat", "overwrite", "jobs", "cluster", "store", "jsonl", "table")
    shared = {name: getattr(args, name) for name in names}
    return BatchOptions(tuple(args.exams), args.output, exam_options, args.clicks, **shared)


def _timings(batch: BatchRun) -> dict[str, float]:
    """Return seconds per stage, summed over the exams, and since this process was started, where the system knows."""
    timings = {"model": batch.model_seconds}
    for result in batch.results:
        for stage, seconds in result.stage_seconds.items():
            timings[stage] = timings.get(stage, 0.0) + seconds
    with suppress(OSError, ValueError, AttributeError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        timings["total"] = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return {name: round(seconds, 3) for name, seconds in timings.items()}
