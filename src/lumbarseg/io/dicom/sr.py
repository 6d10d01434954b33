"""DICOM structured reports: the sizes of an answered exam, each at the segment that it was measured on.

DICOM PS3.16 TID 1500 (Measurement Report) with one TID 1411 group for each segment. What the standard has no code for
has one of the private scheme 99LUMBARSEG, whose meaning says all that is known of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError
from lumbarseg.terminology import CODING_SCHEME

from ..file_access import atomic_write, open_for_reading
from .derived_objects import SOFTWARE_NAME, Provenance, new_object_attributes

SUFFIX = ".sr.dcm"
PRIVATE_SCHEME = "99LUMBARSEG"
_SERIES_OFFSET = 2  # the series of a report is so many after that of its segmentation
_LUMBAR_SPINE = ("122496007", CODING_SCHEME, "Lumbar spine")
_UNITS = {"ml": "milliliter", "mm": "millimeter", "deg": "degree"}  # of UCUM

# key of a report: (code, scheme, meaning), unit
QUANTITIES: dict[str, tuple[tuple[str, str, str], str]] = {
    "volume_ml": (("118565006", CODING_SCHEME, "Volume"), "ml"),
    "anterior_mm": (("anterior", PRIVATE_SCHEME, "Height in front"), "mm"),
    "middle_mm": (("middle", PRIVATE_SCHEME, "Height in the middle"), "mm"),
    "posterior_mm": (("posterior", PRIVATE_SCHEME, "Height behind"), "mm"),
    "depth_mm": (("131197000", CODING_SCHEME, "Depth"), "mm"),
    "tilt_top_deg": (("tilt_top", PRIVATE_SCHEME, "Tilt of the upper endplate, positive facing forward"), "deg"),
    "tilt_bottom_deg": (("tilt_bottom", PRIVATE_SCHEME, "Tilt of the lower endplate, positive facing forward"), "deg"),
    "canal_mm": (("canal", PRIVATE_SCHEME, "Width of the canal behind it, front to back"), "mm"),
    "slip_mm": (("slip", PRIVATE_SCHEME, "Slip on the vertebra below, positive forward"), "mm"),
}
"""What is measured of a structure."""
LORDOSIS = (("lordosis", PRIVATE_SCHEME, "Lordosis, upper endplates of L1 and of the sacrum"), "deg")
_CERTAINTY, _UNCERTAIN = (
    ("name", PRIVATE_SCHEME, "Certainty of the level's name"),
    ("64957009", CODING_SCHEME, "Uncertain"),
)


@dataclass(frozen=True)
class Measurements:
    """What was measured. structures: by name, values by keys of QUANTITIES; lordosis: degrees, None where not known."""

    structures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lordosis_deg: float | None = None


def write(measurements: Measurements, segmentation_path: Path, provenance: Provenance, path: Path) -> None:
    """A report on the segments of a DICOM Segmentation of this package, for the same patient and study.

    segmentation: as dicomseg wrote it. Structures that it does not hold are left out. FileError when it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _read_segmentation(segmentation_path)
        try:
            dataset = _build_dataset(measurements, found, provenance)
        except Exception as error:  # of a segmentation that was changed highdicom raises almost anything
            raise FileError(f"{path}: no DICOM report can refer to {segmentation_path}: {error}") from error
    with atomic_write(path) as file:
        dataset.save_as(file, enforce_file_format=True)


def _read_segmentation(segmentation: Path) -> Any:
    import pydicom

    with open_for_reading(segmentation) as stream:
        try:
            return pydicom.dcmread(stream, stop_before_pixels=True)
        except Exception as error:  # a damaged file makes pydicom raise almost anything
            raise FileError(f"{segmentation}: damaged DICOM file; write it again") from error


def _build_dataset(measurements: Measurements, found: Any, provenance: Provenance) -> Any:
    import highdicom
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from pydicom.sr.codedict import codes

    report = highdicom.sr.MeasurementReport(
        observation_context=_observation_context(provenance),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[*_segment_groups(measurements, found), *_spine_groups(measurements)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    scheme = CodingSchemeIdentificationItem(
        PRIVATE_SCHEME,
        name="Measurements of lumbarseg",
        version=provenance.software_version,
        responsible_organization=SOFTWARE_NAME,
    )
    return highdicom.sr.EnhancedSR(
        evidence=[found, *_referenced_images(found)],
        content=report,
        series_number=int(found.SeriesNumber) + _SERIES_OFFSET,
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


def _segment_groups(sizes: Measurements, found: Any) -> Iterator[Any]:
    """The sizes of each segment that has some."""
    import highdicom

    series = highdicom.sr.SourceSeriesForSegmentation(found.ReferencedSeriesSequence[0].SeriesInstanceUID)
    for segment in found.SegmentSequence:
        values = sizes.structures.get(str(segment.SegmentLabel), {})
        measured = [_measurement(*QUANTITIES[key], value) for key, value in values.items() if key in QUANTITIES]
        if not measured:
            continue
        reference = highdicom.sr.ReferencedSegment(
            found.SOPClassUID, found.SOPInstanceUID, int(segment.SegmentNumber), source_series=series
        )
        doubt = [highdicom.sr.QualitativeEvaluation(_coded_concept(_CERTAINTY), _coded_concept(_UNCERTAIN))]
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        parts = kind.get("SegmentedPropertyTypeModifierCodeSequence", ())
        sites = [*segment.get("AnatomicRegionSequence", ()), *parts]
        yield highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking_identifier(segment.TrackingUID, segment.TrackingID),
            referenced_segment=reference,
            finding_category=_concept_of_item(segment.SegmentedPropertyCategoryCodeSequence[0]),
            finding_type=_concept_of_item(kind),
            finding_sites=[highdicom.sr.FindingSite(_concept_of_item(site)) for site in sites],
            measurements=measured,
            qualitative_evaluations=doubt if "SegmentDescription" in segment else None,
        )


def _spine_groups(measurements: Measurements) -> Iterator[Any]:
    """What is measured across several structures."""
    import highdicom
    from pydicom.uid import generate_uid

    if measurements.lordosis_deg is not None:
        yield highdicom.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking_identifier(generate_uid(None), f"{SOFTWARE_NAME} lordosis"),
            finding_sites=[highdicom.sr.FindingSite(_coded_concept(_LUMBAR_SPINE))],
            measurements=[_measurement(*LORDOSIS, measurements.lordosis_deg)],
        )


def _measurement(name: tuple[str, str, str], unit: str, value: float) -> Any:
    from highdicom.sr import CodedConcept, Measurement

    return Measurement(name=_coded_concept(name), value=float(value), unit=CodedConcept(unit, "UCUM", _UNITS[unit]))


def _tracking_identifier(uid: str, name: str) -> Any:
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=str(uid), identifier=str(name))


def _coded_concept(code: tuple[str, str, str]) -> Any:
    from highdicom.sr import CodedConcept

    value, scheme, meaning = code
    return CodedConcept(value, scheme, meaning)


def _concept_of_item(item: Any) -> Any:
    """The code of an item, without what modifies it."""
    return _coded_concept((str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning)))


def _referenced_images(found: Any) -> Sequence[Any]:
    """The images that a segmentation was made from, as evidence."""
    from pydicom import Dataset

    images = []
    for series in found.ReferencedSeriesSequence:
        for reference in series.ReferencedInstanceSequence:
            image = Dataset()
            image.StudyInstanceUID, image.SeriesInstanceUID = found.StudyInstanceUID, series.SeriesInstanceUID
            image.SOPClassUID, image.SOPInstanceUID = (
                reference.ReferencedSOPClassUID,
                reference.ReferencedSOPInstanceUID,
            )
            images.append(image)
    return images
