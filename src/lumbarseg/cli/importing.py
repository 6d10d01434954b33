"""`lumbarseg import KIND SOURCE TARGET`: make a prepared dataset from exams and labels."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from lumbarseg.anatomy import Kind
from lumbarseg.datasets.importers import get_importer, ivdm3seg, monailabel, myosegmentum, nnunet, paired_files
from lumbarseg.datasets.importers.importer import Importer
from lumbarseg.datasets.importing import import_source
from lumbarseg.datasets.label_proposal import propose_label_table
from lumbarseg.datasets.label_table import label_table_to_json
from lumbarseg.datasets.writing import DatasetResult
from lumbarseg.errors import FileError
from lumbarseg.io import read_labels, write_json
from lumbarseg.progress import ProgressBar
from lumbarseg.volume import Volume

from . import console, options

SOURCES = {
    "khalil": ("Al Khalil: T2 exams with nine masks each", "lumbarseg import khalil 'Lumbar Spine' data/khalil"),
    "chu": ("Chu: T2 exams with one tag for seven bodies", "lumbarseg import chu zenodo-22304 data/chu"),
    "spider": ("SPIDER: images/ and masks/ as .mha", "lumbarseg import spider zenodo-10159290 data/spider"),
    "mrspineseg": ("MRSpineSeg: MR/ and Mask/", "lumbarseg import mrspineseg train data/mrspineseg"),
    "myosegmentum": ("MyoSegmenTUM: water and fat exams", "lumbarseg import myosegmentum osf-3j54b data/myosegmentum"),
    "ivdm3seg": ("IVDM3Seg: Dixon exams with one tag for discs", "lumbarseg import ivdm3seg training data/ivdm3seg"),
}
"""Published datasets: what they are, and an example."""

DESCRIPTION = (
    "Copies exams and labels into a prepared dataset: canonical axes, native spacing, a table of label values.\n"
    "An interrupted import continues where it stopped; cases that are in the dataset already stay as they are."
)
EXAMPLE = SOURCES["khalil"][1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register one sub-command for each kind of source."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, (summary, example) in SOURCES.items():
        text = f"Imports {summary}. docs/datasets.md shows the expected folders."
        source = _add_source_parser(kinds, name, summary, text, example)
        if name == "myosegmentum":
            _add_contrast_option(source, tuple(myosegmentum.CONTRASTS))
            source.set_defaults(importer=lambda args: myosegmentum.make_importer(args.contrast))
        elif name == "ivdm3seg":
            _add_contrast_option(source, tuple(ivdm3seg.CONTRASTS))
            source.set_defaults(importer=lambda args: ivdm3seg.make_importer(args.contrast))
    _add_nnunet_parser(kinds)
    _add_folder_parser(kinds)
    _add_monailabel_parser(kinds)


def _add_source_parser(
    kinds: options.Subparsers, name: str, summary: str, text: str, example: str
) -> argparse.ArgumentParser:
    """Add the parser of a kind of source with the options that all kinds have."""
    parser = options.add_command(kinds, name, summary, text, example)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the downloaded and unpacked folder")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the dataset; created, or extended")
    options.add_shared_options(parser, "--val-fraction", default=0.1)
    options.add_shared_options(parser, "--seed", help="selects the patients for validation (default: %(default)s)")
    options.add_shared_options(parser, "--jobs", "--json")
    parser.set_defaults(importer=lambda args: get_importer(args.kind))
    return parser


def _add_contrast_option(parser: argparse.ArgumentParser, contrasts: tuple[str, ...]) -> None:
    parser.add_argument(
        "--contrast", choices=contrasts, default=contrasts[0], help="which image of an exam (default: %(default)s)"
    )


def _add_origin_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on patients, licence and source of the data."""
    parser.add_argument("--patient", metavar="REGEX", help="the patient in a name: first group, or the complete match")
    parser.add_argument("--licence", default="", metavar="TEXT", help="licence of the data, for the model card")
    parser.add_argument("--citation", default="", metavar="TEXT", help="how to cite the source")


def _origin(args: argparse.Namespace) -> dict[str, str]:
    return {key: getattr(args, key) for key in ("patient", "licence", "citation")}


def _add_nnunet_parser(kinds: options.Subparsers) -> None:
    parser = _add_source_parser(
        kinds,
        "nnunet",
        "nnU-Net's raw folder, or a task of the Decathlon",
        "Imports a folder with dataset.json, imagesTr and labelsTr. Label names may be spelled in many ways; for\n"
        "other names, explain the values with --table. Each exam counts as another patient unless --patient finds it.",
        "lumbarseg import nnunet nnUNet_raw/Dataset501_Lumbar data/lumbar",
    )
    parser.add_argument("--table", default="", metavar="FILE", help='JSON: {"0": ["background"], "1": ["L5"]}')
    parser.add_argument("--channel", default="", metavar="C", help="number or name (default: the first T2, else 0)")
    _add_origin_options(parser)
    parser.set_defaults(
        importer=lambda args: nnunet.make_importer(args.source, args.table, args.channel, **_origin(args))
    )


def _add_folder_parser(kinds: options.Subparsers) -> None:
    parser = _add_source_parser(
        kinds,
        "folder",
        "pairs of an image and a label map",
        "Imports pairs NAME_image and NAME_labels of one folder, in any supported format, or the files that match\n"
        "--images and --labels. The patient is the part of a name before the first underscore, or found by --patient.\n"
        "--propose writes a label table with names guessed from position and size, to be corrected for --table.",
        "lumbarseg import folder my/exams data/mine --table labels.json",
    )
    table = parser.add_mutually_exclusive_group(required=True)
    table.add_argument("--preset", choices=tuple(paired_files.PRESETS), help="label table and file names of a source")
    table.add_argument("--table", type=Path, metavar="FILE", help='JSON: {"0": ["background"], "1": ["body", "arch"]}')
    table.add_argument("--propose", type=Path, metavar="FILE", help="import nothing; write a table of guessed names")
    parser.add_argument("--images", default="", metavar="PATTERN", help="as 'images/{name}.nii.gz'; needs --labels")
    parser.add_argument("--labels", default="", metavar="PATTERN", help="as 'labels/{name}_seg.nii.gz'")
    _add_origin_options(parser)
    parser.set_defaults(
        importer=lambda args: paired_files.make_importer(
            args.preset or args.table, args.images, args.labels, **_origin(args)
        )
    )


def _add_monailabel_parser(kinds: options.Subparsers) -> None:
    parser = _add_source_parser(
        kinds,
        "monailabel",
        "the studies folder of MONAI Label",
        "Imports the exams of datastore_v2.json that have a final label. The name stored beside a label value says\n"
        "what it means, whatever its number. Annotator, time and initial model are kept with each case.",
        "lumbarseg import monailabel studies data/mine",
    )
    parser.add_argument("--tag", default="final", metavar="TAG", help="of the labels: final (default), or a version")
    parser.add_argument("--table", default="", metavar="FILE", help="JSON, for labels without stored names")
    _add_origin_options(parser)
    parser.set_defaults(importer=lambda args: monailabel.make_importer(args.tag, args.table, **_origin(args)))


def run(args: argparse.Namespace) -> int:
    """Import one source, or propose a label table for it."""
    if vars(args).get("propose"):
        return _propose_label_table(args)
    importer: Importer = args.importer(args)
    with console.progress_bar("exams") as bar:
        result = import_source(
            importer, args.source, args.target, args.jobs, args.seed, args.val_fraction, on_case_done=bar.advance
        )
    for name, reason in result.refused.items():
        console.print_warning(f"{name}: refused: {reason}")
    if args.json:
        console.print_json(result.to_dict() | {"warnings": result.warnings})
    else:
        _print_known_faults(importer, result)
        print(f"{args.target}: {result.summary()}")
    return console.EXIT_WARNINGS if result.refused else console.EXIT_OK


def _propose_label_table(args: argparse.Namespace) -> int:
    """Write a label table with guessed names, and print it."""
    if args.propose.exists():
        raise FileError(f"{args.propose}: exists already, perhaps corrected by hand; choose another name")
    files = paired_files.find_label_files(args.source, args.images, args.labels)
    with console.progress_bar("label maps", len(files)) as bar:
        table = propose_label_table(_read_each(files, bar))
    write_json(args.propose, label_table_to_json(table))
    patterns = ["--images", args.images, "--labels", args.labels] if args.images else []
    command = ["lumbarseg", "import", "folder", args.source, args.target, "--table", args.propose, *patterns]
    following = shlex.join(map(str, command))
    if args.json:
        console.print_json({"table": label_table_to_json(table), "label_maps": len(files), "next": following})
        return console.EXIT_OK
    for value, names in table.items():
        print(f"{value:5}  {' or '.join(names)}")
    if not any(Kind.SACRUM.value in names for value, names in table.items() if value):
        print(
            "Levels are counted from below, the lowest vertebra as L5: if it is S1, call it sacrum and move the others."
        )
    print(f"{args.propose}: guessed from position and size in {len(files)} label maps; correct it, then:\n{following}")
    return console.EXIT_OK


def _read_each(files: Sequence[Path], bar: ProgressBar) -> Iterator[Volume]:
    for path in files:
        yield read_labels(path)
        bar.advance(path.name)


def _print_known_faults(importer: Importer, result: DatasetResult) -> None:
    """Print each known fault that occurred, with its cases and explanation."""
    for fault, names in result.cases_by_fault().items():
        count = "1 case" if len(names) == 1 else f"{len(names)} cases"
        listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        print(f"{fault}: {count} ({listed}): {importer.known_faults.get(fault, 'see warnings in dataset.json')}")
