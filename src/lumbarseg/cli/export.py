"""`lumbarseg export RUN -o MODEL.onnx`: a training run as one file that answers without torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options, say


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "export",
        "write a trained network as one model file",
        "Writes the averaged weights of a run as one .onnx file with its card inside, after torch and the engine\n"
        "gave the same answer on phantoms.",
        "lumbarseg export runs/shipped -o mine.onnx",
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the run, or its checkpoint")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="MODEL", help="the .onnx file to write")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export one run."""
    from lumbarseg.train.export import export
    from lumbarseg.train.loop import NAME

    checkpoint = args.run_folder / NAME if args.run_folder.is_dir() else args.run_folder
    path = export(checkpoint, args.out)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return say.DONE
