"""Facts for the card of the shipped model beside its settings: python -m benchmarks.card_facts > card.json.

Data, licences and limits are written here; the scores come from benchmarks/results/accuracy.json, as in the README.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.accuracy import RESULTS

DATA = [
    "synthetic lumbar exams (lumbarseg phantom): T2, T1, STIR, gradient echo, SPACE and others",
    "SPIDER: central T2 SPACE slabs of 31 exams and 30 single T2 slices (van der Graaf et al., Lumbar spine "
    "segmentation in MR images: a dataset and a public benchmark, Sci Data 11:264, 2024; Zenodo 10159290)",
]
LICENCES = [
    "weights: Apache-2.0, like the code",
    "SPIDER: CC BY 4.0; its slices were resampled and augmented for training, none is part of this file",
]
LIMITS = [
    "not a medical device; made for research and teaching",
    "trained on human exams with T2 contrast only; T1, STIR and gradient echo only on synthetic exams",
    "level names are counted from the sacrum: without it in view they are a guess and marked uncertain",
    "a transitional vertebra, and four or six lumbar vertebrae, shift the count; a lumbar exam alone seldom shows it",
    "posterior elements, and the lateral slices of discs, are the least accurate",
    "scoliosis beyond about 20 degrees, metal, fused or crushed vertebrae: trained on synthetic exams only; destroyed"
    " vertebrae, tumours, children: not in the training data",
]

RECIPE = [
    "on 2 CPU cores, about seven hours in seven runs, each from the averaged weights of the one before: 2,851 steps "
    "on phantoms whose labels included the complete dark edge of a body (before 3bb36b2, -n 900 --seed 3); 5,500 at "
    "learning rate 1.5e-3, seed 2, on phantoms of -n 900 --seed 4; 2,269 of 8,000 at seed 3; 11,000 at learning rate "
    "1.5e-3, seed 4, with slabs of 1.8 to 5 mm instead of 3 to 5, sampling weights 0.5, 0.34, 0.16; 4,055 of 6,000 at"
    " learning rate 1.5e-3, seed 6, sampling weights 0.45, 0.39, 0.16; 7,540 in 75 minutes at learning rate 1.3e-3, "
    "seed 7, with 600 phantoms more that have metal, patchy marrow, slice profiles and stronger curves (-n 600 --seed"
    " 7), sampling weights 0.24, 0.26, 0.36, 0.14",
    "the mean of the averaged weights of the last three of these runs (lumbarseg export RUN RUN RUN); from it 7,291 "
    "steps with clicks (--method deepedit) in 62 minutes at learning rate 8e-4, seed 8, the same exams, sampling "
    "weights 0.22, 0.26, 0.34, 0.18; and the mean of that mean and this run",
    "`make model` runs the preset, 20,000 steps, in one go; that was not compared with it",
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


if __name__ == "__main__":
    json.dump(card_facts(), sys.stdout, indent=1)
