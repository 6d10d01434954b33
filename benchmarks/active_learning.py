"""How much work active learning saves: python -m benchmarks.active_learning --real ../shared/real -o runs/loop

A model is trained from scratch on 2 exams of chu with their bodies T11 to L5. A simulated annotator corrects the next
exam to its reference, training continues with it, and so on. 3 exams are the validation set and are never trained on.
The next exam is selected by uncertainty (`lumbarseg.active_learning.uncertainty`), and in random orders to compare.

Work is counted in corrections. One correction fixes one connected wrong region of one structure in one sagittal slice,
or shifts all names; the best shift of names comes first if it helps, then regions by size, until the mean Dice by name
is 0.95. Annotating an exam by hand is the same from an empty label map; a prediction that would cost more than that is
discarded. The same command continues an interrupted run. Prints and writes benchmarks/results/loop.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks import machine
from lumbarseg.active_learning.fine_tuning import fine_tune
from lumbarseg.active_learning.uncertainty import rank_exams
from lumbarseg.anatomy import LEVELS, structure_by_label, structure_by_name
from lumbarseg.datasets import Case, Dataset, read_case
from lumbarseg.datasets.importers import get_importer
from lumbarseg.datasets.importing import import_source
from lumbarseg.errors import SegmentError
from lumbarseg.inference import Model
from lumbarseg.io import atomic_write
from lumbarseg.segmentation import segment
from lumbarseg.training.export import checkpoint_to_export, export_model
from lumbarseg.volume import Array

RESULTS = Path(__file__).resolve().parent / "results" / "loop.json"
INITIAL, VALIDATION_CASES = 2, 3
TARGET_DICE = 0.95  # mean Dice by name at which a person stops
OUR_ORDER = "doubt"
STEP = 0.12  # processor seconds of a training step, once measured; only turns --minutes into a number of steps
FIRST = 0.3  # of the steps, for the start from nothing
SETTINGS: dict[str, Any] = {
    "channels": (16, 24, 40, 56, 64),
    "batch_size": 6,
    "crop_size": 128,
    "ema_decay": 0.99,
    "distillation_weight": 0.0,
    "warmup_steps": 50,
    "precision": "float32",
    "checkpoint_seconds": 20.0,
    "image_interval": 10**6,
    "patience": 0,
}
"""Sizes that fit the minutes; the rest is the recipe for few exams, and the one that goes on from a model."""
CONTINUED_SETTINGS: dict[str, Any] = {"learning_rate": 1e-3}  # a weak model has more to learn than the recipe thinks of
Row = dict[str, Any]
_LEVEL_SHIFTS = range(-3, 4)  # levels by which a person may move all names at once


@dataclass(frozen=True)
class LoopPlan:
    """Which exams have which part, and how long training runs.

    judges : validation exams
    first, each : training steps from scratch, and after each correction
    """

    initial: tuple[str, ...]
    judges: tuple[str, ...]
    pool: tuple[str, ...]
    first: int
    each: int
    batch: int
    threads: int
    seed: int


def load_plan(out: Path, dataset: Dataset, args: argparse.Namespace) -> LoopPlan:
    """Read the plan in `out`, or create it; a resumed run keeps its plan."""
    path = out / "plan.json"
    if path.exists():
        values: Row = json.loads(path.read_text())
        read: Row = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return LoopPlan(**read)
    names = [
        str(name) for name in np.random.default_rng(args.seed).permutation(sorted(c.name for c in dataset.cases()))
    ]
    pool = names[INITIAL + VALIDATION_CASES :]
    rounds = -(-len(pool) // args.batch)
    steps = max(rounds + 1, round(60 * args.minutes / STEP))
    first, each = max(1, round(FIRST * steps)), max(1, round((1 - FIRST) * steps / rounds))
    parts = (tuple(names[:INITIAL]), tuple(names[INITIAL : INITIAL + VALIDATION_CASES]), tuple(pool))
    plan = LoopPlan(*parts, first, each, args.batch, args.threads, args.seed)
    _write_json(path, asdict(plan))
    return plan


def _write_json(path: Path, values: Mapping[str, Any]) -> Path:
    """Write values as JSON, atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(values, indent=1) + "\n").encode())
    return path


def predict_case(case: Case, model: Model) -> tuple[Array, Array]:
    """Return prediction and reference of an exam, (I, J, K) uint8; the prediction is empty if the exam is refused."""
    image, reference = read_case(case)
    try:
        return segment(image, model).labels.array, reference.array
    except SegmentError:
        return np.zeros(reference.array.shape, np.uint8), reference.array


def mean_dice(prediction: Array, reference: Array) -> float:
    """Return the mean Dice by name over the structures of the reference."""
    return float(np.mean(list(_dices(prediction, reference).values())))


def renamed_dice(prediction: Array, reference: Array) -> float:
    """Return the same after the best shift of all names, as when a person has corrected the level."""
    return mean_dice(
        _best_shift(prediction, reference, sorted({int(v) for v in np.unique(reference)} - {0}))[0], reference
    )


def _dices(prediction: Array, reference: Array) -> dict[int, float]:
    sizes = [np.bincount(labels.ravel(), minlength=256) for labels in (prediction, reference)]
    both = np.bincount(reference[prediction == reference], minlength=256)
    return {v: 2 * both[v] / (sizes[0][v] + sizes[1][v]) for v in np.flatnonzero(sizes[1]).tolist() if v}


def count_corrections(prediction: Array, reference: Array, target_dice: float = TARGET_DICE) -> int:
    """Count the corrections that bring a label map to a mean Dice; from an empty one if that needs fewer.

    Label maps are (I, J, K) uint8 with sagittal slices along the first axis.
    """
    (box,) = ndimage.find_objects(((prediction > 0) | (reference > 0)).astype(np.uint8)) or ((slice(None),) * 3,)
    prediction, reference = prediction[box], reference[box]
    by_hand = _corrections(np.zeros_like(reference), reference, target_dice)
    return min(by_hand, _corrections(prediction, reference, target_dice)) if prediction.any() else by_hand


def _corrections(prediction: Array, reference: Array, target_dice: float) -> int:
    annotated = sorted({int(v) for v in np.unique(reference)} - {0})
    prediction, count = _best_shift(prediction, reference, annotated)
    sizes = np.array([np.bincount(labels.ravel(), minlength=256) for labels in (prediction, reference)])
    both = np.bincount(reference[prediction == reference], minlength=256)
    regions = _regions(prediction, reference)
    for size, was, true in regions:
        if np.mean([2 * both[v] / sizes[:, v].sum() for v in annotated]) >= target_dice:
            break
        sizes[0, was] -= size
        sizes[0, true] += size
        both[true] += size
        count += 1
    return count


def _best_shift(prediction: Array, reference: Array, annotated: Sequence[int]) -> tuple[Array, int]:
    """Return the map with its names shifted as fits best, without other structures, and 1 if that changed anything."""
    best = max(_LEVEL_SHIFTS, key=lambda by: (mean_dice(_shift_levels(prediction, by, annotated), reference), -abs(by)))
    return _shift_levels(prediction, best, annotated), int(best != 0)


def _shift_levels(prediction: Array, by: int, annotated: Sequence[int]) -> Array:
    regular = [level for level in LEVELS if level != "L6"]
    table = np.zeros(256, np.uint8)
    for value in annotated:
        position = regular.index(structure_by_label(value).name) + by
        if 0 <= position < len(regular):
            table[structure_by_name(regular[position]).label] = value
    return table[prediction]


def _regions(prediction: Array, reference: Array) -> list[tuple[int, int, int]]:
    """Return the connected wrong regions of each slice, the largest first: voxels, predicted value, true value."""
    pairs = np.where(prediction != reference, prediction.astype(np.int32) * 256 + reference, 0)
    rows = []
    for pair in np.unique(pairs[pairs > 0]).tolist():
        for part in (pairs == pair)[(pairs == pair).any(axis=(1, 2))]:
            pieces, _ = ndimage.label(part)
            rows += [(size, pair // 256, pair % 256) for size in np.bincount(pieces.ravel())[1:].tolist()]
    return sorted(rows, reverse=True)


@dataclass(frozen=True)
class CorrectionOrder:
    """One order of corrections, in its own folder; its finished steps are in steps.json."""

    name: str
    plan: LoopPlan
    dataset: Dataset
    out: Path

    @property
    def folder(self) -> Path:
        """Return the folder of this order."""
        return self.out / self.name

    def rows(self) -> list[Row]:
        """Return the finished steps."""
        path = self.folder / "steps.json"
        return list(json.loads(path.read_text())["rows"]) if path.exists() else []

    def run(self) -> None:
        """Correct, train and evaluate until no exam is left."""
        rows = self.rows()
        while len(rows) <= -(-len(self.plan.pool) // self.plan.batch):
            before = time.process_time()
            rows.append(self._row(rows))
            rows[-1]["processor_minutes"] = round((time.process_time() - before) / 60, 2)
            _write_json(self.folder / "steps.json", {"rows": rows})
            summary_row = {
                key: rows[-1][key] for key in ("corrected", "dice", "dice_renamed", "held_out_corrections", "next")
            }
            print(f"{self.name}: {json.dumps(summary_row)}", flush=True)

    def _row(self, rows: list[Row]) -> Row:
        model = self._model(rows)
        validation = {name: predict_case(self._case(name), model) for name in self.plan.judges}
        done = {name for row in rows for name in row["next"]}
        rest = [name for name in self.plan.pool if name not in done]
        selected, reasons = self._next(rest, model, len(rows))
        work = {}
        for name in selected:
            prediction, reference = predict_case(self._case(name), model)
            work[name] = {
                "corrections": count_corrections(prediction, reference),
                "dice": round(mean_dice(prediction, reference), 4),
            }
        return {
            "corrected": len(done),
            "dice": round(float(np.mean([mean_dice(*pair) for pair in validation.values()])), 4),
            "dice_renamed": round(float(np.mean([renamed_dice(*pair) for pair in validation.values()])), 4),
            "held_out_corrections": sum(count_corrections(*pair) for pair in validation.values()),
            "next": selected,
            "reasons": reasons,
            "work": work,
        }

    def _case(self, name: str) -> Case:
        return next(case for case in self.dataset.cases() if case.name == name)

    def _next(self, rest: list[str], model: Model, step: int) -> tuple[list[str], list[str]]:
        """Return the exams to correct next, and the reasons."""
        if self.name == OUR_ORDER and rest:
            previous = self._model_folder(step - 1) / "model.onnx"
            other = Model.load(previous, exam_count=len(rest)) if step and previous.exists() else None
            scores = rank_exams({name: self._case(name).image for name in rest}, model, other).scores
            first = scores[: self.plan.batch]
            return [exam.name for exam in first], [f"{exam.value:.3f} {'; '.join(exam.reasons[:2])}" for exam in first]
        seed = [self.plan.seed, int(self.name.rpartition("-")[2])] if self.name != OUR_ORDER else [0]
        ranks = dict(zip(self.plan.pool, np.random.default_rng(seed).permutation(len(self.plan.pool)), strict=True))
        return sorted(rest, key=lambda name: int(ranks[name]))[: self.plan.batch], []

    def _model_folder(self, step: int) -> Path:
        """Return the folder of the model of a step; all orders share the first."""
        return self.folder / f"{step}" if step else self.out / "start"

    def _model(self, rows: list[Row]) -> Model:
        """Return the model trained on all corrections so far; train it if it does not exist."""
        folder = self._model_folder(len(rows))
        path = folder / "model.onnx"
        if not path.exists():
            start = self._model_folder(len(rows) - 1) / "run" if rows else None
            corrected_cases = [(name, summary_row["dice"]) for row in rows for name, summary_row in row["work"].items()]
            initial = self._part([(name, 0.0) for name in self.plan.initial])
            corrected, base = (self._part(corrected_cases), [initial]) if corrected_cases else (initial, [])
            trained_before = {name for row in rows[:-1] for name in row["next"]}
            steps = self.plan.each if rows else self.plan.first
            changes = {
                **SETTINGS,
                **(CONTINUED_SETTINGS if rows else {}),
                "steps": steps,
                "seed": self.plan.seed + len(rows),
            }
            changes |= {"threads": self.plan.threads, "validation_interval": steps}
            fine_tune(start, corrected, base, folder / "run", trained_before, changes)
            export_model(checkpoint_to_export(folder / "run", last=True), path)
        return Model.load(path, exam_count=len(self.plan.pool))

    def _part(self, corrected_cases: Sequence[tuple[str, float]]) -> Dataset:
        """Return exams to train on, each with the Dice of the prediction that the annotator saw."""
        cases = []
        for name, dice in corrected_cases:
            case = self._case(name)
            cases.append(replace(case, split="train", metadata={**case.metadata, "annotated": {"answer_dice": dice}}))
        return replace(self.dataset, all_cases=tuple(cases))


def summary(plan: LoopPlan, dataset: Dataset, orders: Mapping[str, list[Row]]) -> Row:
    """Summarize Dice and work of all orders for each number of corrected exams."""
    cases = {case.name: case for case in dataset.cases()}
    by_hand = {}
    for name in (*plan.pool, *plan.judges):
        reference = read_case(cases[name])[1].array
        by_hand[name] = count_corrections(np.zeros_like(reference), reference)
    from_scratch = {
        part: sum(by_hand[name] for name in names) for part, names in (("pool", plan.pool), ("judges", plan.judges))
    }
    correction_counts = {
        name: sum(summary_row["corrections"] for row in rows for summary_row in row["work"].values())
        for name, rows in orders.items()
    }
    return {
        "by_hand": from_scratch,
        "corrections": correction_counts,
        "saved": {name: from_scratch["pool"] - count for name, count in correction_counts.items()},
        "processor_minutes": {
            name: round(sum(row["processor_minutes"] for row in rows), 1) for name, rows in orders.items()
        },
    }


def table(result: Row) -> str:
    """Format both tables in Markdown."""
    orders, totals = result["walks"], result["summary"]
    names = list(orders)
    cells = " | ".join(f"Dice, {name} | renamed | work" for name in names)
    lines = [f"| corrected | {cells} |", "|--:|" + "--:|" * 3 * len(names)]
    for i, row in enumerate(orders[names[0]]):
        rows = [orders[name][i] for name in names]
        cells_of_orders = (f"{r['dice']:.4f} | {r['dice_renamed']:.4f} | {r['held_out_corrections']}" for r in rows)
        lines.append(f"| {row['corrected']} | {' | '.join(cells_of_orders)} |")
    lines += ["", "Dice: by name; renamed: after the best shift of all names, as a person does at once"]
    lines += [
        f"work: corrections that all {VALIDATION_CASES} validation exams need; by hand {totals['by_hand']['judges']}"
    ]
    for name in names:
        lines.append(
            f"{name}: {totals['corrections'][name]} corrections for the pool, by hand {totals['by_hand']['pool']}: "
            f"{totals['saved'][name]} saved ({totals['processor_minutes'][name]} processor minutes)"
        )
    return "\n".join(lines)


def main() -> None:
    """Run each order to its end, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, metavar="DIR", help="the folder with chu/ in it")
    parser.add_argument(
        "-o", type=Path, required=True, metavar="OUT", help="folder of runs and plan; an existing one is continued"
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="processor minutes of training per order (15)")
    parser.add_argument("--random", type=int, default=2, metavar="N", help="how many random orders (2)")
    parser.add_argument("--batch", type=int, default=1, help="exams corrected at a time (1)")
    parser.add_argument("--threads", type=int, default=1, help="of the arithmetic (1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args()
    dataset = import_source(get_importer("chu"), args.real / "chu", args.o / "chu", jobs=1, val_fraction=0.0).dataset
    plan = load_plan(args.o, dataset, args)
    orders = [
        CorrectionOrder(name, plan, dataset, args.o)
        for name in (OUR_ORDER, *(f"random-{n + 1}" for n in range(args.random)))
    ]
    for order in orders:
        order.run()
    rows = {order.name: order.rows() for order in orders}
    result = {
        "machine": machine.machine_facts(),
        "plan": asdict(plan),
        "summary": summary(plan, dataset, rows),
        "walks": rows,
    }
    _write_json(args.results, result)
    print(f"\n{machine.describe_machine(result['machine'])}\n\n{table(result)}\n\nwritten to {args.results}")


if __name__ == "__main__":
    main()
