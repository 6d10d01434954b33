"""`lumbarseg learn STUDIES -o APP`: one round of the loop of annotation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.active_learning.model_registry import ModelVersion
    from lumbarseg.active_learning.rounds import RoundOptions, RoundResult

_TRAINING_OPTIONS = (
    *("minutes", "steps", "batch_size", "crop_size", "learning_rate", "threads", "precision", "checkpoint_seconds"),
)


DESCRIPTION = (
    "Imports the finished exams of a studies folder, trains on from the model in use, and judges both models on\n"
    "exams that are never trained on. The new one is put in use only where it is not worse; older ones are kept.\n"
    "Interrupted at any moment, the same command goes on. Exit code 3: the new model was worse and is not in use."
)
EXAMPLE = "lumbarseg learn studies -o app --minutes 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="the folder that MONAI Label serves")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="APP", help="the app's folder")
    parser.add_argument("--name", default="lumbar_spine", metavar="NAME", help="of the model (default: lumbar_spine)")
    parser.add_argument(
        "--init", default="", metavar="MODEL", help="what the first round begins with: shipped, none, a RUN or a MODEL"
    )
    parser.add_argument("--with", dest="base", nargs="+", default=[], metavar="DATASET", help="learn from these, too")
    parser.add_argument(
        "--judge", nargs="+", default=[], metavar="DATASET", help="judge by the cases val of these (default: see next)"
    )
    parser.add_argument(
        "--val-fraction",
        type=options.fraction,
        default=0.2,
        metavar="SHARE",
        help="corrected patients that judge (0.2)",
    )
    parser.add_argument("--patient", metavar="REGEX", help="what is the patient in an exam's name")
    parser.add_argument(
        "--seed", type=options.non_negative_int, default=0, metavar="S", help="of who judges, and of training"
    )
    for name, kind, text in (
        ("minutes", float, "of training at most"),
        ("steps", options.positive_int, "of training"),
        ("batch-size", options.positive_int, "samples per step"),
        ("crop-size", options.positive_int, "size of a sample, mm"),
        ("learning-rate", float, "highest learning rate"),
        ("precision", str, "auto, bf16, float16 or float32"),
        ("threads", options.non_negative_int, "of the arithmetic; 0: one per core"),
        ("checkpoint-seconds", float, "seconds of work that an interruption may cost"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar=name[0].upper(), help=text)
    more = parser.add_mutually_exclusive_group()
    more.add_argument(
        "--overwrite", action="store_true", help="leave an unfinished round; learn even if nothing is new"
    )
    more.add_argument("--back", type=options.positive_int, metavar="V", help="only put version V in use again")
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """One round, or back to an older model."""
    from lumbarseg.active_learning.model_registry import ModelRegistry
    from lumbarseg.active_learning.rounds import run_round

    wish = _round_options(args)
    shelf = ModelRegistry(args.output, wish.model)
    if args.back:
        print(f"{shelf.restore(args.back)}: version {args.back} is in use again")
        return console.EXIT_OK
    done = run_round(args.studies, args.output, wish, args.overwrite)
    for name, reason in done.rejected.items():
        console.print_warning(f"{name}: left out: {reason}")
    if args.json:
        console.print_json(_result_dict(done))
    else:
        print("\n".join(_result_lines(done, shelf.current())))
    if done.comparison is not None and not done.published:
        return console.EXIT_WARNINGS
    return console.EXIT_WARNINGS if done.rejected else console.EXIT_OK


def _round_options(args: argparse.Namespace) -> RoundOptions:
    from lumbarseg.active_learning.rounds import RoundOptions

    changes: dict[str, Any] = {
        name: getattr(args, name) for name in _TRAINING_OPTIONS if getattr(args, name) is not None
    }
    return RoundOptions(
        args.name,
        args.init,
        tuple(args.base),
        tuple(args.judge),
        args.val_fraction,
        args.seed,
        args.patient,
        {**changes, "seed": args.seed},
    )


def _result_dict(done: RoundResult) -> dict[str, Any]:
    return {
        "round": done.number,
        "exams": done.training_exams,
        "judges": done.validation_exams,
        "published": done.published,
        "version": done.version,
        "model": str(done.model_path) if done.model_path else None,
        "verdict": done.comparison.to_dict() if done.comparison else None,
        "refused": dict(done.rejected),
    }


def _result_lines(done: RoundResult, current: ModelVersion | None) -> list[str]:
    """What came of a round, in lines for a person."""
    verdict = done.comparison
    if verdict is None:
        return [
            f"nothing new since round {done.number}: no exam was finished or changed; --overwrite trains all the same"
        ]
    lines = [
        f"round {done.number}: learned from {done.training_exams} exams, judged by {done.validation_exams}: {verdict.reason}"
    ]
    if verdict.difference and verdict.difference[1] is not None:
        mean, low, high = verdict.difference
        lines.append(f"difference {mean:+.4f}, 95 % interval over patients {low:+.4f} to {high:+.4f}")
    if done.published:
        return [*lines, f"{done.model_path}: version {done.version} is in use"]
    kept = f"version {current.number} stays in use" if current else "the model before stays in use"
    return [*lines, f"not better, so not published: {kept}"]
