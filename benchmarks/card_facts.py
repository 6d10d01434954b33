"""Facts for the card of the shipped model beside its settings: python -m benchmarks.card_facts > card.json.

Data, licences and limits are written here; the scores come from benchmarks/results/accuracy.json, as in the README.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.accuracy import RESULTS

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
    "SPIDER: CC BY 4.0; its slices were resampled and augmented for training, none is part of this file",
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
    "labels that annotators left open, and all of spider_mid, come from three teachers (benchmarks.complete_labels): "
    "the previous model and two short runs on the same data without these labels (360 and 1,400 steps)",
    "`make model` repeats this with one teacher run of 1,500 steps. It starts from the previous model, whose own chain "
    "of seven runs and two averages is in the card of that file, not from nothing; it was not run in one go",
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
