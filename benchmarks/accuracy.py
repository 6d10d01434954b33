"""Accuracy of a model on real exams, none of which it was trained on: python -m benchmarks.accuracy [--real DIR].

Prints a line per exam and the table of targets, writes benchmarks/results/accuracy.json. The folder of real exams is
--real, else LUMBARSEG_REAL, else ../shared/real beside the repository.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from lumbarseg.anatomy import CLASSES, LUMBAR_LEVELS, Kind, structure_by_name
from lumbarseg.datasets.label_table import read_label_table
from lumbarseg.errors import LumbarsegError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import read_exam, read_labels
from lumbarseg.metrics.overlap import (
    find_missing_structures,
    find_wrong_names,
    score_structures,
    select_marked_uncertain,
)
from lumbarseg.metrics.structure_names import own_label_table
from lumbarseg.segmentation import Segmentation, segment

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "accuracy.json"
Row = dict[str, Any]


def tissue_table(table: Mapping[int, Collection[str]]) -> dict[int, tuple[str, ...]]:
    """Convert a label table of levels to one of tissues: all vertebrae are one structure, all discs another."""
    kinds = {name: structure_by_name(name).kind for names in table.values() for name in names if name not in CLASSES}
    out = {}
    for value, names in table.items():
        row = {str(kinds.get(name, name)) for name in names}
        out[value] = tuple(sorted(row))
    return out


@dataclass(frozen=True)
class BenchmarkSet:
    """Exams that are evaluated in one way.

    table : label table of the references; empty if there are none
    contrast : of all exams, or of those named in `contrasts`
    """

    name: str
    folder: str
    table: Mapping[int, tuple[str, ...]]
    pattern: str = "*_image.nii.gz"
    contrast: str = ""
    contrasts: Mapping[str, str] = field(default_factory=dict)

    def exams(self, real: Path) -> Iterator[tuple[Path, Path]]:
        """Yield pairs of an image and its reference."""
        for image in sorted((real / self.folder).glob(self.pattern)):
            if self.name == "chu":
                yield image, image.parent / "named" / image.name.replace(".nii.gz", "_named.nii.gz")
            else:
                yield image, image.with_name(image.name.replace("_image.", "_labels."))


# not documented, so recognised in the images: dark fluid and bright fat is T1, both bright T2, dark fat and bright
# fluid TIRM
_SIEGEN = {"02": "T1", "03": "TIRM", "06": "T1", "10": "T1", "12": "T2", "15": "T2"}
_BODIES, _DISCS = own_label_table([Kind.BODY]), own_label_table([Kind.DISC])
LABEL_TABLES = Path(__file__).resolve().parent / "label_tables"
_T2_SLICES = tissue_table(read_label_table(LABEL_TABLES / "spider_t2.json"))
_SPACE = read_label_table(LABEL_TABLES / "spider_space.json")

SETS = (
    BenchmarkSet("chu", "chu", _BODIES, "Img_??.nii.gz", contrast="T2 TSE"),
    BenchmarkSet(
        "siegen", "siegen", _BODIES, contrasts=_SIEGEN
    ),  # its value 30 is S1, which is no body here: background
    BenchmarkSet("myosegmentum", "myosegmentum", _BODIES, contrast="gradient echo"),
    BenchmarkSet("discs", "discs", _DISCS, contrast="T2"),
    BenchmarkSet("spider_space", "spider_space/test", _SPACE, contrast="T2 SPACE"),
    BenchmarkSet("spider_t2", "spider_t2/test", _T2_SLICES, contrast="T2 TSE"),
    BenchmarkSet("negatives", "negatives", {}),
)


def mean(values: Collection[float]) -> float:
    """Return the mean, 0 without values."""
    return float(np.mean(list(values))) if values else 0.0


@dataclass(frozen=True)
class Target:
    """One line of the table of targets.

    measure : the value to compare with `bound`
    higher_is_better : whether the value must be at least the bound, or at most
    ratio : volume ratio shown beside a Dice
    """

    set: str
    description: str
    bound: float
    measure: Callable[[list[Row]], float]
    higher_is_better: bool = True
    ratio: Callable[[list[Row]], float] | None = None

    def evaluate(self, rows: list[Row]) -> Row:
        """Return the measured value beside its bound."""
        value = self.measure(rows)
        passed = value >= self.bound if self.higher_is_better else value <= self.bound
        ratio = round(self.ratio(rows), 3) if self.ratio else None
        row = {
            "set": self.set,
            "what": self.description,
            "target": self.bound,
            "figure": round(value, 4),
            "pass": passed,
        }
        return row | {"volume_ratio": ratio, "exams": len(rows)}


def _mean_of(key: str, names: Collection[str] | None = None) -> Callable[[list[Row]], float]:
    """Return a function: mean over exams of the mean over structures.

    names : structures that count, by default all; exams without any of them are left out
    """

    def mean_over_exams(rows: list[Row]) -> float:
        values_per_exam = [
            [value.get(key, 0.0) for name, value in row["structures"].items() if names is None or name in names]
            for row in rows
        ]
        return mean([mean(values) for values in values_per_exam if values])

    return mean_over_exams


def dice_target(set_name: str, what: str, bound: float, names: Collection[str] | None = None, key: str = "") -> Target:
    """Return a target for a Dice with its volume ratio.

    key : "overlap_" to compare each structure with the one that covers it, whatever its name
    """
    mean_over_exams = _mean_of("overlap" if key else "dice", names)
    return Target(set_name, what, bound, mean_over_exams, ratio=_mean_of(f"{key}ratio", names))


def count_named_right(rows: list[Row]) -> float:
    """Count the exams in which no structure of the reference is missing or has a wrong name."""
    return sum(not row["wrong"] and not row["missing"] for row in rows)


def count_unmarked_wrong_names(rows: list[Row]) -> float:
    """Count the wrong names that are not marked uncertain."""
    return sum(len(row["wrong_unmarked"]) for row in rows)


def count_claimed(rows: list[Row]) -> float:
    """Count the exams without a lumbar spine that get lumbar names without a warning."""
    return sum(row["claimed"] for row in rows)


def dice_of_certain_exams(rows: list[Row]) -> float:
    """Return the mean Dice by name over the exams in which no name is marked uncertain."""
    return _mean_of("dice")([row for row in rows if not any(level["uncertain"] for level in row["levels"])])


TARGETS = (
    dice_target("chu", "body Dice by name, L1-L5", 0.93, LUMBAR_LEVELS),
    Target("chu", "exams with all names right, of 10", 10, count_named_right),
    dice_target("siegen", "body Dice by name, L1-L5 and thoracic", 0.89),
    Target("siegen", "exams with all names right, of 6", 6, count_named_right),
    dice_target("myosegmentum", "body Dice, each against its own reference", 0.89, key="overlap_"),
    Target("myosegmentum", "body Dice by name, where named with confidence", 0.85, dice_of_certain_exams),
    Target("myosegmentum", "exams with all names right, of 23", 20, count_named_right),
    Target("myosegmentum", "wrong names not marked uncertain", 0, count_unmarked_wrong_names, higher_is_better=False),
    dice_target("discs", "disc Dice by name", 0.89),
    dice_target("spider_space", "vertebra Dice", 0.94, ["vertebra"]),
    dice_target("spider_space", "disc Dice", 0.905, ["disc"]),
    dice_target("spider_space", "canal Dice", 0.93, ["canal"]),
    dice_target("spider_t2", "vertebra Dice, slice by slice", 0.86, ["vertebra"]),
    dice_target("spider_t2", "disc Dice, slice by slice", 0.80, ["disc"]),
    dice_target("spider_t2", "canal Dice, slice by slice", 0.85, ["canal"]),
    Target("negatives", "exams with lumbar names and no warning, of 7", 0, count_claimed, higher_is_better=False),
)


def run_sets(model: Model, real: Path, names: tuple[str, ...] = (), limit: int | None = None) -> Row:
    """Evaluate every exam of the selected sets (default: all), print each, and return rows and targets."""
    sets: dict[str, list[Row]] = {}
    for values_per_exam in SETS:
        if names and values_per_exam.name not in names:
            continue
        rows = [evaluate_exam(model, values_per_exam, *pair) for pair in list(values_per_exam.exams(real))[:limit]]
        if rows:
            sets[values_per_exam.name] = rows
    return {
        "machine": machine.machine_facts(),
        "model": {"digest": model.card.digest, "engine": model.engine_name},
        "targets": [target.evaluate(sets[target.set]) for target in TARGETS if target.set in sets],
        "volume_ratios": {name: volume_ratio(rows) for name, rows in sets.items() if name != "negatives"},
        "sets": sets,
    }


def evaluate_exam(model: Model, benchmark_set: BenchmarkSet, image: Path, reference: Path) -> Row:
    """Segment one exam and score the complete volume on its own grid."""
    name = image.name.removesuffix(".nii.gz").removesuffix("_image")
    volume = read_exam(image).volume
    try:
        segmentation, refused = segment(volume, model), ""
        labels = segmentation.labels.array
    except LumbarsegError as error:
        segmentation, refused, labels = None, str(error), np.zeros(volume.array.shape, np.uint8)
    contrast = benchmark_set.contrasts.get(name, benchmark_set.contrast)
    row: Row = {
        "exam": name,
        "contrast": contrast,
        "refused": refused,
        **(_level_facts(segmentation) if segmentation else {"levels": [], "warnings": []}),
    }
    if benchmark_set.table:
        scores = score_structures(labels, read_labels(reference).array, benchmark_set.table)
        row["structures"] = {s.name: s.to_dict() for s in scores if s.reference_voxels}
        row |= {
            "wrong": find_wrong_names(s for s in scores if s.reference_voxels),
            "missing": find_missing_structures(scores),
        }
        uncertain = {level["name"] for level in row["levels"] if level["uncertain"]}
        marked = select_marked_uncertain(row["wrong"], uncertain)
        row["wrong_unmarked"] = [text for text in row["wrong"] if text not in marked]
    else:
        row["claimed"] = _claims_lumbar_names(row)
    print(format_row(benchmark_set.name, row), flush=True)
    return row


def _level_facts(segmentation: Segmentation) -> Row:
    """Return names, anchor, confidence and warnings for JSON."""
    levels = [
        {"name": level.name, "uncertain": level.uncertain, "confidence": round(level.confidence, 3)}
        for level in segmentation.levels
    ]
    return {
        "levels": levels,
        "anchor": segmentation.anchor,
        "confidence": round(segmentation.confidence, 3),
        "warnings": list(segmentation.warnings),
    }


def _claims_lumbar_names(row: Row) -> bool:
    """Return whether lumbar names are given without a warning and without a mark of uncertainty."""
    certain = [level["name"] for level in row["levels"] if level["name"] in LUMBAR_LEVELS and not level["uncertain"]]
    return bool(certain) and not row["warnings"]


def volume_ratio(rows: list[Row]) -> dict[str, float]:
    """Return the mean volume ratio of each structure over the exams in which it was predicted."""
    ratios: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row["structures"].items():
            r = value.get("overlap_ratio", value.get("ratio", 0.0))
            if r > 0:
                ratios.setdefault(name, []).append(r)
    return {name: round(mean(values), 3) for name, values in ratios.items()}


def format_row(set_name: str, row: Row) -> str:
    """Format one exam as a line."""
    line = f"{set_name:13s} {row['exam']:28s}"
    if "claimed" in row:
        line += "CLAIMED" if row["claimed"] else "ok"
        line += f"  {', '.join(level['name'] for level in row['levels'])}"
    else:
        line += "  ".join(
            f"{name} {value['dice']:.3f} ({value['ratio']:.2f})"
            for name, value in row["structures"].items()
            if "dice" in value
        )
    for text in (*row.get("wrong", []), *(f"no {name}" for name in row.get("missing", []))):
        line += f"  [{text}]"
    if row["refused"]:
        line += f"  refused: {row['refused']}"
    return line + "".join(f"  ! {text}" for text in row["warnings"])


def targets_table(targets: list[Row]) -> str:
    """Format the targets as a Markdown table."""
    lines = ["| set | measure | target | result | volume ratio | |", "|---|---|--:|--:|--:|---|"]
    for t in targets:
        digits = 0 if float(t["target"]).is_integer() else 3
        target = f"{t['target']:.{digits}f}" if digits == 0 else f"{t['target']:.3f}".removesuffix("0")
        ratio = "" if t["volume_ratio"] is None else f"{t['volume_ratio']:.2f}"
        verdict = "pass" if t["pass"] else "**miss**"
        lines.append(f"| {t['set']} | {t['what']} | {target} | {t['figure']:.{digits}f} | {ratio} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    """Evaluate the model, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.accuracy", description=__doc__)
    parser.add_argument("--real", type=Path, default=os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    parser.add_argument("--model", type=Path, default=None, help="a model file (default: the shipped one)")
    parser.add_argument("--sets", nargs="*", default=(), choices=[s.name for s in SETS], help="only these")
    parser.add_argument("--limit", type=int, default=None, help="only the first exams of each set")
    parser.add_argument("-o", type=Path, default=RESULTS, help="output file (JSON)")
    args = parser.parse_args()
    if not args.real.is_dir():
        parser.error(f"no real exams at {args.real}; set --real or LUMBARSEG_REAL")
    result = run_sets(Model.load(args.model or bundled_model_path()), args.real, tuple(args.sets), args.limit)
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{machine.describe_machine(result['machine'])}\n\n{targets_table(result['targets'])}\n")
    print("volume ratios, predicted to reference:")
    for name, ratios in result["volume_ratios"].items():
        print(f"  {name}: " + ", ".join(f"{structure} {value:.2f}" for structure, value in ratios.items()))
    print(f"\nwritten to {args.o}")


if __name__ == "__main__":
    main()
