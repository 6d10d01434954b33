"""How far names can be trusted: python -m benchmarks.level_names [--real DIR] [-n 150].

Exams whose names are known, segmented, and their names compared: phantoms with five lumbar vertebrae, with four and
with six; all real exams whose references name levels; and crops of these to three vertebrae each, where no sacrum is
left to count from. Prints, per range of confidence, exams and vertebrae with the right and with a wrong name, and every
wrong name that was not marked uncertain; writes benchmarks/results/names.json. `levels.CERTAIN` was chosen from the
table of phantoms.

The sacrum counts as in view where an exam reaches `_BELOW` mm below the lowest voxel of the reference's L5; the answer
has no part in that.
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
from benchmarks.accuracy import SETS
from lumbarseg.anatomy import LEVELS, Kind, structure_by_name
from lumbarseg.datasets.schemes import SCHEMES
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
from lumbarseg.phantom import RecipeRanges, draw_recipe, render_phantom
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import segment
from lumbarseg.volume import Volume

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "names.json"
EDGES = (0.0, 0.3, 0.5, 0.6, 0.75, 0.9, 1.01)
NAMED = ("chu", "siegen", "myosegmentum", "discs", "spider_t2")
_BELOW = 20.0  # mm, two thirds of a first sacral vertebra
_MARGIN = 2.0  # mm beyond the bodies of a crop
_SMALL = 500  # voxels of a body cut by a crop's edge, below which its name is not asked for
Table = Mapping[int, tuple[str, ...]]


@dataclass(frozen=True)
class NamedCase:
    """One answer. sacrum: whether it is in view; levels: confidence and rightness of every vertebra found where one is.

    wrong: "L4 as L5" and the like; unmarked: those of them that were not marked uncertain.
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
        """Whether everything has its own name."""
        return not self.wrong


def evaluate_names(
    model: Model, group: str, exam: str, image: Volume, truth: np.ndarray, table: Table, sacrum: bool
) -> NamedCase:
    """What the model calls the structures of an exam; a refused one claims nothing."""
    try:
        found = segment(image, model)
    except LumbarsegError:
        return NamedCase(group, exam, sacrum, 0.0, True, (), (), ("refused",), ())
    rows = [row for row in score_structures(found.labels.array, truth, table) if row.reference_voxels]
    wrong = tuple(find_wrong_names(rows))
    marked = select_marked_uncertain(wrong, {level.name for level in found.levels if level.uncertain})
    trust = {level.name: level.confidence for level in found.levels}
    names = [(row.name.removesuffix(" vertebra"), (row.covered_by or "").removesuffix(" vertebra")) for row in rows]
    return NamedCase(
        group,
        exam,
        sacrum,
        found.confidence,
        found.uncertain,
        wrong,
        tuple(text for text in wrong if text not in marked),
        tuple(find_missing_structures(rows)),
        tuple((trust[given], given == name) for name, given in names if given in trust),
    )


def phantom_cases(model: Model, count: int, seed: int) -> Iterator[NamedCase]:
    """Phantoms of five lumbar vertebrae, and a third as many of four and of six, which no count can tell."""
    table = own_label_table([Kind.BODY])
    for lumbar, many in ((5, count), (4, count // 3), (6, count // 3)):
        group = "phantoms" if lumbar == 5 else f"phantoms, {lumbar} lumbar"
        for number in range(many):
            drawn = render_phantom(
                draw_recipe(
                    np.random.default_rng([seed, lumbar, number]),
                    RecipeRanges(lumbar_counts=(lumbar,), isotropic_fraction=0),
                )
            )
            truth = _without_parts(drawn.labels.array, table)
            yield evaluate_names(
                model, group, f"{seed}-{lumbar}-{number}", drawn.image, truth, table, _sacral(drawn.labels)
            )


def real_cases(model: Model, folder: Path, limit: int | None = None) -> Iterator[NamedCase]:
    """Every real exam whose reference names levels, whole and in crops of three vertebrae."""
    for chosen in (each for each in SETS if each.name in NAMED):
        table = SCHEMES["spider_t2"] if chosen.name == "spider_t2" else chosen.table
        for picture, reference in list(chosen.exams(folder))[:limit]:
            name = picture.name.removesuffix(".nii.gz").removesuffix("_image")
            image, truth = read_exam(picture).volume, read_labels(reference)
            yield evaluate_names(
                model, chosen.name, name, image, truth.array, table, _sacral(Volume(truth.array, image.affine))
            )
            if chosen.name not in ("discs", "spider_t2"):
                yield from _crops(model, chosen.name, name, image, truth.array, table)


def _crops(model: Model, group: str, exam: str, image: Volume, truth: np.ndarray, table: Table) -> Iterator[NamedCase]:
    """Three vertebrae each that follow each other: all slices, the whole depth, cut above and below them."""
    turned, drawn = reorient(image, "RAS"), reorient(Volume(truth, image.affine), "RAS")
    spans = {}
    for value, names in table.items():
        heights = np.flatnonzero((drawn.array == value).any(axis=(0, 1)))
        if len(names) == 1 and len(heights):
            spans[names[0]] = (int(heights[0]), int(heights[-1]))
    margin = round(_MARGIN / turned.grid.spacing[2])
    present = [level for level in LEVELS if level in spans]
    for chosen in zip(present, present[1:], present[2:], strict=False):
        low = max(0, min(spans[level][0] for level in chosen) - margin)
        high = max(spans[level][1] for level in chosen) + margin + 1
        affine = turned.affine.copy()
        affine[:3, 3] += affine[:3, 2] * low
        cut = Volume(np.ascontiguousarray(turned.array[:, :, low:high]), affine)
        labels = np.where(np.isin(drawn.array, [structure_by_name(level).label for level in chosen]), drawn.array, 0)
        name = f"{exam} {chosen[0]}-{chosen[-1]}"
        yield evaluate_names(model, f"{group}, cropped", name, cut, labels[:, :, low:high], table, sacrum=False)


def _sacral(labels: Volume) -> bool:
    """Whether an exam reaches far enough below L5, or below the lowest disc."""
    turned = reorient(labels, "RAS")
    lowest = [structure_by_name(name).label for name in ("L6", "L5", "L5-S1")]
    heights = next((h for value in lowest if len(h := np.flatnonzero((turned.array == value).any(axis=(0, 1))))), None)
    return heights is not None and float(heights[0]) * turned.grid.spacing[2] >= _BELOW


def _without_parts(truth: np.ndarray, table: Table) -> np.ndarray:
    """A reference without bodies of which the field of view holds next to nothing."""
    counts = np.bincount(truth.ravel(), minlength=256)
    return np.where(np.isin(truth, [value for value in table if counts[value] >= _SMALL]), truth, 0)


def reliability_table(pairs: Sequence[tuple[float, bool]]) -> list[dict[str, Any]]:
    """Rows of the table: from, to, how many, how many of them right, mean confidence."""
    rows = []
    for low, high in pairwise(EDGES):
        inside = [(confidence, right) for confidence, right in pairs if low <= confidence < high]
        if inside:
            mean = sum(confidence for confidence, _ in inside) / len(inside)
            facts = {"from": low, "to": min(high, 1.0), "count": len(inside), "right": sum(r for _, r in inside)}
            rows.append({**facts, "mean_confidence": round(mean, 3)})
    return rows


def summary(cases: Sequence[NamedCase]) -> dict[str, Any]:
    """Reliability of phantoms and of real exams, counts per group, and every wrong name that nothing marked."""
    plain = [c for c in cases if "lumbar" not in c.group and c.missing != ("refused",)]
    drawn, human = [c for c in plain if c.group == "phantoms"], [c for c in plain if c.group != "phantoms"]
    parts = {
        "phantoms": drawn,
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


def tables(told: Mapping[str, Any]) -> str:
    """The summary in Markdown."""
    lines = [
        "| exams | | refused | right | of these certain | wrong, marked | wrong, not marked |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    keys = ("exams", "refused", "right", "right_and_certain", "wrong_and_marked", "wrong_unmarked")
    rows = (*told["groups"], told["sacrum_in_view"])
    lines += [f"| {row['group']} | " + " | ".join(str(row[key]) for key in keys) + " |" for row in rows]
    for what in ("exams", "vertebrae"):
        columns = list(told[what])
        lines += ["", f"| confidence of {what} | " + " | ".join(f"{c}: right of all" for c in columns) + " |"]
        lines.append("|---" + "|--:" * len(columns) + "|")
        for low, high in pairwise(EDGES):
            cells = [_cell(told[what][column], low) for column in columns]
            lines.append(f"| {low:.2f} to {min(high, 1.0):.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(rows: Iterable[Mapping[str, Any]], low: float) -> str:
    row = next((row for row in rows if row["from"] == low), None)
    return f"{row['right']} of {row['count']}" if row else ""


def main() -> None:
    """Segment, compare, print and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.level_names", description=__doc__)
    parser.add_argument("--real", type=Path, default=os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    parser.add_argument("--model", type=Path, default=None, help="a model file (default: the shipped one)")
    parser.add_argument("-n", type=int, default=150, help="phantoms of five lumbar vertebrae (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=77, help="of the phantoms")
    parser.add_argument("--limit", type=int, default=None, help="only the first exams of each real set")
    parser.add_argument("-o", type=Path, default=RESULTS, help="where the JSON goes")
    args = parser.parse_args()
    model = Model.load(args.model or bundled_model_path())
    cases: list[NamedCase] = []
    if args.real.is_dir():
        cases += real_cases(model, args.real, args.limit)
    else:
        print(f"no real exams at {args.real}; say where with --real or LUMBARSEG_REAL. Phantoms alone:")
    cases += phantom_cases(model, args.n, args.seed)
    told = summary(cases)
    for text in told["unmarked"]:
        print(f"not marked: {text}")
    facts = {"machine": machine.machine_facts(), "model": model.card.digest}
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps({**facts, **told, "cases": [asdict(c) for c in cases]}, indent=1) + "\n")
    print(f"\n{tables(told)}\n\nwritten to {args.o}")


if __name__ == "__main__":
    main()
