"""A task of the Medical Segmentation Decathlon: dataset.json lists the cases and names tissues by their value."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import Kind, labels_of_kind
from lumbarseg.volume import Volume

from .exam import InjectedFault, SyntheticExam

LABELS = {
    Kind.BACKGROUND: "background",
    Kind.BODY: "vertebral body",
    Kind.ARCH: "posterior elements",
    Kind.DISC: "intervertebral disc",
    Kind.SACRUM: "sacrum",
    Kind.CANAL: "spinal canal",
}
"""What the values from 0 on are called."""


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams as training cases of one channel, without faults."""
    del rng, with_faults
    lookup = np.zeros(256, np.uint8)
    for value, kind in enumerate(LABELS):
        lookup[list(labels_of_kind(kind))] = value
    rows = []
    for exam in exams:
        row = {part: f"./{part}sTr/{exam.name}.nii.gz" for part in ("image", "label")}
        io.write_image(exam.image, folder / row["image"])
        io.write_labels(Volume(lookup[exam.labels.array], exam.labels.affine), folder / row["label"], ())
        rows.append(row)
    message = {
        "name": "Lumbar",
        "modality": {"0": "T2"},
        "labels": {str(value): name for value, name in enumerate(LABELS.values())},
        "numTraining": len(rows),
        "training": rows,
        "test": [],
    }
    with io.atomic_write(folder / "dataset.json") as file:
        file.write(json.dumps(message, indent=1).encode())
    return []
