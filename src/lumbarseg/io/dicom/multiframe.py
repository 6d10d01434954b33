"""Enhanced multi-frame DICOM: what the functional groups say of each frame, in the words of a plain slice.

DICOM PS3.3 C.7.6.16 (functional groups, dimensions) and C.8.13 (enhanced MR).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_ATTRIBUTE_SOURCES = {  # keyword of a plain slice: sequence, and the keyword in it where it is another
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
    """For each frame of a dataset, DICOM values by the keyword that a plain slice has them under.

    What a frame says goes before what all share. Raises whatever pydicom raises where the dataset is malformed.
    """
    shared, each = (dataset.get(name) or [] for name in FUNCTIONAL_GROUPS)
    common = shared[0] if len(shared) else {}
    for own in each:
        values = {
            keyword: _find_attribute((own, common), *place, keyword) for keyword, place in _ATTRIBUTE_SOURCES.items()
        }
        kinds = (_find_attribute((own, common), name, "FrameType", "") for name in _FRAME_TYPE_SEQUENCES)
        values["ImageType"] = next((kind for kind in kinds if kind is not None), None)
        yield {keyword: value for keyword, value in values.items() if value is not None}


def _find_attribute(groups: tuple[Any, ...], sequence: str, name: str, keyword: str) -> Any:
    for group in groups:
        items = group.get(sequence)
        value = items[0].get(name or keyword) if items else None
        if value is not None:
            return value
    return None
