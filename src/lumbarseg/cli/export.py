"""`lumbarseg export RUN... -o MODEL.onnx`: training as one file that answers without torch, or as a MONAI bundle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.errors import FileError

from . import console

FORMATS = ("onnx", "monai-bundle")


DESCRIPTION = (
    "Writes the averaged weights of a run as one .onnx file with its card inside, after torch and the engine\n"
    "gave the same answer on phantoms. Of several runs, each begun with another's weights (--init), it writes\n"
    "their mean, which often serves exams of other scanners better. With --format monai-bundle, as a folder\n"
    "that MONAI runs (docs/formats.md)."
)
EXAMPLE = "lumbarseg export runs/shipped -o mine.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, or its checkpoint; of several the mean"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="MODEL", help="the .onnx file to write, or the folder"
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="what to write (default: %(default)s)")
    parser.add_argument("--about", type=Path, metavar="FILE", help="JSON for the card: data, licences, scores, limits")
    parser.add_argument(
        "--bias",
        action="append",
        default=[],
        type=_parse_bias,
        metavar="KIND=VALUE",
        help="added to the logits of a class",
    )
    parser.add_argument(
        "--last",
        action="store_true",
        help="the last weights (default: the best on held-out exams, where there are any)",
    )


def run(args: argparse.Namespace) -> int:
    """Export one run, or several as one."""
    from lumbarseg.training.export import checkpoint_to_export, export_model

    checkpoints = [checkpoint_to_export(folder, args.last) for folder in args.runs]
    given = dict(args.bias)
    bias = [given.get(kind, 0.0) for kind in CLASSES] if given else None
    about = _read_card_metadata(args.about) if args.about else None
    if args.format == "monai-bundle":
        from lumbarseg.training.monai_bundle import export_bundle

        path = export_bundle(checkpoints, args.output, about, bias)
        print(f"{path}: a MONAI bundle; {path / 'docs' / 'README.md'} says how to run it")
        return console.EXIT_OK
    path = export_model(checkpoints, args.output, about, bias)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return console.EXIT_OK


def _parse_bias(text: str) -> tuple[Kind, float]:
    """ "body=-1.2": a class of the network and a number."""
    kind, _, value = text.partition("=")
    try:
        return Kind(kind), float(value)
    except ValueError:
        kinds = ", ".join(CLASSES)
        raise argparse.ArgumentTypeError(f"{text!r}: write KIND=VALUE, KIND being one of {kinds}") from None


def _read_card_metadata(path: Path) -> dict[str, Any]:
    """What a JSON file says for the card."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileError(f"{path}: no JSON: {error}") from error
    if not isinstance(values, dict):
        raise FileError(f"{path}: must hold one JSON object")
    return values
