"""What the loop of annotation saves: python -m benchmarks.active_learning --real ../shared/real -o runs/loop

From nothing: a model is trained on 2 exams of chu with their bodies T11 to L5; an annotator, played by the references,
corrects the next exam, training goes on with it, and so on; 3 exams are never learned from and judge each model. Which
exam is next: by our order (`lumbarseg.active_learning.uncertainty`), and by random orders beside it.

Work is counted in corrections. One correction makes one connected wrong region of one structure in one sagittal slice
right, or names the whole column anew; the best naming first if it helps, then regions by size, until the mean Dice by
name of the exam is 0.95. Drawing an exam by hand is the same from an empty label map; an answer that would cost more
than that is thrown away. Interrupted, the same command goes on. Prints and writes benchmarks/results/loop.json.
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
ON: dict[str, Any] = {"learning_rate": 1e-3}  # a weak model has more to learn than the recipe thinks of
Row = dict[str, Any]
_RENAMED = range(-3, 4)  # levels by which a person may move all names at once


@dataclass(frozen=True)
class LoopPlan:
    """Who is who, and how long is trained. first, each: steps from nothing, and after each correction."""

    initial: tuple[str, ...]
    judges: tuple[str, ...]
    pool: tuple[str, ...]
    first: int
    each: int
    batch: int
    threads: int
    seed: int


def load_plan(out: Path, dataset: Dataset, args: argparse.Namespace) -> LoopPlan:
    """The plan in `out`, made where there is none; a resumed run keeps its own."""
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
    _written(path, asdict(plan))
    return plan


def _written(path: Path, values: Mapping[str, Any]) -> Path:
    with atomic_write(path) as file:
        file.write((json.dumps(values, indent=1) + "\n").encode())
    return path


def predict_case(case: Case, model: Model) -> tuple[Array, Array]:
    """What a model finds in an exam, an empty map where it refuses, and the reference; (I, J, K) uint8."""
    image, truth = read_case(case)
    try:
        return segment(image, model).labels.array, truth.array
    except SegmentError:
        return np.zeros(truth.array.shape, np.uint8), truth.array


def mean_dice(found: Array, truth: Array) -> float:
    """Over the structures of the reference, by name."""
    return float(np.mean(list(_dices(found, truth).values())))


def renamed_dice(found: Array, truth: Array) -> float:
    """The same with all names moved as fits best: what is left when a person has named the column."""
    return mean_dice(_named(found, truth, sorted({int(v) for v in np.unique(truth)} - {0}))[0], truth)


def _dices(found: Array, truth: Array) -> dict[int, float]:
    sizes = [np.bincount(labels.ravel(), minlength=256) for labels in (found, truth)]
    both = np.bincount(truth[found == truth], minlength=256)
    return {v: 2 * both[v] / (sizes[0][v] + sizes[1][v]) for v in np.flatnonzero(sizes[1]).tolist() if v}


def count_corrections(found: Array, truth: Array, target_dice: float = TARGET_DICE) -> int:
    """How many corrections bring a label map, or an empty one where that is less work, to a mean Dice.

    Sagittal slices lie along the first axis.
    """
    (box,) = ndimage.find_objects(((found > 0) | (truth > 0)).astype(np.uint8)) or ((slice(None),) * 3,)
    found, truth = found[box], truth[box]
    by_hand = _corrections(np.zeros_like(truth), truth, target_dice)
    return min(by_hand, _corrections(found, truth, target_dice)) if found.any() else by_hand


def _corrections(found: Array, truth: Array, wanted: float) -> int:
    drawn = sorted({int(v) for v in np.unique(truth)} - {0})
    found, count = _named(found, truth, drawn)
    sizes = np.array([np.bincount(labels.ravel(), minlength=256) for labels in (found, truth)])
    both = np.bincount(truth[found == truth], minlength=256)
    regions = _regions(found, truth)
    for size, was, true in regions:
        if np.mean([2 * both[v] / sizes[:, v].sum() for v in drawn]) >= wanted:
            break
        sizes[0, was] -= size
        sizes[0, true] += size
        both[true] += size
        count += 1
    return count


def _named(found: Array, truth: Array, drawn: Sequence[int]) -> tuple[Array, int]:
    """The map with all names moved as fits best, and 1 if that was any use; what nobody drew is left out of it."""
    best = max(_RENAMED, key=lambda by: (mean_dice(_moved(found, by, drawn), truth), -abs(by)))
    return _moved(found, best, drawn), int(best != 0)


def _moved(found: Array, by: int, drawn: Sequence[int]) -> Array:
    regular = [level for level in LEVELS if level != "L6"]
    table = np.zeros(256, np.uint8)
    for value in drawn:
        place = regular.index(structure_by_label(value).name) + by
        if 0 <= place < len(regular):
            table[structure_by_name(regular[place]).label] = value
    return table[found]


def _regions(found: Array, truth: Array) -> list[tuple[int, int, int]]:
    """Connected wrong regions in each slice, the largest first: voxels, what was found, what is true."""
    pairs = np.where(found != truth, found.astype(np.int32) * 256 + truth, 0)
    rows = []
    for pair in np.unique(pairs[pairs > 0]).tolist():
        for part in (pairs == pair)[(pairs == pair).any(axis=(1, 2))]:
            pieces, _ = ndimage.label(part)
            rows += [(size, pair // 256, pair % 256) for size in np.bincount(pieces.ravel())[1:].tolist()]
    return sorted(rows, reverse=True)


@dataclass(frozen=True)
class CorrectionOrder:
    """One order of correcting, in its own folder; rows of what is done lie in steps.json."""

    name: str
    plan: LoopPlan
    dataset: Dataset
    out: Path

    @property
    def folder(self) -> Path:
        """Of this order."""
        return self.out / self.name

    def rows(self) -> list[Row]:
        """What is done so far."""
        path = self.folder / "steps.json"
        return list(json.loads(path.read_text())["rows"]) if path.exists() else []

    def run(self) -> None:
        """Correct, train and judge until the pool is empty."""
        rows = self.rows()
        while len(rows) <= -(-len(self.plan.pool) // self.plan.batch):
            before = time.process_time()
            rows.append(self._row(rows))
            rows[-1]["processor_minutes"] = round((time.process_time() - before) / 60, 2)
            _written(self.folder / "steps.json", {"rows": rows})
            told = {key: rows[-1][key] for key in ("corrected", "dice", "dice_renamed", "held_out_corrections", "next")}
            print(f"{self.name}: {json.dumps(told)}", flush=True)

    def _row(self, rows: list[Row]) -> Row:
        model = self._model(rows)
        judged = {name: predict_case(self._case(name), model) for name in self.plan.judges}
        done = {name for row in rows for name in row["next"]}
        rest = [name for name in self.plan.pool if name not in done]
        chosen, reasons = self._next(rest, model, len(rows))
        work = {}
        for name in chosen:
            found, truth = predict_case(self._case(name), model)
            work[name] = {"corrections": count_corrections(found, truth), "dice": round(mean_dice(found, truth), 4)}
        return {
            "corrected": len(done),
            "dice": round(float(np.mean([mean_dice(*pair) for pair in judged.values()])), 4),
            "dice_renamed": round(float(np.mean([renamed_dice(*pair) for pair in judged.values()])), 4),
            "held_out_corrections": sum(count_corrections(*pair) for pair in judged.values()),
            "next": chosen,
            "reasons": reasons,
            "work": work,
        }

    def _case(self, name: str) -> Case:
        return next(case for case in self.dataset.cases() if case.name == name)

    def _next(self, rest: list[str], model: Model, step: int) -> tuple[list[str], list[str]]:
        """Who is corrected next, and why."""
        if self.name == OUR_ORDER and rest:
            previous = self._place(step - 1) / "model.onnx"
            other = Model.load(previous, exam_count=len(rest)) if step and previous.exists() else None
            doubts = rank_exams({name: self._case(name).image for name in rest}, model, other).scores
            told = doubts[: self.plan.batch]
            return [one.name for one in told], [f"{one.value:.3f} {'; '.join(one.reasons[:2])}" for one in told]
        seed = [self.plan.seed, int(self.name.rpartition("-")[2])] if self.name != OUR_ORDER else [0]
        ranks = dict(zip(self.plan.pool, np.random.default_rng(seed).permutation(len(self.plan.pool)), strict=True))
        return sorted(rest, key=lambda name: int(ranks[name]))[: self.plan.batch], []

    def _place(self, step: int) -> Path:
        """Where a model lies; the start is the same for every order."""
        return self.folder / f"{step}" if step else self.out / "start"

    def _model(self, rows: list[Row]) -> Model:
        """The model after all corrections so far, trained where it is not there yet."""
        place = self._place(len(rows))
        path = place / "model.onnx"
        if not path.exists():
            start = self._place(len(rows) - 1) / "run" if rows else None
            taught = [(name, told["dice"]) for row in rows for name, told in row["work"].items()]
            initial = self._part([(name, 0.0) for name in self.plan.initial])
            corrected, base = (self._part(taught), [initial]) if taught else (initial, [])
            seen = {name for row in rows[:-1] for name in row["next"]}
            steps = self.plan.each if rows else self.plan.first
            changes = {**SETTINGS, **(ON if rows else {}), "steps": steps, "seed": self.plan.seed + len(rows)}
            changes |= {"threads": self.plan.threads, "validation_interval": steps}
            fine_tune(start, corrected, base, place / "run", seen, changes)
            export_model(checkpoint_to_export(place / "run", last=True), path)
        return Model.load(path, exam_count=len(self.plan.pool))

    def _part(self, taught: Sequence[tuple[str, float]]) -> Dataset:
        """Exams to learn from, each with the Dice of the answer that the annotator was shown."""
        cases = []
        for name, dice in taught:
            case = self._case(name)
            cases.append(replace(case, split="train", metadata={**case.metadata, "annotated": {"answer_dice": dice}}))
        return replace(self.dataset, all_cases=tuple(cases))


def summary(plan: LoopPlan, dataset: Dataset, walks: Mapping[str, list[Row]]) -> Row:
    """Dice and work of our order beside the mean of the random ones, at each number of corrected exams."""
    cases = {case.name: case for case in dataset.cases()}
    by_hand = {}
    for name in (*plan.pool, *plan.judges):
        truth = read_case(cases[name])[1].array
        by_hand[name] = count_corrections(np.zeros_like(truth), truth)
    scratch = {
        part: sum(by_hand[name] for name in names) for part, names in (("pool", plan.pool), ("judges", plan.judges))
    }
    spent = {
        name: sum(told["corrections"] for row in rows for told in row["work"].values()) for name, rows in walks.items()
    }
    return {
        "by_hand": scratch,
        "corrections": spent,
        "saved": {name: scratch["pool"] - count for name, count in spent.items()},
        "processor_minutes": {
            name: round(sum(row["processor_minutes"] for row in rows), 1) for name, rows in walks.items()
        },
    }


def table(result: Row) -> str:
    """Both tables in Markdown."""
    walks, told = result["walks"], result["summary"]
    names = list(walks)
    cells = " | ".join(f"Dice, {name} | renamed | work" for name in names)
    lines = [f"| corrected | {cells} |", "|--:|" + "--:|" * 3 * len(names)]
    for i, row in enumerate(walks[names[0]]):
        rows = [walks[name][i] for name in names]
        told_of = (f"{r['dice']:.4f} | {r['dice_renamed']:.4f} | {r['held_out_corrections']}" for r in rows)
        lines.append(f"| {row['corrected']} | {' | '.join(told_of)} |")
    lines += ["", "Dice: by name; renamed: with the whole column named anew as fits best, as a person does at once"]
    lines += [
        f"work: corrections that the {VALIDATION_CASES} held-out exams need together; by hand {told['by_hand']['judges']}"
    ]
    for name in names:
        lines.append(
            f"{name}: {told['corrections'][name]} corrections for the pool, by hand {told['by_hand']['pool']}: "
            f"{told['saved'][name]} saved ({told['processor_minutes'][name]} processor minutes)"
        )
    return "\n".join(lines)


def main() -> None:
    """Walk each order to its end, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, metavar="DIR", help="the folder with chu/ in it")
    parser.add_argument(
        "-o", type=Path, required=True, metavar="OUT", help="where runs and plan go, and are gone on with"
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
    walks = [
        CorrectionOrder(name, plan, dataset, args.o)
        for name in (OUR_ORDER, *(f"random-{n + 1}" for n in range(args.random)))
    ]
    for walk in walks:
        walk.run()
    rows = {walk.name: walk.rows() for walk in walks}
    result = {
        "machine": machine.machine_facts(),
        "plan": asdict(plan),
        "summary": summary(plan, dataset, rows),
        "walks": rows,
    }
    _written(args.results, result)
    print(f"\n{machine.describe_machine(result['machine'])}\n\n{table(result)}\n\nwritten to {args.results}")


if __name__ == "__main__":
    main()
