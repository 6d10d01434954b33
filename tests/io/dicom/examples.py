"""Example DICOM exams, and random label maps of them written as DICOM Segmentations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import generate_uid
from tests.grids import affine_of, filled
from tests.io.make_dicom import T2, Protocol, write_series

from lumbarseg.anatomy import STRUCTURES
from lumbarseg.io import LoadedExam, read_exam
from lumbarseg.io.dicom import seg
from lumbarseg.io.dicom.derived_objects import Provenance
from lumbarseg.io.seg_nrrd import Segment
from lumbarseg.terminology import structure_codes
from lumbarseg.volume import Grid, Volume

PROVENANCE = Provenance("1.2", "shipped", "f" * 64)
FRAME_OF_REFERENCE = generate_uid(entropy_srcs=["frame"])
SEGMENTS = [Segment(s.label, s.name, s.colour, structure_codes(s), s.name == "L3") for s in STRUCTURES]
# axes (column, row, slice): columns point backward, rows downward, slices to the right
SAGITTAL = Volume(
    filled(Grid((20, 24, 9), np.eye(4))).array, affine_of("PIR", (0.6, 0.7, 4.4), (25, 90, 130), (4, -7, 9))
)


def volume_along(axes: str, slices: int = 6) -> Volume:
    """Return a volume whose columns, rows and slices point along the given directions."""
    return filled(Grid((16, 18, slices), affine_of(axes, (0.8, 0.8, 5.0), (20, 30, 40))), seed=7)


def with_frame_of_reference(protocol: Protocol = T2, **tags: Any) -> Protocol:
    """Return a protocol with a frame of reference, which derived objects need, and further attributes."""
    return replace(protocol, tags={**protocol.tags, "FrameOfReferenceUID": FRAME_OF_REFERENCE, **tags})


def write_exam(folder: Path, axes: str = "PIR", slices: int = 5, **tags: Any) -> LoadedExam:
    """Write a series and read it."""
    grid = Grid((10, 12, slices), affine_of(axes, (0.6, 0.7, 4.4), (25, 90, 130), (4, -7, 9)))
    write_series(folder, filled(grid), with_frame_of_reference(**tags))
    return read_exam(folder)


def random_labels(exam: LoadedExam, seed: int = 0, segments: list[Segment] = SEGMENTS) -> Volume:
    """Return noise of all labels; if there are more than two slices, the first and the last are empty."""
    values = np.array([0, *(segment.label for segment in segments)], np.uint8)
    labels = np.random.default_rng(seed).choice(values, exam.volume.array.shape)
    if labels.shape[2] > 2:
        labels[:, :, [0, -1]] = 0
    return Volume(labels, exam.volume.affine)


def write_segmentation(
    exam: LoadedExam, path: Path, segmentation_type: str = "BINARY", segments: list[Segment] = SEGMENTS
) -> Volume:
    """Write random labels as a DICOM Segmentation and return them."""
    labels = random_labels(exam, segments=segments)
    seg.write(labels, segments, exam.source_images, PROVENANCE, path, segmentation_type)
    return labels
