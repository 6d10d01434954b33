"""Agreement without a reference, on the middle slices of SPIDER: python -m benchmarks.agreement [--real DIR].

T1 and T2 of one patient, segmented apart: do names, bodies, discs and body heights agree? And does each hand-drawn box
around a disc hold one? Slices whose pixel spacing cannot be trusted are left out. Patients move between series, so
perfect agreement cannot be reached. Writes benchmarks/results/agreement.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.accuracy import ROOT
from benchmarks.slices import segment_or_refuse
from lumbarseg.anatomy import LUMBAR_LEVELS, Kind, labels_of_kind
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.measurement import measure_structures
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.segmentation import Segmentation

RESULTS = ROOT / "benchmarks" / "results" / "agreement.json"
_BODIES, _DISCS = labels_of_kind(Kind.BODY), labels_of_kind(Kind.DISC)
_MIN_BODY_PIXELS = 200  # smaller ones are cut by the field of view
_MIN_DISC_PIXELS = 20  # of a disc inside a hand-drawn box


@dataclass(frozen=True)
class PairAgreement:
    """T1 and T2 of one patient. height_differences_mm: T1 less T2, middle height of L1 to L5."""

    patient: str
    names_agree: bool
    marked: bool
    body_dice: float
    disc_dice: float
    height_differences_mm: tuple[float, ...]


def compare_pair(patient: str, t1: Segmentation, t2: Segmentation) -> PairAgreement:
    """Compare two segmentations on one grid."""
    a, b = t1.labels.array, t2.labels.array
    body_names = np.where(np.isin(b, _BODIES), b, 0)
    agree = True
    for value in _BODIES:
        if (a == value).sum() >= _MIN_BODY_PIXELS:
            counts = np.bincount(body_names[a == value], minlength=2)
            agree &= counts[1:].max() < _MIN_BODY_PIXELS / 2 or int(counts[1:].argmax()) + 1 == value
    heights = [{m.name: m.middle for m in measure_structures(s.labels)} for s in (t1, t2)]
    differences = [
        heights[0][level] - heights[1][level]
        for level in LUMBAR_LEVELS
        if heights[0].get(level) is not None and heights[1].get(level) is not None
    ]
    return PairAgreement(
        patient,
        bool(agree),
        t1.uncertain or t2.uncertain,
        compute_dice(np.isin(a, _BODIES), np.isin(b, _BODIES)),
        compute_dice(np.isin(a, _DISCS), np.isin(b, _DISCS)),
        tuple(float(d) for d in differences),
    )


def pairs_on_one_grid(results: Mapping[str, Segmentation]) -> Iterable[tuple[str, Segmentation, Segmentation]]:
    """Yield patient, T1 and T2 where both have the same matrix and spacing."""
    for name, t1 in results.items():
        t2 = results.get(name.removesuffix("_t1") + "_t2") if name.endswith("_t1") else None
        if t2 is None or t1.labels.array.shape != t2.labels.array.shape:
            continue
        if np.allclose(t1.labels.grid.spacing, t2.labels.grid.spacing, rtol=1e-3):
            yield name.removesuffix("_t1"), t1, t2


def count_boxes_with_disc(results: Mapping[str, Segmentation], boxes: Iterable[Mapping[str, str]]) -> tuple[int, int]:
    """Return how many hand-drawn boxes hold a disc, and how many there are. Slices are (1, anterior, up)."""
    comparison = total = 0
    for box in boxes:
        total += 1
        if box["file"] in results:
            rows = results[box["file"]].labels.array[0].T[::-1, ::-1]  # from the top; anterior on the left
            x0, y0, x1, y1 = (int(float(box[key])) for key in ("x0", "y0", "x1", "y1"))
            comparison += bool(np.isin(rows[y0:y1, x0:x1], _DISCS).sum() >= _MIN_DISC_PIXELS)
    return comparison, total


def main() -> None:
    """Segment every slice of trusted spacing, print and write the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.agreement", description=__doc__)
    parser.add_argument("--real", type=Path, default=os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    parser.add_argument("--model", type=Path, default=None, help="a model file (default: the shipped one)")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="where the JSON goes")
    args = parser.parse_args()
    folder = Path(args.real) / "spider_mid"
    if not folder.is_dir():
        parser.error(f"no real exams at {args.real}; name the folder with --real or LUMBARSEG_REAL")
    model = Model.load(args.model or bundled_model_path())
    with (folder / "index.csv").open() as file:
        trusted = [row["file"] for row in csv.DictReader(file) if row["spacing_trust"] == "ok"]
    attempts = {name: segment_or_refuse(model, folder / f"{name}_image.nii.gz")[0] for name in trusted}
    results = {name: result for name, result in attempts.items() if result is not None}
    with (folder / "disc_boxes.csv").open() as file:
        boxes = count_boxes_with_disc(results, (row for row in csv.DictReader(file) if row["file"] in trusted))
    pairs = [compare_pair(*pair) for pair in pairs_on_one_grid(results)]
    uncertain = sum(result.uncertain for result in results.values())
    refused = len(trusted) - len(results)
    differences = [d for pair in pairs for d in pair.height_differences_mm]
    scores = {
        "slices": len(trusted),
        "uncertain": uncertain,
        "refused": refused,
        "boxes_with_disc": boxes[0],
        "boxes": boxes[1],
        "pairs": len(pairs),
        "names_agree": sum(p.names_agree for p in pairs),
        "differ_and_marked": sum(not p.names_agree and p.marked for p in pairs),
        "body_dice": float(np.mean([p.body_dice for p in pairs if p.names_agree])),
        "disc_dice": float(np.mean([p.disc_dice for p in pairs if p.names_agree])),
        "height_difference_sd_mm": float(np.std(differences)),
    }
    print("\n".join(f"{name}: {value:.4g}" for name, value in scores.items()))
    report = {"machine": machine.machine_facts(), "model": model.card.digest, "figures": scores}
    args.output.write_text(json.dumps(report | {"pairs": [asdict(p) for p in pairs]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
