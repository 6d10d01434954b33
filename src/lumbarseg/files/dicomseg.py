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
from lumbarseg.terminology import CATEGORY, SCHEME, Code
from lumbarseg.volume import Array, Volume

from . import derived
from .derived import NAME, Maker
from .disk import replacing
from .segnrrd import Segment
from .source import Source

SUFFIX = ".seg.dcm"
_KINDS = {"BINARY": (1, "Segmentation"), "LABELMAP": (2, "Label map")}  # number after that of the source, name
_DOUBTFUL = "The name of this level is uncertain"


def write(
    volume: Volume, segments: Sequence[Segment], source: Source | None, maker: Maker, path: Path, kind: str = "BINARY"
) -> None:
    """A uint8 label map as a DICOM Segmentation, with those of `segments` that are in it; whole or not at all.

    source: the images that the labelled exam was read from. kind: "BINARY" (a bit for each voxel and segment, which
    every viewer reads; segments are numbered from 1) or "LABELMAP" (one number for each voxel, the label's value).
    FileError when there is nothing in it, or when the source cannot be referred to.
    """
    counts = np.bincount(volume.array.ravel(order="K"), minlength=256)
    present = sorted((segment for segment in segments if counts[segment.value]), key=lambda segment: segment.value)
    if not present:
        raise FileError(f"{path}: nothing to write: no structure was found")
    source = derived.check(path, source)
    numbers = [index if kind == "BINARY" else segment.value for index, segment in enumerate(present, 1)]
    table = np.zeros(256, np.uint8)
    table[[segment.value for segment in present]] = numbers
    frames = np.ascontiguousarray(table[volume.array].transpose(2, 1, 0))  # (slice, row, column)
    described = [_described(number, segment, maker) for number, segment in zip(numbers, present, strict=True)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = _dataset(frames, described, source, maker, kind)
    except Exception as error:  # of a source that breaks the standard highdicom raises almost anything
        raise FileError(f"{path}: no DICOM Segmentation can refer to its source: {error}") from error
    with replacing(path) as file:
        dataset.save_as(file, enforce_file_format=True)


def _dataset(frames: Array, described: Sequence[Any], source: Source, maker: Maker, kind: str) -> Any:
    import highdicom

    offset, name = _KINDS[kind]
    dataset = highdicom.seg.Segmentation(
        source_images=derived.images(source),
        pixel_array=frames,
        segmentation_type=kind,
        segment_descriptions=described,
        series_number=derived.number(source, offset),
        content_label="LUMBAR_SPINE",
        content_creator_name=NAME,
        content_description="Lumbar spine; for research and teaching, not for diagnosis",
        **derived.new_object(maker, name),
    )
    if derived.framed(source):
        _renumber(dataset, source.frames)
    return dataset


def _renumber(dataset: Any, numbers: Sequence[int]) -> None:
    """Refer to frames of the source by their numbers in its file."""
    images = {  # segments share those of a slice
        id(image): image
        for group in dataset.PerFrameFunctionalGroupsSequence
        for derivation in group.DerivationImageSequence
        for image in derivation.SourceImageSequence
    }
    for image in images.values():
        image.ReferencedFrameNumber = numbers[int(image.ReferencedFrameNumber) - 1]


def _described(number: int, segment: Segment, maker: Maker) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=NAME,
        family=codes.cid7162.ArtificialIntelligence,
        version=maker.version,
        source=NAME,
        parameters={"model": maker.model, "sha256": maker.digest},
    )
    term = segment.term
    item = highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name,
        segmented_property_category=_coded(CATEGORY),
        segmented_property_type=_coded(term.type),
        algorithm_type="SEMIAUTOMATIC" if maker.guided else "AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=generate_uid(None),
        tracking_id=f"{NAME} {segment.name}",
        anatomic_regions=[_coded(term.region)] if term.region else None,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.colour),
    )
    if term.modifier:
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [_coded(term.modifier)]
    if segment.doubtful:
        item.SegmentDescription = _DOUBTFUL
    return item


def _coded(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, SCHEME, code.meaning)
