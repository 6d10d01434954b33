"""`lumbarseg learn STUDIES -o APP`: train on corrected exams, and publish the model if it is not worse."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lumbarseg.active_learning.model_registry import ModelRegistry, ModelVersion
from lumbarseg.active_learning.rounds import RoundOptions, RoundResult, run_round

from . import console, options

DESCRIPTION = (
    "Imports the finished exams of a studies folder, trains the model in use further, and compares both models on\n"
    "validation exams that are never trained on. The new model is used only if it is not worse; all models are kept.\n"
    "Interrupted at any moment, the same command continues. Exit code 3: the new model is worse and is not used."
)
EXAMPLE = "lumbarseg learn studies -o app --minutes 20"
_TRAINING_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "minutes": (float, "of training at most"),
    "steps": (options.positive_int, "training steps, instead of minutes"),
    "batch_size": (options.positive_int, "samples per step"),
    "crop_size": (options.positive_int, "size of a sample in mm"),
    "learning_rate": (float, "highest learning rate"),
    "precision": (str, "auto, bf16, float16 or float32"),
    "threads": (options.non_negative_int, "arithmetic threads; 0: one per core"),
    "checkpoint_seconds": (float, "seconds between two checkpoints"),
}
"""Type and help of each training setting that has an option."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="folder that MONAI Label serves")
    options.add_shared_options(parser, "--output", metavar="APP", help="the app's folder", required=True)
    parser.add_argument("--name", default="lumbar_spine", metavar="NAME", help="of the model (default: %(default)s)")
    text = "train the first round from: shipped, none, a RUN or a model file"
    parser.add_argument("--init", default="", metavar="MODEL", help=text)
    for name, text in (("base", "train on these prepared datasets, too"), ("val", "validate with their split val")):
        parser.add_argument(f"--{name}-dataset", nargs="+", default=[], metavar="DATASET", help=text)
    options.add_shared_options(parser, "--val-fraction", default=0.2)
    parser.add_argument("--patient", metavar="REGEX", help="finds the patient in an exam's name")
    options.add_shared_options(
        parser, "--seed", help="of the choice of validation patients, and of training (default: %(default)s)"
    )
    for name, (kind, text) in _TRAINING_OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=name[0].upper(), help=text)
    more = parser.add_mutually_exclusive_group()
    more.add_argument("--overwrite", action="store_true", help="drop an unfinished round; train even if nothing is new")
    more.add_argument("--restore", type=options.positive_int, metavar="V", help="only use version V again")
    options.add_shared_options(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Run a round, or restore an earlier model."""
    round_options = _round_options(args)
    registry = ModelRegistry(args.output, round_options.model)
    if args.restore:
        print(f"{registry.restore(args.restore)}: version {args.restore} is in use again")
        return console.EXIT_OK
    result = run_round(args.studies, args.output, round_options, args.overwrite)
    for name, reason in result.rejected.items():
        console.print_warning(f"{name}: not imported: {reason}")
    if args.json:
        path = str(result.model_path) if result.model_path else None
        console.print_json({**asdict(result), "model_path": path, "published": result.published})
    else:
        print("\n".join(_result_lines(result, registry.current())))
    is_worse = result.comparison is not None and not result.published
    return console.EXIT_WARNINGS if is_worse or result.rejected else console.EXIT_OK


def _round_options(args: argparse.Namespace) -> RoundOptions:
    settings = {name: getattr(args, name) for name in _TRAINING_OPTIONS if getattr(args, name) is not None}
    return RoundOptions(
        model=args.name,
        initial_model=args.init,
        base_datasets=tuple(args.base_dataset),
        val_datasets=tuple(args.val_dataset),
        val_fraction=args.val_fraction,
        seed=args.seed,
        patient_pattern=args.patient,
        training_settings={**settings, "seed": args.seed},
    )


def _result_lines(result: RoundResult, current: ModelVersion | None) -> list[str]:
    """Format the result of a round as lines of text."""
    number, comparison = result.number, result.comparison
    if comparison is None:
        return [f"nothing new since round {number}: no exam was finished or changed; --overwrite trains nevertheless"]
    exams = f"trained on {result.training_exams} exams, validated with {result.validation_exams}"
    lines = [f"round {number}: {exams}: {comparison.reason}"]
    if comparison.difference and comparison.difference[1] is not None:
        mean, low, high = comparison.difference
        lines.append(f"difference {mean:+.4f}, 95 % interval over patients {low:+.4f} to {high:+.4f}")
    if result.published:
        return [*lines, f"{result.model_path}: version {result.version} is in use"]
    in_use = f"version {current.number}" if current else "the model before"
    return [*lines, f"not published, because it is worse: {in_use} stays in use"]
