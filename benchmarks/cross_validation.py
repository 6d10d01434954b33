"""A row of the project page in cross-validation: python -m benchmarks.cross_validation DATASET -o OUT.

For each fold: train, export the last weights (the validation exams select none), and evaluate the complete pipeline.
Prints the mean Dice by name of each exam (for the target "spine", of all bodies as one structure), wrong names, and
the processor minutes of training. Folds that exist in OUT are not repeated. --clicks also simulates clicks on the
validation exams, as benchmarks.clicks does. For the chu exams:

lumbarseg import chu ../shared/real/chu data/chu
python -m benchmarks.cross_validation data/chu -o runs/folds --row chu-5 --steps 220
python -m benchmarks.cross_validation data/chu -o runs/folds --row chu-1 --steps 500
python -m benchmarks.cross_validation data/chu -o runs/folds --row chu-5 --steps 1500 --init none --only 1
python -m benchmarks.cross_validation data/chu -o runs/folds --row deepedit-9 --targets vertebrae \\
    --steps 1000 --clicks
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import clicks, speed
from benchmarks.project_page import ROWS
from lumbarseg.anatomy import LUMBAR_LEVELS

Row = dict[str, Any]


def train_fold(folder: Path, dataset: Path, fold: str, options: list[str]) -> None:
    """Train, export and evaluate one fold in its folder."""
    program = [sys.executable, "-m", "lumbarseg"]
    model = folder / "model.onnx"
    last = ["--validation-interval", options[options.index("--steps") + 1], "--patience", "0"]
    run = speed.run_process([*program, "train", dataset, "-o", folder, "--fold", fold, *options, *last])
    speed.run_process([*program, "export", folder, "--last", "-o", model])
    evaluate = [*program, "evaluate", model, dataset, "--fold", fold, "--split", "val", "--no-distances", "--json"]
    text = speed.run_process(evaluate).output
    (folder / "cost.json").write_text(json.dumps({"minutes": run.seconds / 60, "processor_minutes": run.work / 60}))
    (folder / "evaluate.json").write_text(text[text.index("{") :])


def click_fold(folder: Path, dataset: Path, fold: str) -> list[Row]:
    """Simulate clicks on the validation exams of one fold."""
    dices = folder / "clicks.json"
    if not dices.exists():
        model = folder / "model.onnx"
        program = [sys.executable, "-m", "benchmarks.clicks"]
        speed.run_process([*program, model, dataset, "--fold", fold, "--split", "val", "-o", dices])
    (rows,) = json.loads(dices.read_text())["cases"].values()
    return rows


def exam_rows(folder: Path, targets: tuple[str, ...]) -> list[Row]:
    """Return a row per validation exam: mean Dice by name, wrong names, names marked uncertain."""
    out = []
    for case in json.loads((folder / "evaluate.json").read_text())["cases"]:
        rows = [row for row in case["structures"] if row["truth"] and row["dice"] is not None]
        selected = [row for row in rows if row["name"] in LUMBAR_LEVELS] if "vertebrae" in targets else rows
        wrong = [f"{row['name']} as {row['found_as']}" for row in selected if row["found_as"] != row["name"]]
        dice = _as_one(selected) if targets == ("spine",) else statistics.mean(row["dice"] for row in selected)
        out.append({"exam": case["case"], "dice": dice, "wrong": wrong, "uncertain": bool(case["uncertain"])})
    return out


def _as_one(rows: list[Row]) -> float:
    """Return the Dice of all structures as one: twice the shared voxels divided by all voxels of both."""
    sizes = [row["truth"] + row["found"] for row in rows]
    return sum(row["dice"] * size for row, size in zip(rows, sizes, strict=True)) / sum(sizes)


def main() -> None:
    """Run every fold, then print the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.cross_validation", description=__doc__)
    parser.add_argument("dataset", type=Path, help="prepared dataset")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder of the runs")
    parser.add_argument("--row", default="chu-5", choices=ROWS, help="row of the project page (%(default)s)")
    parser.add_argument("--init", default="shipped", help="what training begins with (shipped)")
    parser.add_argument("--steps", type=int, default=220, help="default: %(default)s")
    parser.add_argument("-n", type=int, default=5, help="folds (5)")
    parser.add_argument("--targets", default=None, help="other targets than the preset's, parted by commas")
    parser.add_argument("--clicks", action="store_true", help="click through what was held out as well")
    parser.add_argument("--only", type=int, nargs="+", default=None, help="only these folds")
    args = parser.parse_args()
    options = [*ROWS[args.row].train_options(args.init), "--steps", str(args.steps)]
    options += ["--targets", args.targets] if args.targets else []
    targets = tuple(args.targets.split(",")) if args.targets else ROWS[args.row].targets
    dices, minutes, corrected = [], [], []
    for k in args.only or range(1, args.n + 1):
        folder = args.o / f"{args.row}-{args.init}-{k}"
        if not (folder / "evaluate.json").exists():
            train_fold(folder, args.dataset, f"{k}/{args.n}", options)
        minutes.append(json.loads((folder / "cost.json").read_text())["processor_minutes"])
        corrected += click_fold(folder, args.dataset, f"{k}/{args.n}") if args.clicks else []
        for row in exam_rows(folder, targets):
            dices.append(row["dice"])
            marked = ", marked uncertain" if row["uncertain"] else ""
            print(
                f"fold {k} {row['exam']}: {row['dice']:.3f}  wrong names: {', '.join(row['wrong']) or 'none'}{marked}"
            )
    cost = f"{statistics.mean(minutes):.1f} processor minutes a fold, at most {max(minutes):.1f}"
    print(f"{args.row}, from {args.init}, {len(dices)} exams: mean Dice {statistics.mean(dices):.4f}; {cost}")
    if corrected:
        name = args.dataset.name
        both = {
            f"{name}, L1 to L5": clicks.summary(corrected, LUMBAR_LEVELS),
            f"{name}, all": clicks.summary(corrected),
        }
        print(f"\n{clicks.table(both)}")


if __name__ == "__main__":
    main()
