"""A preset on every fold of a dataset, judged on what each held out: python -m benchmarks.cross_validation DATASET -o OUT.

For each fold, as a user would do it: train, export the last weights (none are chosen by the held-out exams), evaluate
through the whole pipeline. Prints the mean Dice by name of each exam (of a single tag, that of all bodies as one),
wrong names, and the processor minutes of training; folds that lie in OUT already are not done again. With --clicks what
each fold held out is also clicked through, as benchmarks.clicks does. On the chu exams:

lumbarseg import chu ../shared/real/chu data/chu
python -m benchmarks.cross_validation data/chu -o runs/folds --preset chu-5 --steps 220
python -m benchmarks.cross_validation data/chu -o runs/folds --preset chu-1 --steps 500
python -m benchmarks.cross_validation data/chu -o runs/folds --preset chu-5 --steps 1500 --init none --only 1
python -m benchmarks.cross_validation data/chu -o runs/folds --preset deepedit-9 --targets vertebrae --steps 1000 --clicks
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks import clicks, speed
from lumbarseg.anatomy import LUMBAR_LEVELS
from lumbarseg.training.presets import TABLE

Row = dict[str, Any]


def train_fold(place: Path, dataset: Path, fold: str, words: list[str]) -> None:
    """Train, export and evaluate one fold in its folder."""
    program = [sys.executable, "-m", "lumbarseg"]
    model = place / "model.onnx"
    last = ["--validation-interval", words[words.index("--steps") + 1], "--patience", "0"]
    run = speed.run_process([*program, "train", dataset, "-o", place, "--fold", fold, *words, *last])
    speed.run_process([*program, "export", place, "--last", "-o", model])
    judged = [*program, "evaluate", model, dataset, "--fold", fold, "--split", "val", "--no-distances", "--json"]
    text = speed.run_process(judged).output
    (place / "cost.json").write_text(json.dumps({"minutes": run.seconds / 60, "processor_minutes": run.work / 60}))
    (place / "evaluate.json").write_text(text[text.index("{") :])


def click_fold(place: Path, dataset: Path, fold: str) -> list[Row]:
    """What one fold held out, click by click, in its folder."""
    found = place / "clicks.json"
    if not found.exists():
        model = place / "model.onnx"
        program = [sys.executable, "-m", "benchmarks.clicks"]
        speed.run_process([*program, model, dataset, "--fold", fold, "--split", "val", "-o", found])
    (rows,) = json.loads(found.read_text())["cases"].values()
    return rows


def exam_rows(place: Path, targets: tuple[str, ...]) -> list[Row]:
    """One row per held-out exam: mean Dice by name, wrong names, names that are marked uncertain."""
    out = []
    for case in json.loads((place / "evaluate.json").read_text())["cases"]:
        rows = [row for row in case["structures"] if row["truth"] and row["dice"] is not None]
        wanted = [row for row in rows if row["name"] in LUMBAR_LEVELS] if "vertebrae" in targets else rows
        wrong = [f"{row['name']} as {row['found_as']}" for row in wanted if row["found_as"] != row["name"]]
        dice = _as_one(wanted) if targets == ("spine",) else statistics.mean(row["dice"] for row in wanted)
        out.append({"exam": case["case"], "dice": dice, "wrong": wrong, "uncertain": bool(case["uncertain"])})
    return out


def _as_one(rows: list[Row]) -> float:
    """Dice of all structures as one: twice what is shared, by all voxels of both."""
    sizes = [row["truth"] + row["found"] for row in rows]
    return sum(row["dice"] * size for row, size in zip(rows, sizes, strict=True)) / sum(sizes)


def main() -> None:
    """Every fold, then the table."""
    parser = argparse.ArgumentParser(prog="benchmarks.cross_validation", description=__doc__)
    parser.add_argument("dataset", type=Path, help="prepared dataset")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="folder of the runs")
    parser.add_argument("--preset", default="chu-5", choices=TABLE, help="default: %(default)s")
    parser.add_argument("--init", default="shipped", help="what training begins with (shipped)")
    parser.add_argument("--steps", type=int, default=220, help="default: %(default)s")
    parser.add_argument("-n", type=int, default=5, help="folds (5)")
    parser.add_argument("--targets", default=None, help="other targets than the preset's, parted by commas")
    parser.add_argument("--clicks", action="store_true", help="click through what was held out as well")
    parser.add_argument("--only", type=int, nargs="+", default=None, help="only these folds")
    args = parser.parse_args()
    words = ["--preset", args.preset, "--init", args.init, "--steps", str(args.steps)]
    words += ["--targets", args.targets] if args.targets else []
    targets = tuple(args.targets.split(",")) if args.targets else TABLE[args.preset].settings.targets
    found, minutes, corrected = [], [], []
    for k in args.only or range(1, args.n + 1):
        place = args.o / f"{args.preset}-{args.init}-{k}"
        if not (place / "evaluate.json").exists():
            train_fold(place, args.dataset, f"{k}/{args.n}", words)
        minutes.append(json.loads((place / "cost.json").read_text())["processor_minutes"])
        corrected += click_fold(place, args.dataset, f"{k}/{args.n}") if args.clicks else []
        for row in exam_rows(place, targets):
            found.append(row["dice"])
            marked = ", marked uncertain" if row["uncertain"] else ""
            print(
                f"fold {k} {row['exam']}: {row['dice']:.3f}  wrong names: {', '.join(row['wrong']) or 'none'}{marked}"
            )
    cost = f"{statistics.mean(minutes):.1f} processor minutes a fold, at most {max(minutes):.1f}"
    print(f"{args.preset}, from {args.init}, {len(found)} exams: mean Dice {statistics.mean(found):.4f}; {cost}")
    if corrected:
        name = args.dataset.name
        both = {
            f"{name}, L1 to L5": clicks.summary(corrected, LUMBAR_LEVELS),
            f"{name}, all": clicks.summary(corrected),
        }
        print(f"\n{clicks.table(both)}")


if __name__ == "__main__":
    main()
