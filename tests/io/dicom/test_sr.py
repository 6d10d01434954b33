"""Measurements as a DICOM structured report: read back by highdicom and by DCMTK, each at its segment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import pydicom
import pytest
from tests.io.dicom.test_seg import MAKER, SEGMENTS, exam_in, written

from lumbarseg.errors import FileError
from lumbarseg.io.dicom import sr
from lumbarseg.io.dicom.sr import LORDOSIS, PRIVATE_SCHEME, QUANTITIES, Measurements

SIZES = Measurements(
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
    """A segmentation and the report on it."""
    folder = tmp_path_factory.mktemp("sr")
    written(exam_in(folder / "exam"), folder / "a.seg.dcm")
    sr.write(SIZES, folder / "a.seg.dcm", MAKER, folder / "a.sr.dcm")
    return folder


def groups(folder: Path) -> dict[str, Any]:
    """Groups of the report by tracking identifier, as highdicom finds them."""
    report = highdicom.sr.srread(folder / "a.sr.dcm")
    found = [
        *report.content.get_volumetric_roi_measurement_groups(),
        *report.content.get_image_measurement_groups(),
    ]
    return {group.tracking_identifier: group for group in found}


def test_every_value_comes_back_with_its_code_and_unit(folder: Path) -> None:
    found = groups(folder)
    assert set(found) == {*(f"lumbarseg {name}" for name in SIZES.structures if name != "S2"), "lumbarseg lordosis"}
    for name, values in SIZES.structures.items():
        if name == "S2":  # not in the segmentation
            continue
        told = {(m.name.value, m.name.scheme_designator): m for m in found[f"lumbarseg {name}"].get_measurements()}
        assert len(told) == len(values)
        for key, value in values.items():
            (code, meaning, scheme), unit = QUANTITIES[key]
            measured = told[code, scheme]
            assert (measured.value, measured.unit.value, measured.unit.scheme_designator) == (value, unit, "UCUM")
            assert measured.name.meaning == meaning
    (lordosis,) = found["lumbarseg lordosis"].get_measurements()
    assert (lordosis.value, lordosis.name.value) == (SIZES.lordosis_deg, LORDOSIS[0][0])


def test_each_group_refers_to_its_segment(folder: Path) -> None:
    segmentation = pydicom.dcmread(folder / "a.seg.dcm")
    by_name = {str(item.SegmentLabel): item for item in segmentation.SegmentSequence}
    terms = {segment.name: segment.codes for segment in SEGMENTS}
    for name, group in groups(folder).items():
        if name == "lumbarseg lordosis":
            continue
        structure = name.removeprefix("lumbarseg ")
        segment, reference = by_name[structure], group.referenced_segment
        assert reference[0].referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert reference[0].referenced_segment_numbers == [segment.SegmentNumber]
        assert group.tracking_uid == segment.TrackingUID
        assert group.finding_type.value == terms[structure].type.value
        expected = {part.value for part in (terms[structure].modifier, terms[structure].region) if part}
        assert {site.value.value for site in group.finding_sites} == expected
        own = [found for found in group.get_qualitative_evaluations() if found.name.scheme_designator == PRIVATE_SCHEME]
        doubts = [evaluation.value.meaning for evaluation in own]
        assert doubts == (["Uncertain"] if structure == "L3" else [])


def test_it_belongs_to_the_same_patient_and_study_and_names_its_evidence(folder: Path) -> None:
    source = [pydicom.dcmread(path) for path in (folder / "exam").iterdir()]
    segmentation, report = (pydicom.dcmread(folder / name) for name in ("a.seg.dcm", "a.sr.dcm"))
    for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "StudyDate"):
        assert report[keyword].value == source[0][keyword].value
    (evidence,) = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        ref.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for ref in series.ReferencedSOPSequence
    }
    assert named == {segmentation.SOPInstanceUID, *(head.SOPInstanceUID for head in source)}
    assert len({segmentation.SeriesNumber, report.SeriesNumber, source[0].SeriesNumber}) == 3
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="DCMTK is not installed")
def test_dcmtk_finds_no_fault_in_it(folder: Path) -> None:
    done = subprocess.run(["dsrdump", folder / "a.sr.dcm"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "E:" not in done.stderr
    assert '"Slip on the vertebra below, positive forward")="8.5" (mm,UCUM' in done.stdout


def test_a_damaged_segmentation_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.seg.dcm").write_bytes(b"no DICOM")
    with pytest.raises(FileError, match=r"a\.seg\.dcm: damaged"):
        sr.write(SIZES, tmp_path / "a.seg.dcm", MAKER, tmp_path / "a.sr.dcm")
    assert not (tmp_path / "a.sr.dcm").exists()
