"""`lumbarseg export RUN... -o MODEL.onnx`: write a trained network as one ONNX file, or as a MONAI bundle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.errors import FileError

from . import console, options

FORMATS = ("onnx", "monai-bundle")

DESCRIPTION = (
    "Writes the averaged weights of a run as one .onnx file with its model card inside, after torch and the engine\n"
    "gave the same prediction on a phantom. Of several runs, each initialised from another one (--init), it writes\n"
    "the mean, which often segments exams of other scanners better. With --format monai-bundle it writes a folder\n"
    "that MONAI runs (docs/formats.md)."
)
EXAMPLE = "lumbarseg export runs/shipped -o mine.onnx"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of the command."""
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, or its checkpoint; of several the mean"
    )
    options.add_shared_options(
        parser, "--output", metavar="MODEL", help="the .onnx file or the folder to write", required=True
    )
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="what to write (default: %(default)s)")
    parser.add_argument("--about", type=Path, metavar="FILE", help="JSON for the card: data, licences, scores, limits")
    parser.add_argument(
        "--bias",
        action="append",
        default=[],
        type=_parse_logit_bias,
        metavar="KIND=VALUE",
        help="added to a class's logits",
    )
    parser.add_argument(
        "--last", action="store_true", help="take the last weights, not those with the best validation score"
    )


def run(args: argparse.Namespace) -> int:
    """Export one run, or the mean of several."""
    from lumbarseg.training.export import checkpoint_to_export, export_model

    for folder in args.runs:
        _warn_of_unfinished_run(folder)
    checkpoints = [checkpoint_to_export(folder, args.last) for folder in args.runs]
    biases = dict(args.bias)
    bias = [biases.get(kind, 0.0) for kind in CLASSES] if biases else None
    details = _read_details(args.about) if args.about else None
    if args.format == "monai-bundle":
        from lumbarseg.training.monai_bundle import export_bundle  # MONAI: seconds that ONNX need not wait for

        path = export_bundle(checkpoints, args.output, details, bias)
        print(f"{path}: a MONAI bundle; {path / 'docs' / 'README.md'} explains how to run it")
        return console.EXIT_OK
    path = export_model(checkpoints, args.output, details, bias)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return console.EXIT_OK


def _warn_of_unfinished_run(run: Path) -> None:
    """Warn if a run's folder says that it has not ended."""
    from lumbarseg.training.run_result import RESULT_FILE, RunResult

    if (run / RESULT_FILE).is_file() and not (result := RunResult.read(run)).finished:
        steps = f"step {result.step} of {result.settings.steps}"
        console.print_warning(f"{run}: this run has not ended ({steps}); lumbarseg train --resume continues it")


def _parse_logit_bias(text: str) -> tuple[Kind, float]:
    """Parse "body=-1.2": a class of the network and what the model adds to its logit."""
    kind, _, value = text.partition("=")
    try:
        return Kind(kind), float(value)
    except ValueError:
        kinds = ", ".join(CLASSES)
        raise argparse.ArgumentTypeError(f"{text!r}: write KIND=VALUE, with KIND one of {kinds}") from None


def _read_details(path: Path) -> dict[str, Any]:
    """Read details for the model card from a JSON file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileError(f"{path}: is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise FileError(f"{path}: must hold one JSON object")
    return values
