"""Accuracy on single real slices that never train: python -m benchmarks.slices [--real DIR] [--model FILE].

sudirman/test: names and bodies on 173 mid-sagittal T1 slices. spider_slices/test: whole vertebrae on 12 slices of T1
and T2 from the midline to the facet joints. A refused slice counts 0. Writes benchmarks/results/slices.json.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import machine
from benchmarks.accuracy import ROOT
from lumbarseg.anatomy import Kind, labels_of_kind, structure_by_label
from lumbarseg.errors import LumbarsegError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import read_image, read_labels
from lumbarseg.metrics.bootstrap import Estimate, bootstrap_mean
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.segmentation import Segmentation, segment

RESULTS = ROOT / "benchmarks" / "results" / "slices.json"
_BODIES = labels_of_kind(Kind.BODY)
_VERTEBRAE = (*_BODIES, *labels_of_kind(Kind.ARCH))
_LUMBAR = range(1, 6)


@dataclass(frozen=True)
class SliceResult:
    """One slice. dice: of whole vertebrae, or the mean over bodies; wrong_names: "L5 as L4", for example."""

    exam: str
    dice: float
    wrong_names: tuple[str, ...] = ()
    uncertain: bool = False
    refused: str = ""


def segment_or_refuse(model: Model, image: Path) -> tuple[Segmentation | None, str]:
    """Return the segmentation of an exam, or None and why it was refused."""
    try:
        return segment(read_image(image), model), ""
    except LumbarsegError as error:
        return None, str(error)


def score_bodies(exam: str, prediction: Segmentation, reference: np.ndarray) -> SliceResult:
    """Return the mean Dice of each reference body against the predicted body that covers most of it, and its name."""
    scores, wrong = [], []
    labels = np.where(np.isin(prediction.labels.array, _BODIES), prediction.labels.array, 0)
    for value in (v for v in _LUMBAR if (reference == v).any()):
        counts = np.bincount(labels[reference == value], minlength=2)
        counts[0] = 0
        covering = int(counts.argmax()) if counts.any() else 0
        scores.append(compute_dice(reference == value, labels == covering) if covering else 0.0)
        if covering != value:
            name = structure_by_label(covering).name if covering else "nothing"
            wrong.append(f"{structure_by_label(value).name} as {name}")
    return SliceResult(exam, float(np.mean(scores)), tuple(wrong), prediction.uncertain)


def evaluate_slices(model: Model, folder: Path, whole_vertebrae: bool) -> list[SliceResult]:
    """Segment and score every slice of a folder."""
    results = []
    for image in sorted(folder.glob("*_image.nii.gz")):
        exam = image.name.removesuffix("_image.nii.gz")
        reference = read_labels(image.with_name(f"{exam}_labels.nii.gz")).array
        prediction, refused = segment_or_refuse(model, image)
        if prediction is None:
            results.append(SliceResult(exam, 0.0, refused=refused))
        elif whole_vertebrae:
            dice = compute_dice(reference > 0, np.isin(prediction.labels.array, _VERTEBRAE))
            results.append(SliceResult(exam, dice, uncertain=prediction.uncertain))
        else:
            results.append(score_bodies(exam, prediction, reference))
    return results


def summary_lines(name: str, results: Sequence[SliceResult], dice: Estimate) -> list[str]:
    """Return the figures of one set as lines."""
    certain_wrong = [r for r in results if r.wrong_names and not r.uncertain]
    lines = [
        f"{name}: {len(results)} slices, Dice {dice.mean:.3f} [{dice.low:.3f}, {dice.high:.3f}], "
        f"refused {sum(bool(r.refused) for r in results)}",
    ]
    if name.startswith("sudirman"):
        right = sum(not r.wrong_names and not r.refused for r in results)
        uncertain = sum(r.uncertain for r in results)
        lines.append(f"  names right {right}, wrong and certain {len(certain_wrong)}, uncertain {uncertain}")
    lines += [f"  {r.exam}: {', '.join(r.wrong_names)}" for r in certain_wrong]
    return lines + [f"  {r.exam}: refused: {r.refused}" for r in results if r.refused]


def main() -> None:
    """Evaluate both sets, print and write the figures."""
    parser = argparse.ArgumentParser(prog="benchmarks.slices", description=__doc__)
    parser.add_argument("--real", type=Path, default=os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    parser.add_argument("--model", type=Path, default=None, help="a model file (default: the shipped one)")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="where the JSON goes")
    args = parser.parse_args()
    if not Path(args.real).is_dir():
        parser.error(f"no real exams at {args.real}; name the folder with --real or LUMBARSEG_REAL")
    model = Model.load(args.model or bundled_model_path())
    report = {"machine": machine.machine_facts(), "model": model.card.digest, "sets": {}}
    for name, whole_vertebrae in (("sudirman/test", False), ("spider_slices/test", True)):
        results = evaluate_slices(model, Path(args.real) / name, whole_vertebrae)
        scored = [r for r in results if whole_vertebrae or not (r.wrong_names or r.refused)]
        dice = bootstrap_mean([r.dice for r in scored], [r.exam.split("_")[0] for r in scored])
        report["sets"][name] = {"dice": asdict(dice), "slices": [asdict(r) for r in results]}
        print("\n".join(summary_lines(name, results, dice)), flush=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
