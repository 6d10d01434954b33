"""`lumbarseg segment EXAM ... -o DIR`: names the lumbar spine in exams."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options, say


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
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--whole", action="store_true", help="posterior elements get the number of their body")
    parts.add_argument("--bodies", action="store_true", help="leave posterior elements out")
    parser.add_argument("--volume", type=options.natural, metavar="N", help="which volume of a 4-D file, from 0")
    parser.add_argument("--timings", action="store_true", help="tell how long each stage took")
    parser.add_argument("--strict", action="store_true", help="warnings are errors: exit code 1 instead of 3")
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Answer every exam; one that fails does not stop the rest."""
    raise NotImplementedError(args, say)
