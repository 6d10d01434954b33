"""`lumbarseg learn STUDIES -o APP`: one round of the loop of annotation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.learn.publish import Version
    from lumbarseg.learn.round import Outcome, Wish

_CHANGES = ("minutes", "steps", "batch", "crop", "rate", "threads", "precision", "checkpoint_every")


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "learn",
        "train on what people corrected in MONAI Label, and publish if not worse",
        "Imports the finished exams of a studies folder, trains on from the model in use, and judges both models on\n"
        "exams that are never trained on. The new one is put in use only where it is not worse; older ones are kept.\n"
        "Interrupted at any moment, the same command goes on. Exit code 3: the new model was worse and is not in use.",
        "lumbarseg learn studies -o app --minutes 20",
    )
    parser.add_argument("studies", type=Path, metavar="STUDIES", help="the folder that MONAI Label serves")
    parser.add_argument("-o", dest="app", type=Path, required=True, metavar="APP", help="the app's folder")
    parser.add_argument("--name", default="lumbar_spine", metavar="NAME", help="of the model (default: lumbar_spine)")
    parser.add_argument(
        "--init", default="", metavar="MODEL", help="what the first round begins with: shipped, none, a RUN or a MODEL"
    )
    parser.add_argument("--with", dest="base", nargs="+", default=[], metavar="DATASET", help="learn from these, too")
    parser.add_argument(
        "--judge", nargs="+", default=[], metavar="DATASET", help="judge by the cases val of these (default: see next)"
    )
    parser.add_argument(
        "--held-out", type=options.share, default=0.2, metavar="SHARE", help="corrected patients that judge (0.2)"
    )
    parser.add_argument("--patient", metavar="REGEX", help="what is the patient in an exam's name")
    parser.add_argument("--seed", type=options.natural, default=0, metavar="S", help="of who judges, and of training")
    for name, kind, text in (
        ("minutes", float, "of training at most"),
        ("steps", options.positive, "of training"),
        ("batch", options.positive, "samples per step"),
        ("crop", options.positive, "size of a sample, mm"),
        ("rate", float, "highest learning rate"),
        ("precision", str, "auto, bf16, float16 or float32"),
        ("threads", options.natural, "of the arithmetic; 0: one per core"),
        ("checkpoint-every", float, "seconds of work that an interruption may cost"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar=name[0].upper(), help=text)
    more = parser.add_mutually_exclusive_group()
    more.add_argument("--anew", action="store_true", help="leave an unfinished round; learn even if nothing is new")
    more.add_argument("--back", type=options.positive, metavar="V", help="only put version V in use again")
    parser.add_argument("--json", action="store_true", help="print what came of it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One round, or back to an older model."""
    from lumbarseg.learn.publish import Shelf
    from lumbarseg.learn.round import learn

    wish = _wish(args)
    shelf = Shelf(args.app, wish.model)
    if args.back:
        print(f"{shelf.back(args.back)}: version {args.back} is in use again")
        return say.DONE
    done = learn(args.studies, args.app, wish, args.anew)
    for name, reason in done.refused.items():
        say.warning(f"{name}: left out: {reason}")
    if args.json:
        say.as_json(_facts(done))
    else:
        print("\n".join(_told(done, shelf.current())))
    if done.verdict is not None and not done.published:
        return say.WARNED
    return say.WARNED if done.refused else say.DONE


def _wish(args: argparse.Namespace) -> Wish:
    from lumbarseg.learn.round import Wish

    changes: dict[str, Any] = {name: getattr(args, name) for name in _CHANGES if getattr(args, name) is not None}
    return Wish(
        args.name,
        args.init,
        tuple(args.base),
        tuple(args.judge),
        args.held_out,
        args.seed,
        args.patient,
        {**changes, "seed": args.seed},
    )


def _facts(done: Outcome) -> dict[str, Any]:
    return {
        "round": done.number,
        "exams": done.exams,
        "judges": done.judges,
        "published": done.published,
        "version": done.version,
        "model": str(done.path) if done.path else None,
        "verdict": done.verdict.to_dict() if done.verdict else None,
        "refused": dict(done.refused),
    }


def _told(done: Outcome, current: Version | None) -> list[str]:
    """What came of a round, in lines for a person."""
    verdict = done.verdict
    if verdict is None:
        return [f"nothing new since round {done.number}: no exam was finished or changed; --anew trains all the same"]
    lines = [f"round {done.number}: learned from {done.exams} exams, judged by {done.judges}: {verdict.reason}"]
    if verdict.difference and verdict.difference[1] is not None:
        mean, low, high = verdict.difference
        lines.append(f"difference {mean:+.4f}, 95 % interval over patients {low:+.4f} to {high:+.4f}")
    if done.published:
        return [*lines, f"{done.path}: version {done.version} is in use"]
    kept = f"version {current.number} stays in use" if current else "the model before stays in use"
    return [*lines, f"not better, so not published: {kept}"]
