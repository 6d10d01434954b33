"""Accuracy after clicks: python -m benchmarks.clicks MODEL DATASET ... [--fold 1/5 --split val].

Every case of prepared datasets is segmented, then refined click by click; each click is set inside the largest error,
as a careful person would set it. Prints Dice by name after 0, 1, 3, 5 and 10 clicks and the seconds of one click,
writes benchmarks/results/clicks.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.simulated_clicks import simulate_click
from lumbarseg.cli.options import parse_fold
from lumbarseg.clicks import Click
from lumbarseg.datasets import Case, Dataset, read_case
from lumbarseg.datasets.selection import Selection, select_cases
from lumbarseg.datasets.splits import SplitSettings
from lumbarseg.errors import SegmentError
from lumbarseg.inference import Model, Predictor
from lumbarseg.metrics.overlap import find_wrong_names, score_structures
from lumbarseg.segmentation import Segmentation, refine_with_clicks, segment

RESULTS = Path(__file__).resolve().parent / "results" / "clicks.json"
COUNTS = (0, 1, 3, 5, 10)
Row = dict[str, Any]


def mean(values: Iterable[float]) -> float:
    """Return the mean, 0 without values."""
    return float(np.mean([*values] or [0.0]))


def simulate_clicks(model: Predictor, case: Case, most: int, seed: int = 0) -> Row:
    """Return scores, clicks and seconds of one case after 0 to `most` clicks; "refused" if it cannot be segmented."""
    image, reference = read_case(case)
    rng = np.random.default_rng(seed)
    clicks: list[Click] = []
    seconds: list[float] = []
    work: list[float] = []
    start = time.perf_counter()
    try:
        initial = segment(image, model, keep_state=True)
    except SegmentError as error:
        return {"case": case.name, "refused": str(error)}
    first = time.perf_counter() - start
    segmentation: Segmentation = initial
    steps = [_scores(segmentation, reference.array, case)]
    for _ in range(most):
        click = simulate_click(segmentation.labels, reference, case.label_table, rng)
        if click is not None:
            start, began = time.perf_counter(), time.process_time()
            try:
                segmentation = refine_with_clicks(initial, model, (*clicks, click))
            except SegmentError as error:  # a person would take such a click back
                steps[-1].setdefault("taken back", []).append(f"{click.describe()}: {error}")
            else:
                clicks.append(click)
            seconds.append(time.perf_counter() - start)
            work.append(time.process_time() - began)
        steps.append(_scores(segmentation, reference.array, case))
    return {
        "case": case.name,
        "first": round(first, 3),
        "seconds": [round(s, 3) for s in seconds],
        "work": [round(s, 3) for s in work],
        "clicks": [click.describe() for click in clicks],
        "steps": steps,
    }


def _scores(segmentation: Segmentation, reference: np.ndarray, case: Case) -> Row:
    rows = [
        row for row in score_structures(segmentation.labels.array, reference, case.label_table) if row.reference_voxels
    ]
    return {
        "dice": {row.name: round(row.dice, 4) for row in rows if row.dice is not None},
        "wrong": find_wrong_names(rows),
        "forced": sum("overridden" in note for note in segmentation.warnings),
    }


def summary(rows: list[Row], structures: Sequence[str] = ()) -> Row:
    """Summarize cases: mean Dice over cases and structures after some numbers of clicks, and seconds per click.

    structures : names that count; by default all annotated ones
    """
    segmented = [row for row in rows if "steps" in row]
    after = [count for count in COUNTS if all(len(row["steps"]) > count for row in segmented)]
    names = sorted(
        {name for row in segmented for name in row["steps"][0]["dice"] if not structures or name in structures}
    )

    def at(count: int, selected: list[str]) -> float:
        dices = [[row["steps"][count]["dice"].get(name) for name in selected] for row in segmented]
        return round(mean([mean([d for d in values if d is not None]) for values in dices if any(values)]), 4)

    seconds, work = ([s for row in segmented for s in row[key]] for key in ("seconds", "work"))
    return {
        "cases": len(segmented),
        "refused": len(rows) - len(segmented),
        "dice": {str(count): at(count, names) for count in after},
        "structures": {name: {str(count): at(count, [name]) for count in after} for name in names},
        "wrong_names": {str(count): sum(len(row["steps"][count]["wrong"]) for row in segmented) for count in after},
        "forced": {str(count): sum(row["steps"][count]["forced"] for row in segmented) for count in after},
        "seconds_per_click": _spread(seconds),
        "processor_seconds_per_click": _spread(work),  # of all cores together: the same on a busy machine
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"median": round(float(np.median(seconds)), 3), "largest": max(seconds)} if seconds else {}


def table(results: dict[str, Row]) -> str:
    """Format the means as a Markdown table."""
    lines = [
        f"| dataset | cases | {' | '.join(f'{n} clicks' for n in COUNTS)} | s per click | of processor |",
        "|---|" + "--:|" * 8,
    ]
    for name, row in results.items():
        cells = [f"{row['dice'][str(n)]:.4f}" if str(n) in row["dice"] else "" for n in COUNTS]
        cells += [str(row[key].get("median", "")) for key in ("seconds_per_click", "processor_seconds_per_click")]
        lines.append(f"| {name} | {row['cases']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate clicks on the datasets, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.clicks", description=__doc__)
    parser.add_argument("model", type=Path, help="a model file that reads clicks")
    parser.add_argument("datasets", type=Path, nargs="+", help="prepared datasets")
    parser.add_argument("--fold", type=parse_fold, metavar="K/N", help="split by patient, as `train --fold` does")
    parser.add_argument("--split", choices=("train", "val", "test"), default=None, help="only these cases")
    parser.add_argument("--clicks", type=int, default=max(COUNTS), help="how many (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=None, help="only the first cases of each dataset")
    parser.add_argument("-o", type=Path, default=RESULTS, help="output file (JSON)")
    args = parser.parse_args()
    model = Model.load(args.model)
    rows: dict[str, list[Row]] = {}
    for dataset in map(Dataset.open, args.datasets):
        (part,) = select_cases([dataset], Selection(split=args.split), SplitSettings(args.fold) if args.fold else None)
        for case in part.all_cases[: args.limit]:
            row = simulate_clicks(model, case, args.clicks)
            rows.setdefault(dataset.name, []).append(row)
            dices = [f"{mean(step['dice'].values()):.4f}" for step in row.get("steps", [])]
            print(f"{dataset.name} {row['case']}: {' '.join(dices) or row['refused']}", flush=True)
    result = {
        "machine": machine.machine_facts(),
        "model": {"digest": model.card.digest, "engine": model.engine_name},
        "summary": {name: summary(cases) for name, cases in rows.items()},
        "cases": rows,
    }
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{machine.describe_machine(result['machine'])}\n\n{table(result['summary'])}\n\nwritten to {args.o}")


if __name__ == "__main__":
    main()
