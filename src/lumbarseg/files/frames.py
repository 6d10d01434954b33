"""Enhanced multi-frame DICOM: what the functional groups say of each frame, in the words of a plain slice.

DICOM PS3.3 C.7.6.16 (functional groups, dimensions) and C.8.13 (enhanced MR).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_PLACES = {  # keyword of a plain slice: sequence, and the keyword in it where it is another
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
_TYPES = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence")


def frames(dataset: Any) -> Iterator[dict[str, Any]]:
    """For each frame of a dataset, DICOM values by the keyword that a plain slice has them under.

    What a frame says goes before what all share. Raises whatever pydicom raises where the dataset is malformed.
    """
    shared, each = (dataset.get(name) or [] for name in GROUPS)
    common = shared[0] if len(shared) else {}
    for own in each:
        values = {keyword: _found((own, common), *place, keyword) for keyword, place in _PLACES.items()}
        kinds = (_found((own, common), name, "FrameType", "") for name in _TYPES)
        values["ImageType"] = next((kind for kind in kinds if kind is not None), None)
        yield {keyword: value for keyword, value in values.items() if value is not None}


def _found(groups: tuple[Any, ...], sequence: str, name: str, keyword: str) -> Any:
    for group in groups:
        items = group.get(sequence)
        value = items[0].get(name or keyword) if items else None
        if value is not None:
            return value
    return None
