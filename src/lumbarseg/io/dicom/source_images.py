"""The DICOM images that a volume was read from, which derived objects refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PIXEL_GROUP = 0x7FE0  # the group of pixel data; no later group describes the image


@dataclass(frozen=True, eq=False, repr=False)
class SourceImages:
    """One image for each slice of a volume, in the order of its last axis.

    datasets: pydicom data sets without pixels and private attributes, the same one repeated for frames of one file.
    They identify the patient and are passed on only into DICOM objects. frame_numbers: of each slice in its file,
    from 1.
    """

    datasets: tuple[Any, ...]
    frame_numbers: tuple[int, ...]


def strip_pixels(dataset: Any) -> Any:
    """Remove pixels and private attributes from a data set in place and return it."""
    for tag in [tag for tag in dataset.keys() if tag.is_private or tag.group >= _PIXEL_GROUP]:  # noqa: SIM118
        del dataset[tag]
    return dataset
