"""The DICOM images that a volume was read from: what objects that speak about them have to refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PIXEL_GROUP = 0x7FE0  # the group of pixels; no group above it says what an image is


@dataclass(frozen=True, eq=False, repr=False)
class SourceImages:
    """One image for each slice of a volume, in the order of its last axis.

    heads: data sets of pydicom without pixels and private attributes, the same one again for slices of one file; they
    name the patient, and go nowhere but into DICOM objects. frames: the frame of each in its file, from 1.
    """

    datasets: tuple[Any, ...]
    frame_numbers: tuple[int, ...]


def strip_pixels(dataset: Any) -> Any:
    """The data set of an image, stripped in place of its pixels and private attributes."""
    for tag in [tag for tag in dataset.keys() if tag.is_private or tag.group >= _PIXEL_GROUP]:  # noqa: SIM118
        del dataset[tag]
    return dataset
