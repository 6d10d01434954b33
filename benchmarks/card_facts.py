"""Facts for the card of a model beside its settings: python -m benchmarks.card_facts > card.json.

Data, licences and limits of the shipped model are written here; its scores come from benchmarks/results/accuracy.json,
as in the README. With --runs RUN ..., of a model that `make model` has just trained: the command (--command), commit,
seed and settings of each run, and its data as its datasets (--datasets) name them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy import RESULTS
from lumbarseg.datasets import Dataset

ROOT = Path(__file__).resolve().parent.parent
_RUN_SETTINGS = ("seed", "steps", "learning_rate", "sampling_weights", "batch_size", "crop_size", "channels")

DATA = [
    "synthetic lumbar exams (lumbarseg phantom): T2, T1, STIR, gradient echo, SPACE and others; 300 of them with real "
    "vertebrae (the mean of 87 people by Clouthier et al.; two people of TotalSegmentator's CTs)",
    "SPIDER: central T2 SPACE slabs of 31 exams, 31 single T2 slices, 22 single T1 and T2 slices from the midline to "
    "the facet joints, and 364 unlabelled middle slices (van der Graaf et al., Lumbar spine segmentation in MR images: "
    "a dataset and a public benchmark, Sci Data 11:264, 2024; Zenodo 10159290)",
    "Sudirman et al., Lumbar Spine MRI Dataset (Mendeley Data k57fr854j2, 2019): T1 middle slices of 167 patients, "
    "with polygons of L1 to S1 of the composite dataset k3b363f3vz",
    "a leak, corrected: the previous model (5cf6b18355e3), one of the three whose mean this is, had seen one slice of "
    "SPIDER patient 200, who is in the test set spider_space; no later run saw a test patient",
]
LICENCES = [
    "weights: Apache-2.0, like the code",
    "SPIDER and Sudirman et al.: CC BY 4.0; their slices were resampled and augmented for training, none is part of "
    "this file",
    "vertebrae of synthetic exams: TotalSegmentator's CT dataset (Wasserthal et al., Radiology: AI 2023), CC BY 4.0; "
    "Clouthier et al., MIT; none is part of this file",
]
LIMITS = [
    "not a medical device; made for research and teaching",
    "trained on human exams with T2 and T1 contrast; STIR and gradient echo only on synthetic exams",
    "level names are counted from the sacrum: without it in view they are a guess and marked uncertain",
    "a transitional vertebra, and four or six lumbar vertebrae, shift the count; a lumbar exam alone seldom shows it",
    "posterior elements, and the lateral slices of discs, are the least accurate",
    "scoliosis beyond about 20 degrees, metal, fused or crushed vertebrae: trained on synthetic exams only; destroyed"
    " vertebrae, tumours, children: not in the training data",
]

RECIPE = [
    "the mean of three models: the previous one (5cf6b18355e3), a run of 3,500 steps from it (seed 1, sampling weights "
    "0.13 0.20 0.20 0.10 0.07 0.12 0.18) and a run of 2,400 steps from that run (seed 2, sampling weights 0.16 0.14 "
    "0.24 0.13 0.09 0.10 0.14), both at learning rate 5e-4; datasets in this order: 500 phantoms, 300 phantoms with "
    "real shapes, spider_space, spider_t2, spider_slices, sudirman, spider_mid; 32 and 20 minutes on one core",
    "labels that annotators left open, and all of spider_mid, come from three teachers: "
    "the previous model and two short runs on the same data without these labels (360 and 1,400 steps)",
    "`make model` is another recipe, from no weights; these weights start from the previous model, whose own chain of "
    "seven runs and two averages is in the card of that file, and were not made in one go",
]


def card_facts() -> dict[str, Any]:
    """Return the entries of the card."""
    accuracy = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"targets": []}
    scores: dict[str, dict[str, float]] = {}
    for row in accuracy["targets"]:
        scores.setdefault(row["set"], {})[row["what"]] = row["figure"]
    return {
        "name": "lumbarseg shipped",
        "data": DATA,
        "made": RECIPE,
        "licences": LICENCES,
        "limits": LIMITS,
        "scores": scores,
    }


def recipe_facts(command: str, runs: Sequence[Path], datasets: Sequence[Path]) -> dict[str, Any]:
    """Return the entries of the card of a model that was trained by `command`, without scores.

    runs : folders of runs, in their order; datasets : prepared datasets of the last run
    """
    settings = {run.name: json.loads((run / "settings.json").read_text()) for run in runs}
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip()
    return {
        "name": "lumbarseg model",
        "command": command,
        "commit": commit or "unknown",
        "runs": {name: {key: values[key] for key in _RUN_SETTINGS} for name, values in settings.items()},
        "data": [_describe_dataset(Dataset.open(folder)) for folder in datasets],
        "licences": LICENCES,
        "limits": LIMITS,
    }


def _describe_dataset(dataset: Dataset) -> str:
    """Return name, number of exams for training, and sources of a dataset."""
    sources = sorted({case.source for case in dataset.all_cases if case.source})
    return f"{dataset.folder.name}: {len(dataset.cases('train'))} exams; {'; '.join(sources) or 'no source stated'}"


def main() -> None:
    """Print the entries."""
    parser = argparse.ArgumentParser(prog="benchmarks.card_facts", description=__doc__)
    parser.add_argument("--command", default="", help="that trained the model")
    parser.add_argument("--runs", type=Path, nargs="+", default=[], help="folders of its runs")
    parser.add_argument("--datasets", type=Path, nargs="+", default=[], help="prepared datasets of the last run")
    args = parser.parse_args()
    facts = recipe_facts(args.command, args.runs, args.datasets) if args.runs else card_facts()
    json.dump(facts, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
