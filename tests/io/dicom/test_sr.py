"""DICOM structured reports: highdicom and DCMTK read every measurement back, each at its segment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest
from tests.io.dicom.examples import PROVENANCE, SEGMENTS, write_exam, write_segmentation

from lumbarseg.errors import FileError
from lumbarseg.io.dicom import sr
from lumbarseg.io.dicom.sr import PRIVATE_SCHEME, QUANTITIES, Measurements

highdicom = pytest.importorskip("highdicom")

MEASUREMENTS = Measurements(
    {
        "L3": {key: index + 0.5 for index, key in enumerate(QUANTITIES)},
        "L3 arch": {"volume_ml": 7.25},
        "L3-L4": {"volume_ml": 11.0, "middle_mm": 9.1},
        "L6": {"volume_ml": 30.0},
        "S2": {"volume_ml": 1.0},
    },
    43.5,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a segmentation and a report on it."""
    folder = tmp_path_factory.mktemp("sr")
    write_segmentation(write_exam(folder / "exam"), folder / "a.seg.dcm")
    sr.write(MEASUREMENTS, folder / "a.seg.dcm", PROVENANCE, folder / "a.sr.dcm")
    return folder


def groups_by_tracking_id(folder: Path) -> dict[str, Any]:
    """Return the groups of the report by tracking identifier, as highdicom reads them."""
    report = highdicom.sr.srread(folder / "a.sr.dcm")
    report_groups = [
        *report.content.get_volumetric_roi_measurement_groups(),
        *report.content.get_image_measurement_groups(),
    ]
    return {group.tracking_identifier: group for group in report_groups}


def test_every_value_comes_back_with_its_code_and_unit(folder: Path) -> None:
    report_groups = groups_by_tracking_id(folder)
    assert set(report_groups) == {
        *(f"lumbarseg {name}" for name in MEASUREMENTS.structures if name != "S2"),
        "lumbarseg lordosis",
    }
    for name, values in MEASUREMENTS.structures.items():
        if name == "S2":  # not in the segmentation
            continue
        measurements = {
            (m.name.value, m.name.scheme_designator): m for m in report_groups[f"lumbarseg {name}"].get_measurements()
        }
        assert len(measurements) == len(values)
        for key, value in values.items():
            (code, meaning), unit = QUANTITIES[key], key.rpartition("_")[2]
            scheme = "SCT" if key in ("volume_ml", "depth_mm") else PRIVATE_SCHEME
            measurement = measurements[code, scheme]
            assert (measurement.value, measurement.unit.value, measurement.unit.scheme_designator) == (
                value,
                unit,
                "UCUM",
            )
            assert measurement.name.meaning == meaning
    (lordosis,) = report_groups["lumbarseg lordosis"].get_measurements()
    assert (lordosis.value, lordosis.name.value) == (MEASUREMENTS.lordosis_deg, "lordosis")


def test_each_group_refers_to_its_segment(folder: Path) -> None:
    segmentation = pydicom.dcmread(folder / "a.seg.dcm")
    by_name = {str(item.SegmentLabel): item for item in segmentation.SegmentSequence}
    codes = {segment.name: segment.codes for segment in SEGMENTS}
    for name, group in groups_by_tracking_id(folder).items():
        if name == "lumbarseg lordosis":
            continue
        structure = name.removeprefix("lumbarseg ")
        segment, reference = by_name[structure], group.referenced_segment
        assert reference[0].referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert reference[0].referenced_segment_numbers == [segment.SegmentNumber]
        assert group.tracking_uid == segment.TrackingUID
        assert group.finding_type.value == codes[structure].type.value
        expected = {part.value for part in (codes[structure].modifier, codes[structure].region) if part}
        assert {site.value.value for site in group.finding_sites} == expected
        own = [item for item in group.get_qualitative_evaluations() if item.name.scheme_designator == PRIVATE_SCHEME]
        certainties = [evaluation.value.meaning for evaluation in own]
        assert certainties == (["Uncertain"] if structure == "L3" else [])


def test_it_belongs_to_the_same_patient_and_study_and_names_its_evidence(folder: Path) -> None:
    source = [pydicom.dcmread(path) for path in (folder / "exam").iterdir()]
    segmentation, report = (pydicom.dcmread(folder / name) for name in ("a.seg.dcm", "a.sr.dcm"))
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "StudyDate"):
        assert report[keyword].value == source[0][keyword].value
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    evidence_uids = {
        ref.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for ref in series.ReferencedSOPSequence
    }
    assert evidence_uids == {segmentation.SOPInstanceUID, *(head.SOPInstanceUID for head in source)}
    assert len({segmentation.SeriesNumber, report.SeriesNumber, source[0].SeriesNumber}) == 3
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="DCMTK is not installed")
def test_dcmtk_finds_no_fault_in_it(folder: Path) -> None:
    process = subprocess.run(["dsrdump", folder / "a.sr.dcm"], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert "E:" not in process.stderr
    slip = MEASUREMENTS.structures["L3"]["slip_mm"]
    assert f'"Slip on the vertebra below, positive forward")="{slip}" (mm,UCUM' in process.stdout


def test_a_damaged_segmentation_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.seg.dcm").write_bytes(b"no DICOM")
    with pytest.raises(FileError, match=r"a\.seg\.dcm: damaged"):
        sr.write(MEASUREMENTS, tmp_path / "a.seg.dcm", PROVENANCE, tmp_path / "a.sr.dcm")
    assert not (tmp_path / "a.sr.dcm").exists()
