"""Write DICOM Segmentation objects: a label map on the grid of its source series, with codes and colours.

DICOM PS3.3 C.8.20 (Segmentation); every frame of every segment refers to the image it lies on.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.terminology import CATEGORY, Code
from lumbarseg.volume import Array, Volume, count_labels

from ..file_access import atomic_write
from ..raw_image import SourceImages
from ..seg_nrrd import Segment
from . import derived_objects
from .derived_objects import SOFTWARE_NAME, Provenance

SUFFIX = ".seg.dcm"
_SERIES_OFFSETS = {"BINARY": (1, "Segmentation"), "LABELMAP": (2, "Label map")}  # series number offset, description
_UNCERTAIN_LEVEL = "The name of this level is uncertain"


def write(
    volume: Volume,
    segments: Sequence[Segment],
    source: SourceImages | None,
    provenance: Provenance,
    path: Path,
    segmentation_type: str = "BINARY",
) -> None:
    """Write a uint8 label map as a DICOM Segmentation with those of `segments` that occur in it.

    Parameters
    ----------
    source
        The images that the labelled exam was read from.
    segmentation_type
        "BINARY", one bit for each voxel and segment, which every viewer reads, segments numbered from 1; or
        "LABELMAP", one number for each voxel, the value of the label.

    Raises
    ------
    FileError
        If the label map is empty, the object cannot refer to the source images, or it cannot be written.
    """
    counts = count_labels(volume.array)
    present = sorted((segment for segment in segments if counts[segment.label]), key=lambda segment: segment.label)
    if not present:
        raise FileError(f"{path}: nothing to write: no structure was segmented")
    source = derived_objects.require_source_images(path, source)
    numbers = [index if segmentation_type == "BINARY" else segment.label for index, segment in enumerate(present, 1)]
    lookup = np.zeros(256, np.uint8)
    lookup[[segment.label for segment in present]] = numbers
    frames = np.ascontiguousarray(lookup[volume.array].transpose(2, 1, 0))  # (slice, row, column)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            descriptions = [_segment_description(*pair, provenance) for pair in zip(numbers, present, strict=True)]
            dataset = _build_dataset(frames, descriptions, source, provenance, segmentation_type)
    except Exception as error:  # for a source that violates the standard, highdicom raises almost anything
        raise FileError(f"{path}: no DICOM Segmentation can refer to its source: {error}") from error
    with atomic_write(path) as file:
        dataset.save_as(file, enforce_file_format=True)


def _build_dataset(
    frames: Array, descriptions: Sequence[Any], source: SourceImages, provenance: Provenance, segmentation_type: str
) -> Any:
    import highdicom

    offset, content = _SERIES_OFFSETS[segmentation_type]
    dataset = highdicom.seg.Segmentation(
        source_images=derived_objects.source_datasets(source),
        pixel_array=frames,
        segmentation_type=segmentation_type,
        segment_descriptions=descriptions,
        series_number=derived_objects.derived_series_number(source, offset),
        content_label="LUMBAR_SPINE",
        content_creator_name=SOFTWARE_NAME,
        content_description="Lumbar spine; for research and teaching, not for diagnosis",
        **derived_objects.new_object_attributes(provenance, content),
    )
    if derived_objects.is_multiframe(source):
        _set_frame_numbers(dataset, source.frame_numbers)
    return dataset


def _set_frame_numbers(dataset: Any, numbers: Sequence[int]) -> None:
    """Make references to frames of the source use the frame numbers of its file."""
    images = {  # several segments share the reference of a slice
        id(image): image
        for group in dataset.PerFrameFunctionalGroupsSequence
        for derivation in group.DerivationImageSequence
        for image in derivation.SourceImageSequence
    }
    for image in images.values():
        image.ReferencedFrameNumber = numbers[int(image.ReferencedFrameNumber) - 1]


def _segment_description(number: int, segment: Segment, provenance: Provenance) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=SOFTWARE_NAME,
        family=codes.cid7162.ArtificialIntelligence,
        version=provenance.software_version,
        source=SOFTWARE_NAME,
        parameters={"model": provenance.model_name, "sha256": provenance.model_sha256},
    )
    item = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=_concept(CATEGORY),
        segmented_property_type=_concept(segment.codes.type),
        algorithm_type="SEMIAUTOMATIC" if provenance.user_guided else "AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=generate_uid(None),
        tracking_id=f"{SOFTWARE_NAME} {segment.name}",
        anatomic_regions=[_concept(segment.codes.region)] if segment.codes.region else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
    if segment.codes.modifier:
        property_type = item.SegmentedPropertyTypeCodeSequence[0]
        property_type.SegmentedPropertyTypeModifierCodeSequence = [_concept(segment.codes.modifier)]
    if segment.is_uncertain:
        item.SegmentDescription = _UNCERTAIN_LEVEL
    return item


def _concept(code: Code) -> Any:
    return derived_objects.coded_concept(code.value, code.meaning)
