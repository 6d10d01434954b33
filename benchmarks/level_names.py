"""How far level names can be trusted: python -m benchmarks.level_names [--real DIR] [-n 75].

Compares the names of segmented exams with known names: phantoms with five lumbar vertebrae, with four and with six,
those with ribs in view as a group of their own; all real exams whose references name levels; and crops of these to
three vertebrae each, without a sacrum to count from.
Prints, per range of confidence, how many exams and vertebrae have the right name, and every wrong name that is not
marked uncertain; writes benchmarks/results/names.json. The limit of confidence below which names are marked was chosen
from the table of phantoms.

The sacrum counts as in view if an exam reaches `_SACRUM_MM` below the lowest voxel of the reference's L5; the
prediction plays no part in that.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.accuracy import LABEL_TABLES, SETS
from lumbarseg.anatomy import LEVELS, Kind, structure_by_name
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
from lumbarseg.phantom import Phantom, RecipeRanges, render_phantom, sample_recipe
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import segment
from lumbarseg.volume import Volume

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "names.json"
EDGES = (0.0, 0.3, 0.5, 0.6, 0.75, 0.9, 1.01)
SETS_WITH_NAMES = ("chu", "siegen", "myosegmentum", "discs", "spider_t2")
_SACRUM_MM = 20.0  # mm, two thirds of a first sacral vertebra
_RIB_MM = 30.0  # mm to either side of a body, where a rib is seen in cross-section
_MARGIN = 2.0  # mm beyond the bodies of a crop
_SMALL = 500  # voxels of a body cut by a crop's edge, below which its name is not asked for
Table = Mapping[int, tuple[str, ...]]


@dataclass(frozen=True)
class NamedCase:
    """Names of one exam.

    sacrum : whether it is in view
    wrong, unmarked : wrong names ("L4 as L5"), and those of them not marked uncertain
    levels : confidence and correctness of every vertebra that covers one of the reference
    """

    group: str
    exam: str
    sacrum: bool
    confidence: float
    uncertain: bool
    wrong: tuple[str, ...]
    unmarked: tuple[str, ...]
    missing: tuple[str, ...]
    levels: tuple[tuple[float, bool], ...]

    @property
    def right(self) -> bool:
        """Return whether no name is wrong."""
        return not self.wrong


def evaluate_names(
    model: Model, group: str, exam: str, image: Volume, reference: np.ndarray, table: Table, sacrum: bool
) -> NamedCase:
    """Compare the names of one exam with its reference; a refused exam has no names."""
    try:
        segmentation = segment(image, model)
    except LumbarsegError:
        return NamedCase(group, exam, sacrum, 0.0, True, (), (), ("refused",), ())
    rows = [row for row in score_structures(segmentation.labels.array, reference, table) if row.reference_voxels]
    wrong = tuple(find_wrong_names(rows))
    marked = select_marked_uncertain(wrong, {level.name for level in segmentation.levels if level.uncertain})
    confidences = {level.name: level.confidence for level in segmentation.levels}
    names = [(row.name.removesuffix(" vertebra"), (row.covered_by or "").removesuffix(" vertebra")) for row in rows]
    return NamedCase(
        group,
        exam,
        sacrum,
        segmentation.confidence,
        segmentation.uncertain,
        wrong,
        tuple(text for text in wrong if text not in marked),
        tuple(find_missing_structures(rows)),
        tuple((confidences[predicted], predicted == name) for name, predicted in names if predicted in confidences),
    )


def phantom_cases(model: Model, count: int, seed: int) -> Iterator[NamedCase]:
    """Evaluate phantoms of five lumbar vertebrae, and a third as many of four and of six."""
    table = own_label_table([Kind.BODY])
    for lumbar, many in ((5, count), (4, count // 3), (6, count // 3)):
        group = "phantoms" if lumbar == 5 else f"phantoms, {lumbar} lumbar"
        for number in range(many):
            phantom = render_phantom(
                sample_recipe(
                    np.random.default_rng([seed, lumbar, number]),
                    RecipeRanges(lumbar_counts=(lumbar,), isotropic_fraction=0),
                )
            )
            reference = _without_cut_bodies(phantom.labels.array, table)
            ribs = ", ribs in view" if lumbar != 5 and shows_ribs(phantom) else ""
            yield evaluate_names(
                model,
                group + ribs,
                f"{seed}-{lumbar}-{number}",
                phantom.image,
                reference,
                table,
                _shows_sacrum(phantom.labels),
            )


def real_cases(model: Model, folder: Path, limit: int | None = None) -> Iterator[NamedCase]:
    """Evaluate every real exam whose reference names levels, complete and in crops of three vertebrae."""
    for benchmark_set in (each for each in SETS if each.name in SETS_WITH_NAMES):
        table = benchmark_set.table
        if benchmark_set.name == "spider_t2":
            table = read_label_table(LABEL_TABLES / "spider_t2.json")
        for image_path, reference_path in list(benchmark_set.exams(folder))[:limit]:
            name = image_path.name.removesuffix(".nii.gz").removesuffix("_image")
            image, reference = read_exam(image_path).volume, read_labels(reference_path)
            yield evaluate_names(
                model,
                benchmark_set.name,
                name,
                image,
                reference.array,
                table,
                _shows_sacrum(Volume(reference.array, image.affine)),
            )
            if benchmark_set.name not in ("discs", "spider_t2"):
                yield from _crops(model, benchmark_set.name, name, image, reference.array, table)


def _crops(
    model: Model, group: str, exam: str, image: Volume, reference: np.ndarray, table: Table
) -> Iterator[NamedCase]:
    """Evaluate crops to three neighbouring vertebrae: all slices, full depth, cropped above and below."""
    image_ras, reference_ras = reorient(image, "RAS"), reorient(Volume(reference, image.affine), "RAS")
    spans = {}
    for value, names in table.items():
        heights = np.flatnonzero((reference_ras.array == value).any(axis=(0, 1)))
        if len(names) == 1 and len(heights):
            spans[names[0]] = (int(heights[0]), int(heights[-1]))
    margin = round(_MARGIN / image_ras.grid.spacing[2])
    present = [level for level in LEVELS if level in spans]
    for levels in zip(present, present[1:], present[2:], strict=False):
        labels_of_levels = [structure_by_name(level).label for level in levels]
        low = max(0, min(spans[level][0] for level in levels) - margin)
        high = max(spans[level][1] for level in levels) + margin + 1
        affine = image_ras.affine.copy()
        affine[:3, 3] += affine[:3, 2] * low
        cropped = Volume(np.ascontiguousarray(image_ras.array[:, :, low:high]), affine)
        labels = np.where(np.isin(reference_ras.array, labels_of_levels), reference_ras.array, 0)
        name = f"{exam} {levels[0]}-{levels[-1]}"
        yield evaluate_names(model, f"{group}, cropped", name, cropped, labels[:, :, low:high], table, sacrum=False)


def _shows_sacrum(labels: Volume) -> bool:
    """Return whether an exam reaches far enough below L5, or below the lowest disc."""
    labels_ras = reorient(labels, "RAS")
    lowest = [structure_by_name(name).label for name in ("L6", "L5", "L5-S1")]
    heights = next(
        (h for value in lowest if len(h := np.flatnonzero((labels_ras.array == value).any(axis=(0, 1))))), None
    )
    return heights is not None and float(heights[0]) * labels_ras.grid.spacing[2] >= _SACRUM_MM


def shows_ribs(phantom: Phantom) -> bool:
    """Return whether a phantom shows the body of T12 and slices as far to either side as its ribs."""
    labels = reorient(phantom.labels, "RAS")
    t12 = np.argwhere(labels.array == structure_by_name("T12").label)
    if not phantom.recipe.surroundings.ribs or len(t12) < _SMALL:
        return False
    to_left = t12[:, 0].mean() * labels.grid.spacing[0]
    return min(to_left, len(labels.array) * labels.grid.spacing[0] - to_left) >= _RIB_MM


def _without_cut_bodies(reference: np.ndarray, table: Table) -> np.ndarray:
    """Return a reference without bodies that are mostly outside of the field of view."""
    counts = np.bincount(reference.ravel(), minlength=256)
    return np.where(np.isin(reference, [value for value in table if counts[value] >= _SMALL]), reference, 0)


def reliability_table(pairs: Sequence[tuple[float, bool]]) -> list[dict[str, Any]]:
    """Return rows of confidence range, count, number of right names, and mean confidence."""
    rows = []
    for low, high in pairwise(EDGES):
        inside = [(confidence, right) for confidence, right in pairs if low <= confidence < high]
        if inside:
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            facts = {"from": low, "to": min(high, 1.0), "count": len(inside), "right": sum(r for _, r in inside)}
            rows.append({**facts, "mean_confidence": round(mean, 3)})
    return rows


def summary(cases: Sequence[NamedCase]) -> dict[str, Any]:
    """Summarize reliability for phantoms and real exams, counts per group, and unmarked wrong names."""
    plain = [c for c in cases if "lumbar" not in c.group and c.missing != ("refused",)]
    phantoms, human = [c for c in plain if c.group == "phantoms"], [c for c in plain if c.group != "phantoms"]
    parts = {
        "phantoms": phantoms,
        "real exams": [c for c in human if "cropped" not in c.group],
        "crops of real exams": [c for c in human if "cropped" in c.group],
    }
    groups = dict.fromkeys(c.group for c in cases)
    return {
        "exams": {name: reliability_table([(c.confidence, c.right) for c in some]) for name, some in parts.items()},
        "vertebrae": {name: reliability_table([p for c in some for p in c.levels]) for name, some in parts.items()},
        "groups": [_group(name, [c for c in cases if c.group == name]) for name in groups],
        "sacrum_in_view": _group("real exams with the sacrum in view", [c for c in parts["real exams"] if c.sacrum]),
        "unmarked": [f"{c.group} {c.exam}: {', '.join(c.unmarked)}" for c in cases if c.unmarked],
    }


def _group(name: str, cases: Sequence[NamedCase]) -> dict[str, Any]:
    return {
        "group": name,
        "exams": len(cases),
        "refused": sum(c.missing == ("refused",) for c in cases),
        "right": sum(c.right and c.missing != ("refused",) for c in cases),
        "right_and_certain": sum(c.right and not c.uncertain for c in cases),
        "wrong_and_marked": sum(bool(c.wrong) and not c.unmarked for c in cases),
        "wrong_unmarked": sum(bool(c.unmarked) for c in cases),
    }


def tables(result: Mapping[str, Any]) -> str:
    """Format the summary in Markdown."""
    lines = [
        "| exams | | refused | right | of these certain | wrong, marked | wrong, not marked |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    keys = ("exams", "refused", "right", "right_and_certain", "wrong_and_marked", "wrong_unmarked")
    rows = (*result["groups"], result["sacrum_in_view"])
    lines += [f"| {row['group']} | " + " | ".join(str(row[key]) for key in keys) + " |" for row in rows]
    for what in ("exams", "vertebrae"):
        columns = list(result[what])
        lines += ["", f"| confidence of {what} | " + " | ".join(f"{c}: right of all" for c in columns) + " |"]
        lines.append("|---" + "|--:" * len(columns) + "|")
        for low, high in pairwise(EDGES):
            cells = [_cell(result[what][column], low) for column in columns]
            lines.append(f"| {low:.2f} to {min(high, 1.0):.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(rows: Iterable[Mapping[str, Any]], low: float) -> str:
    row = next((row for row in rows if row["from"] == low), None)
    return f"{row['right']} of {row['count']}" if row else ""


def main() -> None:
    """Segment, compare, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.level_names", description=__doc__)
    parser.add_argument("--real", type=Path, default=os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    parser.add_argument("--model", type=Path, default=None, help="a model file (default: the shipped one)")
    parser.add_argument(
        "-n",
        type=int,
        default=75,
        help="phantoms of five lumbar vertebrae, and a third as many of four and of six each (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=77, help="of the phantoms")
    parser.add_argument("--limit", type=int, default=None, help="only the first exams of each real set")
    parser.add_argument("-o", type=Path, default=RESULTS, help="output file (JSON)")
    args = parser.parse_args()
    model = Model.load(args.model or bundled_model_path())
    cases: list[NamedCase] = []
    if args.real.is_dir():
        cases += real_cases(model, args.real, args.limit)
    else:
        print(f"no real exams at {args.real}; set --real or LUMBARSEG_REAL. Phantoms alone:")
    cases += phantom_cases(model, args.n, args.seed)
    result = summary(cases)
    for text in result["unmarked"]:
        print(f"not marked: {text}")
    facts = {"machine": machine.machine_facts(), "model": model.card.digest}
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps({**facts, **result, "cases": [asdict(c) for c in cases]}, indent=1) + "\n")
    size = f"{args.n} phantoms of five lumbar vertebrae, {args.n // 3} of four and {args.n // 3} of six (-n)"
    print(f"\n{tables(result)}\n\n{size}; written to {args.o}")


if __name__ == "__main__":
    main()
