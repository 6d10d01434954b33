"""`lumbarseg evaluate MODEL DATASET ...`: how good a model is on prepared datasets."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import DatasetError, LumbarsegError, SegmentError

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.datasets import Case
    from lumbarseg.model import Model

Row = dict[str, Any]


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "evaluate",
        "score a model on prepared datasets",
        "Segments every case as `segment` would and compares the answer with its labels: Dice and volume ratio per\n"
        "structure, names right and wrong. What a source did not annotate counts neither for nor against the model.",
        "lumbarseg evaluate mine.onnx data/mine --split val",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model file, or the word shipped")
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    parser.add_argument("--split", choices=("train", "val", "test"), help="only these cases (default: all)")
    options.device(parser)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score every case."""
    from lumbarseg.datasets import Dataset
    from lumbarseg.model import Model, shipped

    datasets = [Dataset.open(folder) for folder in args.datasets]
    cases = [(dataset.name, case) for dataset in datasets for case in dataset.cases(args.split)]
    if not cases:
        raise DatasetError(f"{args.datasets[0]}: no case to score; try another --split")
    model = Model.load(shipped() if str(args.model) == "shipped" else args.model, args.device)
    progress = say.Progress("cases", len(cases))
    rows = []
    for name, case in cases:
        rows.append({"dataset": name, **scored(case, model)})
        progress.step(case.name)
        if not args.json:
            print(_told(rows[-1]), flush=True)
    progress.close()
    means = {dataset.name: mean([row for row in rows if row["dataset"] == dataset.name]) for dataset in datasets}
    if args.json:
        say.as_json({"model": {"file": str(args.model), "digest": model.card.digest}, "cases": rows, "means": means})
    else:
        print("\n".join(_table(means)))
    return say.WARNED if any(row["error"] for row in rows) else say.DONE


def scored(case: Case, model: Model) -> Row:
    """One case, segmented and compared; a case in which nothing is found has a Dice of 0 everywhere."""
    import numpy as np

    from lumbarseg.datasets import read_case
    from lumbarseg.score import missing, score, wrong_names
    from lumbarseg.segment import segment

    error, levels = None, []
    image, truth = read_case(case)
    try:
        found = segment(image, model)
        labels, levels = found.labels.array, [level.name for level in found.levels]
    except SegmentError as refused:
        error, labels = str(refused), np.zeros(truth.array.shape, np.uint8)
    except LumbarsegError as refused:
        raise DatasetError(f"{case.image}: {refused}") from refused
    rows = score(labels, truth.array, case.table, image.grid.spacing)
    return {
        "case": case.name,
        "error": error,
        "levels": levels,
        "wrong_names": wrong_names(rows),
        "missing": missing(rows),
        "structures": [row.to_dict() for row in rows],
    }


def mean(rows: Sequence[Row]) -> dict[str, Row]:
    """Per structure, over the cases whose reference shows it: how many, mean Dice, volume ratio and distance."""
    seen: dict[str, list[Row]] = {}
    for row in rows:
        for structure in row["structures"]:
            if "dice" in structure:
                seen.setdefault(structure["name"], []).append(structure)
    out = {}
    for name, scores in seen.items():
        gaps = [s["distances"]["mean"] for s in scores if "distances" in s]
        out[name] = {
            "cases": len(scores),
            "dice": round(sum(s["dice"] for s in scores) / len(scores), 4),
            "ratio": round(sum(s["ratio"] for s in scores) / len(scores), 4),
            "surface_mm": round(sum(gaps) / len(gaps), 3) if gaps else None,
        }
    return out


def _told(row: Row) -> str:
    dice = "  ".join(f"{s['name']} {s['dice']:.3f}" for s in row["structures"] if "dice" in s)
    doubts = [*row["wrong_names"], *(f"no {name}" for name in row["missing"]), *filter(None, [row["error"]])]
    return f"{row['case']}: {dice}" + "".join(f"  [{text}]" for text in doubts)


def _table(means: dict[str, dict[str, Row]]) -> list[str]:
    lines = [f"\n{'dataset':20s} {'structure':16s} {'cases':>5s} {'Dice':>6s} {'volume':>6s} {'mm':>6s}"]
    for dataset, structures in means.items():
        for name, row in structures.items():
            gap = f"{row['surface_mm']:6.2f}" if row["surface_mm"] is not None else "     -"
            lines.append(f"{dataset:20s} {name:16s} {row['cases']:5d} {row['dice']:6.3f} {row['ratio']:6.2f} {gap}")
    return lines
