"""Write DICOM structured reports: the measurements of an exam, each at the segment that was measured.

DICOM PS3.16 TID 1500 (Measurement Report) with one TID 1411 group for each segment. Measurements without a standard
code use the private scheme 99LUMBARSEG, whose code meanings describe them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError
from lumbarseg.terminology import CODING_SCHEME

from ..file_access import atomic_write, open_for_reading
from .derived_objects import SOFTWARE_NAME, Provenance, coded_concept, new_object_attributes

SUFFIX = ".sr.dcm"
PRIVATE_SCHEME = "99LUMBARSEG"
_SERIES_OFFSET = 2  # of the series number of a report from that of its segmentation
_UNITS = {"ml": "milliliter", "mm": "millimeter", "deg": "degree"}  # UCUM

# key of the report, which ends in the unit: code, meaning; codes that are numbers are those of SNOMED CT
QUANTITIES = {
    "volume_ml": ("118565006", "Volume"),
    "anterior_mm": ("anterior", "Height in front"),
    "middle_mm": ("middle", "Height in the middle"),
    "posterior_mm": ("posterior", "Height behind"),
    "depth_mm": ("131197000", "Depth"),
    "wedge_deg": ("wedge", "Angle between both endplates, positive open anteriorly"),
    "tilt_top_deg": ("tilt_top", "Tilt of the upper endplate, positive facing forward"),
    "tilt_bottom_deg": ("tilt_bottom", "Tilt of the lower endplate, positive facing forward"),
    "segmental_lordosis_deg": ("segm_lordosis", "Angle between its upper endplate and that of the one below"),
    "canal_mm": ("canal", "Width of the canal behind it, front to back"),
    "slip_mm": ("slip", "Slip on the vertebra below, positive forward"),
}
_LORDOSIS = ("lordosis", "Lordosis, upper endplates of L1 and of the sacrum")


@dataclass(frozen=True)
class Measurements:
    """Measurements of an exam.

    structures: by structure name, values by keys of `QUANTITIES`. lordosis_deg: None if it was not measured.
    """

    structures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lordosis_deg: float | None = None


def write(measurements: Measurements, segmentation_path: Path, provenance: Provenance, path: Path) -> None:
    """Write a report on the segments of a DICOM Segmentation, for the same patient and study.

    Parameters
    ----------
    segmentation_path
        A file written by `lumbarseg.io.dicom.seg`. Structures that it does not hold are left out.

    Raises
    ------
    FileError
        If the segmentation cannot be read or referred to, or the report cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation = _read_segmentation(segmentation_path)
        try:
            dataset = _build_dataset(measurements, segmentation, provenance)
        except Exception as error:  # for a segmentation that was changed, highdicom raises almost anything
            raise FileError(f"{path}: no DICOM report can refer to {segmentation_path}: {error}") from error
    with atomic_write(path) as file:
        dataset.save_as(file, enforce_file_format=True)


def _read_segmentation(path: Path) -> Any:
    import pydicom

    with open_for_reading(path) as stream:
        try:
            return pydicom.dcmread(stream, stop_before_pixels=True)
        except Exception as error:  # a damaged file makes pydicom raise almost anything
            raise FileError(f"{path}: damaged DICOM file; write it again") from error


def _build_dataset(measurements: Measurements, segmentation: Any, provenance: Provenance) -> Any:
    import highdicom
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from pydicom.sr.codedict import codes

    report = highdicom.sr.MeasurementReport(
        observation_context=_observation_context(provenance),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[*_segment_groups(measurements, segmentation), *_spine_groups(measurements)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    scheme = CodingSchemeIdentificationItem(
        PRIVATE_SCHEME,
        name=f"Measurements of {SOFTWARE_NAME}",
        version=provenance.software_version,
        responsible_organization=SOFTWARE_NAME,
    )
    return highdicom.sr.EnhancedSR(
        evidence=[segmentation, *_referenced_images(segmentation)],
        content=report,
        series_number=int(segmentation.SeriesNumber) + _SERIES_OFFSET,
        is_complete=True,
        coding_schemes=[scheme],
        **new_object_attributes(provenance, "Measurements"),
    )


def _observation_context(provenance: Provenance) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    device = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(None, entropy_srcs=[SOFTWARE_NAME, provenance.software_version, provenance.model_sha256]),
        name=SOFTWARE_NAME,
        manufacturer_name=SOFTWARE_NAME,
        model_name=provenance.model_name,
        serial_number=provenance.model_sha256,
    )
    return highdicom.sr.ObservationContext(
        observer_device_context=highdicom.sr.ObserverContext(codes.DCM.Device, device)
    )


def _segment_groups(measurements: Measurements, segmentation: Any) -> Iterator[Any]:
    """Yield one measurement group for each segment with measurements."""
    from highdicom import sr

    series = sr.SourceSeriesForSegmentation(segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID)
    for segment in segmentation.SegmentSequence:
        values = measurements.structures.get(str(segment.SegmentLabel), {})
        items = [
            _measurement(*QUANTITIES[key], key.rpartition("_")[2], value)
            for key, value in values.items()
            if key in QUANTITIES
        ]
        if not items:
            continue
        property_type = segment.SegmentedPropertyTypeCodeSequence[0]
        modifiers = property_type.get("SegmentedPropertyTypeModifierCodeSequence", ())
        sites = [*segment.get("AnatomicRegionSequence", ()), *modifiers]
        certainty = coded_concept("name", "Certainty of the level's name", PRIVATE_SCHEME)
        uncertain = [sr.QualitativeEvaluation(certainty, coded_concept("64957009", "Uncertain"))]
        yield sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=str(segment.TrackingUID), identifier=str(segment.TrackingID)),
            referenced_segment=sr.ReferencedSegment(
                segmentation.SOPClassUID, segmentation.SOPInstanceUID, int(segment.SegmentNumber), source_series=series
            ),
            finding_category=_concept_of_item(segment.SegmentedPropertyCategoryCodeSequence[0]),
            finding_type=_concept_of_item(property_type),
            finding_sites=[sr.FindingSite(_concept_of_item(site)) for site in sites],
            measurements=items,
            qualitative_evaluations=uncertain if "SegmentDescription" in segment else None,
        )


def _spine_groups(measurements: Measurements) -> Iterator[Any]:
    """Yield measurement groups for what is measured across several structures."""
    from highdicom import sr
    from pydicom.uid import generate_uid

    if measurements.lordosis_deg is not None:
        yield sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=generate_uid(None), identifier=f"{SOFTWARE_NAME} lordosis"),
            finding_sites=[sr.FindingSite(coded_concept("122496007", "Lumbar spine"))],
            measurements=[_measurement(*_LORDOSIS, "deg", measurements.lordosis_deg)],
        )


def _measurement(code: str, meaning: str, unit: str, value: float) -> Any:
    from highdicom.sr import Measurement

    name = coded_concept(code, meaning, CODING_SCHEME if code.isdigit() else PRIVATE_SCHEME)
    return Measurement(name=name, value=float(value), unit=coded_concept(unit, _UNITS[unit], "UCUM"))


def _concept_of_item(item: Any) -> Any:
    """Return the code of a sequence item without its modifiers."""
    return coded_concept(str(item.CodeValue), str(item.CodeMeaning), str(item.CodingSchemeDesignator))


def _referenced_images(segmentation: Any) -> Iterator[Any]:
    """Yield the images that a segmentation was made from, as evidence."""
    from pydicom import Dataset

    for series in segmentation.ReferencedSeriesSequence:
        for reference in series.ReferencedInstanceSequence:
            image = Dataset()
            image.StudyInstanceUID = segmentation.StudyInstanceUID
            image.SeriesInstanceUID = series.SeriesInstanceUID
            image.SOPClassUID = reference.ReferencedSOPClassUID
            image.SOPInstanceUID = reference.ReferencedSOPInstanceUID
            yield image
