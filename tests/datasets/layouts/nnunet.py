"""A raw folder of nnU-Net, version 2: DatasetNNN_Name with dataset.json, imagesTr, labelsTr and imagesTs.

Values are consecutive from 0, as nnU-Net wants them; what lies above T11 is labelled "ignore".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import STRUCTURES, Kind, arch_of_level, structure_by_name
from lumbarseg.datasets.schemes import REGULAR_VERTEBRAE, disc_below
from lumbarseg.volume import Volume

from .exam import InjectedFault, SyntheticExam

_SHOWN = REGULAR_VERTEBRAE[-7:]
NAMES = (
    *(name for level in _SHOWN for name in (level, arch_of_level(level).name, disc_below(level))),
    Kind.SACRUM.value,
    Kind.CANAL.value,
)
"""Structures that have a value of their own, the first of them 1."""

LABELS = {Kind.BACKGROUND.value: 0, **{name: i for i, name in enumerate(NAMES, 1)}, "ignore": len(NAMES) + 1}


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams as training cases; with faults, every other label map has a reset header."""
    del rng
    folder_root = folder / "Dataset501_Lumbar"
    lookup = np.zeros(256, np.uint8)
    lookup[[s.label for s in STRUCTURES]] = LABELS["ignore"]
    lookup[[structure_by_name(name).label for name in NAMES]] = [LABELS[name] for name in NAMES]
    faults, count = [], 0
    for number, exam in enumerate(exams):
        affine = exam.labels.affine
        if with_faults and number % 2:
            affine = np.diag([*exam.labels.grid.spacing, 1.0])
            faults.append(InjectedFault(exam.name, "label-header", "reset"))
        io.write_image(exam.image, folder_root / "imagesTr" / f"{exam.name}_0000.nii.gz")
        io.write_labels(Volume(lookup[exam.labels.array], affine), folder_root / "labelsTr" / f"{exam.name}.nii.gz", ())
        count += 1
    message = {"channel_names": {"0": "T2"}, "labels": LABELS, "numTraining": count, "file_ending": ".nii.gz"}
    with io.atomic_write(folder_root / "dataset.json") as file:
        file.write(json.dumps(message, indent=1).encode())
    return faults
