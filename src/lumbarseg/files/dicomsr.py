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
from lumbarseg.terminology import SCHEME

from .derived import NAME, Maker, new_object
from .disk import reading, replacing

SUFFIX = ".sr.dcm"
OWN_SCHEME = "99LUMBARSEG"
_SERIES = 2  # the series of a report is so many after that of its segmentation
_LUMBAR_SPINE = ("122496007", SCHEME, "Lumbar spine")
_UNITS = {"ml": "milliliter", "mm": "millimeter", "deg": "degree"}  # of UCUM

# key of a report: (code, scheme, meaning), unit
QUANTITIES: dict[str, tuple[tuple[str, str, str], str]] = {
    "volume_ml": (("118565006", SCHEME, "Volume"), "ml"),
    "anterior_mm": (("anterior", OWN_SCHEME, "Height in front"), "mm"),
    "middle_mm": (("middle", OWN_SCHEME, "Height in the middle"), "mm"),
    "posterior_mm": (("posterior", OWN_SCHEME, "Height behind"), "mm"),
    "depth_mm": (("131197000", SCHEME, "Depth"), "mm"),
    "tilt_top_deg": (("tilt_top", OWN_SCHEME, "Tilt of the upper endplate, positive facing forward"), "deg"),
    "tilt_bottom_deg": (("tilt_bottom", OWN_SCHEME, "Tilt of the lower endplate, positive facing forward"), "deg"),
    "canal_mm": (("canal", OWN_SCHEME, "Width of the canal behind it, front to back"), "mm"),
    "slip_mm": (("slip", OWN_SCHEME, "Slip on the vertebra below, positive forward"), "mm"),
}
"""What is measured of a structure."""
LORDOSIS = (("lordosis", OWN_SCHEME, "Lordosis, upper endplates of L1 and of the sacrum"), "deg")
_CERTAINTY, _UNCERTAIN = ("name", OWN_SCHEME, "Certainty of the level's name"), ("64957009", SCHEME, "Uncertain")


@dataclass(frozen=True)
class Sizes:
    """What was measured. structures: by name, values by keys of QUANTITIES; lordosis: degrees, None where not known."""

    structures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lordosis: float | None = None


def write(sizes: Sizes, segmentation: Path, maker: Maker, path: Path) -> None:
    """A report on the segments of a DICOM Segmentation of this package, for the same patient and study.

    segmentation: as dicomseg wrote it. Structures that it does not hold are left out. FileError when it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _read(segmentation)
        try:
            dataset = _dataset(sizes, found, maker)
        except Exception as error:  # of a segmentation that was changed highdicom raises almost anything
            raise FileError(f"{path}: no DICOM report can refer to {segmentation}: {error}") from error
    with replacing(path) as file:
        dataset.save_as(file, enforce_file_format=True)


def _read(segmentation: Path) -> Any:
    import pydicom

    with reading(segmentation) as stream:
        try:
            return pydicom.dcmread(stream, stop_before_pixels=True)
        except Exception as error:  # a damaged file makes pydicom raise almost anything
            raise FileError(f"{segmentation}: damaged DICOM file; write it again") from error


def _dataset(sizes: Sizes, found: Any, maker: Maker) -> Any:
    import highdicom
    from highdicom.coding_schemes import CodingSchemeIdentificationItem
    from pydicom.sr.codedict import codes

    report = highdicom.sr.MeasurementReport(
        observation_context=_observer(maker),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[*_groups(sizes, found), *_curves(sizes)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    scheme = CodingSchemeIdentificationItem(
        OWN_SCHEME, name="Measurements of lumbarseg", version=maker.version, responsible_organization=NAME
    )
    return highdicom.sr.EnhancedSR(
        evidence=[found, *_sources(found)],
        content=report,
        series_number=int(found.SeriesNumber) + _SERIES,
        is_complete=True,
        coding_schemes=[scheme],
        **new_object(maker, "Measurements"),
    )


def _observer(maker: Maker) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    device = highdicom.sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(None, entropy_srcs=[NAME, maker.version, maker.digest]),
        name=NAME,
        manufacturer_name=NAME,
        model_name=maker.model,
        serial_number=maker.digest,
    )
    return highdicom.sr.ObservationContext(
        observer_device_context=highdicom.sr.ObserverContext(codes.DCM.Device, device)
    )


def _groups(sizes: Sizes, found: Any) -> Iterator[Any]:
    """The sizes of each segment that has some."""
    import highdicom

    series = highdicom.sr.SourceSeriesForSegmentation(found.ReferencedSeriesSequence[0].SeriesInstanceUID)
    for segment in found.SegmentSequence:
        values = sizes.structures.get(str(segment.SegmentLabel), {})
        measured = [_measured(*QUANTITIES[key], value) for key, value in values.items() if key in QUANTITIES]
        if not measured:
            continue
        reference = highdicom.sr.ReferencedSegment(
            found.SOPClassUID, found.SOPInstanceUID, int(segment.SegmentNumber), source_series=series
        )
        doubt = [highdicom.sr.QualitativeEvaluation(_coded(_CERTAINTY), _coded(_UNCERTAIN))]
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        parts = kind.get("SegmentedPropertyTypeModifierCodeSequence", ())
        sites = [*segment.get("AnatomicRegionSequence", ()), *parts]
        yield highdicom.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(segment.TrackingUID, segment.TrackingID),
            referenced_segment=reference,
            finding_category=_code_of(segment.SegmentedPropertyCategoryCodeSequence[0]),
            finding_type=_code_of(kind),
            finding_sites=[highdicom.sr.FindingSite(_code_of(site)) for site in sites],
            measurements=measured,
            qualitative_evaluations=doubt if "SegmentDescription" in segment else None,
        )


def _curves(sizes: Sizes) -> Iterator[Any]:
    """What is measured across several structures."""
    import highdicom
    from pydicom.uid import generate_uid

    if sizes.lordosis is not None:
        yield highdicom.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(generate_uid(None), f"{NAME} lordosis"),
            finding_sites=[highdicom.sr.FindingSite(_coded(_LUMBAR_SPINE))],
            measurements=[_measured(*LORDOSIS, sizes.lordosis)],
        )


def _measured(name: tuple[str, str, str], unit: str, value: float) -> Any:
    from highdicom.sr import CodedConcept, Measurement

    return Measurement(name=_coded(name), value=float(value), unit=CodedConcept(unit, "UCUM", _UNITS[unit]))


def _tracking(uid: str, name: str) -> Any:
    from highdicom.sr import TrackingIdentifier

    return TrackingIdentifier(uid=str(uid), identifier=str(name))


def _coded(code: tuple[str, str, str]) -> Any:
    from highdicom.sr import CodedConcept

    value, scheme, meaning = code
    return CodedConcept(value, scheme, meaning)


def _code_of(item: Any) -> Any:
    """The code of an item, without what modifies it."""
    return _coded((str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning)))


def _sources(found: Any) -> Sequence[Any]:
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
