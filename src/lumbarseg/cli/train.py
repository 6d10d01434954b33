"""`lumbarseg train DATASET ... -o RUN`: a network from prepared datasets."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import ModelError

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.train.settings import Settings

PRESETS = ("shipped", "quick")


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "train",
        "train a network on prepared datasets",
        "Trains on prepared datasets (see: import, phantom). The run's folder holds the checkpoint, its settings and\n"
        "a log for TensorBoard. A run that was stopped goes on with --resume as if it had not been.",
        "lumbarseg train data/phantoms data/space data/t2 -o runs/shipped --preset shipped",
    )
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--preset", choices=PRESETS, help="a recipe with a name; options below change it")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on with the run in RUN, with its settings")
    start.add_argument("--init", type=Path, metavar="RUN", help="begin with the weights of another run")
    for name, kind, text in (
        ("steps", options.positive, "how many steps in all"),
        ("seed", options.natural, "of everything that is drawn"),
        ("batch", options.positive, "samples per step"),
        ("crop", options.positive, "size of a sample, mm"),
        ("rate", float, "highest learning rate"),
        ("precision", str, "auto, bf16, float16 or float32"),
        ("threads", options.natural, "of the arithmetic; 0: one per core"),
        ("loaders", options.positive, "threads that prepare samples"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar=name[0].upper(), help=text)
    parser.add_argument("--shares", type=float, nargs="+", metavar="S", help="share of the samples, per dataset")
    parser.set_defaults(run=run)


CHANGES = ("steps", "seed", "batch", "crop", "rate", "precision", "threads", "loaders", "shares")
"""Settings that have an option of their own."""


def run(args: argparse.Namespace) -> int:
    """Train to the last step."""
    from lumbarseg.datasets import Dataset
    from lumbarseg.train.loop import NAME, train

    init = args.init / NAME if args.init and args.init.is_dir() else args.init
    settings = _settings(args)
    path = train(settings, [Dataset.open(folder) for folder in args.datasets], args.out, args.resume, init)
    print(f"{path}\nnext: lumbarseg export {args.out} -o {args.out.name}.onnx")
    return say.DONE


def _settings(args: argparse.Namespace) -> Settings:
    """The preset's, or the resumed run's own, changed by what was said."""
    from lumbarseg.train import presets
    from lumbarseg.train.settings import Settings

    changes: dict[str, Any] = {name: getattr(args, name) for name in CHANGES if getattr(args, name) is not None}
    base = presets.PRESETS[args.preset] if args.preset else Settings()
    if args.resume and not args.preset:
        path = args.out / "settings.json"
        try:
            base = Settings.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read, so there is no run to resume: {error}") from error
    return replace(base, **changes)
