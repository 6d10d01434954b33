"""DICOM Segmentation objects: a label map on the grid of the series it was made from, with codes and colours.

DICOM PS3.3 C.8.20 (Segmentation), with every slice of every segment referring to the image it lies on.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.terminology import CATEGORY, CODING_SCHEME, Code
from lumbarseg.volume import Array, Volume

from ..file_access import atomic_write
from ..seg_nrrd import Segment
from . import derived_objects
from .derived_objects import SOFTWARE_NAME, Provenance
from .source_images import SourceImages

SUFFIX = ".seg.dcm"
_SERIES_OFFSETS = {"BINARY": (1, "Segmentation"), "LABELMAP": (2, "Label map")}  # number after that of the source, name
_UNCERTAIN_LEVEL = "The name of this level is uncertain"


def write(
    volume: Volume,
    segments: Sequence[Segment],
    source: SourceImages | None,
    provenance: Provenance,
    path: Path,
    segmentation_type: str = "BINARY",
) -> None:
    """A uint8 label map as a DICOM Segmentation, with those of `segments` that are in it; whole or not at all.

    source: the images that the labelled exam was read from. kind: "BINARY" (a bit for each voxel and segment, which
    every viewer reads; segments are numbered from 1) or "LABELMAP" (one number for each voxel, the label's value).
    FileError when there is nothing in it, or when the source cannot be referred to.
    """
    counts = np.bincount(volume.array.ravel(order="K"), minlength=256)
    present = sorted((segment for segment in segments if counts[segment.label]), key=lambda segment: segment.label)
    if not present:
        raise FileError(f"{path}: nothing to write: no structure was found")
    source = derived_objects.require_source_images(path, source)
    numbers = [index if segmentation_type == "BINARY" else segment.label for index, segment in enumerate(present, 1)]
    table = np.zeros(256, np.uint8)
    table[[segment.label for segment in present]] = numbers
    frames = np.ascontiguousarray(table[volume.array].transpose(2, 1, 0))  # (slice, row, column)
    described = [
        _segment_description(number, segment, provenance) for number, segment in zip(numbers, present, strict=True)
    ]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = _build_dataset(frames, described, source, provenance, segmentation_type)
    except Exception as error:  # of a source that breaks the standard highdicom raises almost anything
        raise FileError(f"{path}: no DICOM Segmentation can refer to its source: {error}") from error
    with atomic_write(path) as file:
        dataset.save_as(file, enforce_file_format=True)


def _build_dataset(
    frames: Array, described: Sequence[Any], source: SourceImages, provenance: Provenance, kind: str
) -> Any:
    import highdicom

    offset, name = _SERIES_OFFSETS[kind]
    dataset = highdicom.seg.Segmentation(
        source_images=derived_objects.source_datasets(source),
        pixel_array=frames,
        segmentation_type=kind,
        segment_descriptions=described,
        series_number=derived_objects.derived_series_number(source, offset),
        content_label="LUMBAR_SPINE",
        content_creator_name=SOFTWARE_NAME,
        content_description="Lumbar spine; for research and teaching, not for diagnosis",
        **derived_objects.new_object_attributes(provenance, name),
    )
    if derived_objects.is_multiframe(source):
        _set_frame_numbers(dataset, source.frame_numbers)
    return dataset


def _set_frame_numbers(dataset: Any, numbers: Sequence[int]) -> None:
    """Refer to frames of the source by their numbers in its file."""
    images = {  # segments share those of a slice
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
    term = segment.term
    item = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=_coded_concept(CATEGORY),
        segmented_property_type=_coded_concept(term.type),
        algorithm_type="SEMIAUTOMATIC" if provenance.user_guided else "AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=generate_uid(None),
        tracking_id=f"{SOFTWARE_NAME} {segment.name}",
        anatomic_regions=[_coded_concept(term.region)] if term.region else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
    if term.modifier:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_coded_concept(term.modifier)]
    if segment.is_uncertain:
        item.SegmentDescription = _UNCERTAIN_LEVEL
    return item


def _coded_concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, CODING_SCHEME, code.meaning)
