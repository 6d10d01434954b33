"""Read enhanced multi-frame DICOM: the attributes of each frame from the functional groups.

DICOM PS3.3 C.7.6.16 (functional groups, dimensions) and C.8.13 (enhanced MR).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_ATTRIBUTE_SOURCES = {  # keyword in a single-frame file: sequence, and the keyword in it if it differs
    "ImagePositionPatient": ("PlanePositionSequence", ""),
    "ImageOrientationPatient": ("PlaneOrientationSequence", ""),
    "PixelSpacing": ("PixelMeasuresSequence", ""),
    "SliceThickness": ("PixelMeasuresSequence", ""),
    "SpacingBetweenSlices": ("PixelMeasuresSequence", ""),
    "RescaleSlope": ("PixelValueTransformationSequence", ""),
    "RescaleIntercept": ("PixelValueTransformationSequence", ""),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "RepetitionTime": ("MRTimingAndRelatedParametersSequence", ""),
    "FlipAngle": ("MRTimingAndRelatedParametersSequence", ""),
    "InversionTime": ("MRModifierSequence", "InversionTimes"),
    "DiffusionBValue": ("MRDiffusionSequence", ""),
    "TriggerTime": ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
    "StackID": ("FrameContentSequence", ""),
    "TemporalPositionIdentifier": ("FrameContentSequence", "TemporalPositionIndex"),
    "AcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
    "DimensionIndexValues": ("FrameContentSequence", ""),
}
_FRAME_TYPE_SEQUENCES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence")


def iter_frame_attributes(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the attributes of each frame under the keywords of single-frame files.

    Attributes of the frame override those that all frames share. Raises whatever pydicom raises if the data set is
    malformed.
    """
    shared, per_frame = (dataset.get(name) or [] for name in FUNCTIONAL_GROUPS)
    common = shared[0] if len(shared) else {}
    for frame in per_frame:
        groups = (frame, common)
        attributes = {keyword: _find(groups, *source, keyword) for keyword, source in _ATTRIBUTE_SOURCES.items()}
        types = (_find(groups, name, "FrameType", "") for name in _FRAME_TYPE_SEQUENCES)
        attributes["ImageType"] = next((value for value in types if value is not None), None)
        yield {keyword: value for keyword, value in attributes.items() if value is not None}


def _find(groups: tuple[Any, ...], sequence: str, name: str, keyword: str) -> Any:
    for group in groups:
        items = group.get(sequence)
        value = items[0].get(name or keyword) if items else None
        if value is not None:
            return value
    return None
