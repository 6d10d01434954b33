"""`lumbarseg import KIND SOURCE TARGET`: somebody's data as a prepared dataset."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.datasets.importers.importer import Importer
    from lumbarseg.datasets.importing import ImportResult

PRESETS = (
    "default",
    "spider_space",
    "spider_t2",
    "chu_named",
    "siegen",
    "lumbar_bodies",
    "lumbar_discs",
    "mrspineseg",
    "totalsegmentator",
    "spineps",
    "totalspineseg",
)
CONTRASTS = {"myosegmentum": ("water", "fat", "pdff"), "ivdm3seg": ("inn", "opp", "wat", "fat")}
"""Sources with several images of one exam; the first is read unless another is chosen."""

SOURCES = {
    "khalil": ("Al Khalil: T2 exams with nine masks each", "lumbarseg import khalil 'Lumbar Spine' data/khalil"),
    "chu": ("Chu: T2 exams with one tag for seven bodies", "lumbarseg import chu zenodo-22304 data/chu"),
    "spider": ("SPIDER: images/ and masks/ as .mha", "lumbarseg import spider zenodo-10159290 data/spider"),
    "mrspineseg": ("MRSpineSeg: MR/ and Mask/", "lumbarseg import mrspineseg train data/mrspineseg"),
    "myosegmentum": ("MyoSegmenTUM: water and fat exams", "lumbarseg import myosegmentum osf-3j54b data/myosegmentum"),
    "ivdm3seg": ("IVDM3Seg: Dixon exams with one tag for discs", "lumbarseg import ivdm3seg training data/ivdm3seg"),
}
"""Sources that need no options of their own: what they are, and an example."""


DESCRIPTION = (
    "Copies exams and labels into a prepared dataset: canonical axes, native spacing, a table of label values.\n"
    "An import that was interrupted goes on where it stopped; what is there already is left as it is."
)
EXAMPLE = SOURCES["khalil"][1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register one sub-command for each kind of source."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, (summary, example) in SOURCES.items():
        text = f"Imports {summary}. docs/datasets.md tells the layout that is expected."
        source = _add_source_parser(kinds, name, summary, text, example)
        if name in CONTRASTS:
            first = CONTRASTS[name][0]
            source.add_argument("--contrast", choices=CONTRASTS[name], default=first, help=f"image (default: {first})")
            source.set_defaults(importer=_contrast_importer)
    _add_nnunet_parser(kinds)
    _add_folder_parser(kinds)
    _add_monailabel_parser(kinds)


def _add_source_parser(
    kinds: options.Subparsers, name: str, summary: str, text: str, example: str
) -> argparse.ArgumentParser:
    """A kind of source with the words that all of them have."""
    parser = options.add_command(kinds, name, summary, text, example)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the folder as it was downloaded and unpacked")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the dataset; made, or completed")
    parser.add_argument(
        "--val-fraction", type=options.fraction, default=0.1, metavar="X", help="patients for validation (default: 0.1)"
    )
    parser.add_argument(
        "--seed", type=options.non_negative_int, default=0, metavar="S", help="another seed, other patients"
    )
    options.add_jobs_option(parser)
    options.add_json_option(parser)
    parser.set_defaults(importer=_importer_without_options)
    return parser


def _importer_without_options(args: argparse.Namespace) -> Importer:
    """The importer of a source without options."""
    from lumbarseg.datasets.importers import get_importer

    return get_importer(args.kind)


def run(args: argparse.Namespace) -> int:
    """Import one source."""
    from lumbarseg.datasets.importing import import_source

    with console.progress_bar("exams") as bar:
        done = import_source(
            args.importer(args),
            args.source,
            args.target,
            jobs=args.jobs,
            seed=args.seed,
            val_fraction=args.val_fraction,
            on_case_done=bar.advance,
        )
    for name, reason in done.refused.items():
        console.print_warning(f"{name}: refused: {reason}")
    if args.json:
        console.print_json(_result_dict(args, done))
    else:
        _print_result(args, done)
    return console.EXIT_WARNINGS if done.refused else console.EXIT_OK


def _result_dict(args: argparse.Namespace, done: ImportResult) -> dict[str, object]:
    return {
        "folder": str(args.target),
        "cases": dict(Counter(case.split for case in done.dataset.cases())),
        "added": list(done.added),
        "already": list(done.unchanged),
        "refused": done.refused,
        "warnings": done.warnings,
    }


def _print_result(args: argparse.Namespace, done: ImportResult) -> None:
    """What came of it: traps that were met, by word, then one line of counts."""
    from lumbarseg.datasets.importers import known_faults

    meaning = known_faults(args.kind)
    for trap, names in done.cases_by_fault().items():
        few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        many = "1 case" if len(names) == 1 else f"{len(names)} cases"
        print(f"{trap}: {many} ({few}): {meaning.get(trap, 'see warnings in dataset.json')}")
    splits = Counter(case.split for case in done.dataset.cases())
    told = ", ".join(f"{count} {split}" for split, count in splits.items())
    counts = f"{len(done.added)} added, {len(done.unchanged)} there already, {len(done.refused)} refused"
    print(f"{args.target}: {len(done.dataset.cases())} cases ({told}); {counts}")


def _contrast_importer(args: argparse.Namespace) -> Importer:
    """The importer of one image of several."""
    from lumbarseg.datasets.importers import ivdm3seg, myosegmentum

    return {"myosegmentum": myosegmentum, "ivdm3seg": ivdm3seg}[args.kind].importer(args.contrast)


def _add_nnunet_parser(kinds: options.Subparsers) -> None:
    """A raw folder of nnU-Net or a task of the Decathlon."""
    parser = _add_source_parser(
        kinds,
        "nnunet",
        "nnU-Net's raw folder, or a task of the Decathlon",
        "Imports a folder with dataset.json, imagesTr and labelsTr. Label names may be spelt in many ways; where that\n"
        "fails, --table says what the values mean. Each exam counts as another patient unless --patient tells.",
        "lumbarseg import nnunet nnUNet_raw/Dataset501_Lumbar data/lumbar",
    )
    parser.add_argument("--table", default="", metavar="FILE", help='JSON: {"0": ["background"], "1": ["L5"]}')
    parser.add_argument("--channel", default="", metavar="C", help="number or name (default: the first T2, else 0)")
    _add_origin_options(parser)
    parser.set_defaults(importer=_nnunet_importer)


def _nnunet_importer(args: argparse.Namespace) -> Importer:
    from lumbarseg.datasets.importers import nnunet

    return nnunet.make_importer(args.source, args.table, args.channel, args.patient, args.licence, args.citation)


def _add_folder_parser(kinds: options.Subparsers) -> None:
    """Pairs of files below one folder, with their own table."""
    parser = _add_source_parser(
        kinds,
        "folder",
        "pairs of an image and a label map",
        "Imports pairs NAME_image and NAME_labels of one folder, of any format that is read, or what --images and\n"
        "--labels say. The patient is what stands before the first underscore of a name, or what --patient finds.",
        "lumbarseg import folder spider_space/train data/space --preset spider_space",
    )
    table = parser.add_mutually_exclusive_group(required=True)
    table.add_argument("--preset", choices=PRESETS, help="the label table and file names of a known source")
    table.add_argument("--table", type=Path, metavar="FILE", help='JSON: {"0": ["background"], "1": ["body", "arch"]}')
    parser.add_argument("--images", default="", metavar="PATTERN", help="as 'images/{name}.nii.gz'; needs --labels")
    parser.add_argument("--labels", default="", metavar="PATTERN", help="as 'labels/{name}_seg.nii.gz'")
    _add_origin_options(parser)
    parser.set_defaults(importer=_folder_importer)


def _folder_importer(args: argparse.Namespace) -> Importer:
    from lumbarseg.datasets.importers import paired_files

    table, citation = (
        args.preset or args.table,
        args.citation or paired_files.default_citation(args.preset, args.source),
    )
    return paired_files.make_importer(table, args.images, args.labels, args.patient, args.licence, citation)


def _add_monailabel_parser(kinds: options.Subparsers) -> None:
    """What people drew with MONAI Label."""
    parser = _add_source_parser(
        kinds,
        "monailabel",
        "the studies folder of MONAI Label",
        "Imports the exams of datastore_v2.json that have a final label; others wait for a person. A value means what\n"
        "the name beside it says, whatever its number. Who drew it, when, and after which model stays with each case.",
        "lumbarseg import monailabel studies data/mine",
    )
    parser.add_argument(
        "--tag", default="final", metavar="TAG", help="whose labels: final (default) or a version's tag"
    )
    parser.add_argument("--table", default="", metavar="FILE", help="JSON, for labels without names beside them")
    _add_origin_options(parser)
    parser.set_defaults(importer=_monailabel_importer)


def _monailabel_importer(args: argparse.Namespace) -> Importer:
    from lumbarseg.datasets.importers import monailabel

    return monailabel.make_importer(args.tag, args.table, args.patient, args.licence, args.citation)


def _add_origin_options(parser: argparse.ArgumentParser) -> None:
    """Words for whose exams they are, and whose data."""
    parser.add_argument("--patient", metavar="REGEX", help="what is the patient in a name: its first group, or all")
    parser.add_argument("--licence", default="", metavar="TEXT", help="the data's licence; goes into the model's card")
    parser.add_argument("--citation", default="", metavar="TEXT", help="how to name the source")
