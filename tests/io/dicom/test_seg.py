"""DICOM Segmentations: every voxel and code is read back, and every reference resolves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from pydicom.sr._concepts_dict import concepts
from tests.grids import affine_of, filled, grids
from tests.io import dcmqi
from tests.io.dicom.examples import (
    FRAME_OF_REFERENCE,
    PROVENANCE,
    SEGMENTS,
    random_labels,
    with_frame_of_reference,
    write_exam,
    write_segmentation,
)
from tests.io.make_dicom import T2, write_enhanced, write_series

from lumbarseg.anatomy import STRUCTURES, Kind
from lumbarseg.errors import FileError
from lumbarseg.io import find_exams, read_exam, write_image
from lumbarseg.io.dicom import derived_objects, seg
from lumbarseg.terminology import CATEGORY, structure_codes
from lumbarseg.volume import Grid, Volume

pytest.importorskip("highdicom")

needs_dcmqi = pytest.mark.skipif(dcmqi.find_program() is None, reason="dcmqi is not installed")


def code_of(item: dict[str, Any], key: str) -> tuple[str, ...] | None:
    parts = item.get(key)
    return parts and (parts["CodeValue"], parts["CodingSchemeDesignator"], parts["CodeMeaning"])


@needs_dcmqi
@pytest.mark.parametrize("segmentation_type", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("axes", ["PIR", "LPS", "AIL"])
def test_dcmqi_reads_every_voxel_code_and_colour(segmentation_type: str, axes: str, tmp_path: Path) -> None:
    exam = write_exam(tmp_path / "exam", axes)
    labels = write_segmentation(exam, tmp_path / "a.seg.dcm", segmentation_type)
    labels_read, attributes = dcmqi.read(tmp_path / "a.seg.dcm", tmp_path / "read", exam.volume.grid)
    by_name = {item["SegmentLabel"]: item for item in attributes}
    assert len(by_name) == len(attributes) == len(SEGMENTS)
    for segment in SEGMENTS:
        item = by_name[segment.name]
        assert np.array_equal(labels_read == item["labelID"], labels.array == segment.label), segment.name
        assert code_of(item, "SegmentedPropertyCategoryCodeSequence") == (CATEGORY.value, "SCT", CATEGORY.meaning)
        expected = (segment.codes.type, segment.codes.modifier, segment.codes.region)
        keys = ("SegmentedPropertyTypeCodeSequence", "SegmentedPropertyTypeModifierCodeSequence")
        for part, key in zip(expected, (*keys, "AnatomicRegionSequence"), strict=True):
            assert code_of(item, key) == (part and (part.value, "SCT", part.meaning)), (segment.name, key)
        assert np.abs(np.array(item["recommendedDisplayRGBValue"]) - segment.colour).max() <= 1
    if segmentation_type == "LABELMAP":
        assert all(by_name[segment.name]["labelID"] == segment.label for segment in SEGMENTS)


@needs_dcmqi
@settings(max_examples=6, deadline=None)
@given(grid=grids(largest=6))
def test_any_orientation_and_order_of_files(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> None:
    affine, folder = grid.affine.copy(), tmp_path_factory.mktemp("exam")
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    affine[:3, 2] = normal / np.linalg.norm(normal) * grid.spacing[2]
    i, j, k = grid.shape
    grid = Grid((i + 3, j + 3, k + 2), affine)
    write_series(folder / "exam", filled(grid), with_frame_of_reference(), shuffle=sum(grid.shape))
    exam = read_exam(folder / "exam")
    segments = SEGMENTS[::9]
    labels = write_segmentation(exam, folder / "a.seg.dcm", segments=segments)
    labels_read, attributes = dcmqi.read(folder / "a.seg.dcm", folder / "read", exam.volume.grid)
    for item in attributes:
        value = next(segment.label for segment in segments if segment.name == item["SegmentLabel"])
        assert np.array_equal(labels_read == item["labelID"], labels.array == value)
    assert np.count_nonzero(labels_read) == np.count_nonzero(labels.array)


def test_each_frame_refers_to_the_image_it_lies_on(tmp_path: Path) -> None:
    exam = write_exam(tmp_path / "exam")
    labels = write_segmentation(exam, tmp_path / "a.seg.dcm")
    files = {str(head.SOPInstanceUID): head for head in map(pydicom.dcmread, (tmp_path / "exam").iterdir())}
    stored = pydicom.dcmread(tmp_path / "a.seg.dcm")
    names = {item.SegmentNumber: item.SegmentLabel for item in stored.SegmentSequence}
    image = next(iter(files.values()))
    assert stored.FrameOfReferenceUID == FRAME_OF_REFERENCE
    assert stored.StudyInstanceUID == image.StudyInstanceUID
    assert [series.SeriesInstanceUID for series in stored.ReferencedSeriesSequence] == [image.SeriesInstanceUID]
    references = stored.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {str(item.ReferencedSOPInstanceUID) for item in references} == set(files)
    pixels = stored.pixel_array
    for group, frame in zip(stored.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        source = files[str(image.ReferencedSOPInstanceUID)]
        assert np.allclose(group.PlanePositionSequence[0].ImagePositionPatient, source.ImagePositionPatient, atol=1e-9)
        segment = names[group.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        value = next(s.label for s in SEGMENTS if s.name == segment)
        slice_of = labels.array[:, :, int(source.InstanceNumber) - 1].T
        assert np.array_equal(frame.astype(bool), slice_of == value)


@needs_dcmqi
def test_frames_of_one_file_are_referred_to_by_their_numbers(tmp_path: Path) -> None:
    grid = Grid((10, 12, 6), affine_of("PIR", (0.6, 0.7, 4.4), (25, 90, 130), (4, -7, 9)))
    stacks = [(filled(grid, seed), {"EchoTime": echo}) for seed, echo in ((1, 20.0), (2, 100.0))]
    path = write_enhanced(tmp_path / "exam" / "a", stacks)
    dataset = pydicom.dcmread(path)
    dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE
    dataset.save_as(path)

    exam = read_exam(tmp_path / "exam")
    labels = write_segmentation(exam, tmp_path / "a.seg.dcm")
    labels_read, attributes = dcmqi.read(tmp_path / "a.seg.dcm", tmp_path / "read", exam.volume.grid)
    values = {item["labelID"]: next(s.label for s in SEGMENTS if s.name == item["SegmentLabel"]) for item in attributes}
    assert np.array_equal(np.vectorize(lambda number: values.get(number, 0))(labels_read), labels.array)
    for group in pydicom.dcmread(tmp_path / "a.seg.dcm").PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == dataset.SOPInstanceUID
        own = dataset.PerFrameFunctionalGroupsSequence[int(image.ReferencedFrameNumber) - 1]
        assert own.MREchoSequence[0].EffectiveEchoTime == exam.metadata["echo_time_ms"]
        position = own.PlanePositionSequence[0].ImagePositionPatient
        assert np.allclose(group.PlanePositionSequence[0].ImagePositionPatient, position, atol=1e-9)


def test_only_required_attributes_of_the_patient_are_copied(tmp_path: Path) -> None:
    secrets = {
        "PatientName": "Müller^Jürgen",
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientComments": "lives at Nowhere 5",
        "PatientAddress": "Nowhere 5",
        "OtherPatientIDs": "77",
        "InstitutionName": "Hospital",
        "OperatorsName": "Op^Erator",
        "PatientIdentityRemoved": "NO",
    }
    exam = write_exam(tmp_path / "exam", PatientSex="F", AccessionNumber="A1", StudyID="S1", **secrets)
    write_segmentation(exam, tmp_path / "a.seg.dcm")
    stored = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert (str(stored.PatientName), stored.PatientSex, stored.PatientBirthDate) == ("Müller^Jürgen", "F", "19600101")
    assert (stored.AccessionNumber, stored.StudyID, stored.StudyDate) == ("A1", "S1", "20200202")
    assert stored.PatientIdentityRemoved == "NO"
    text = (tmp_path / "a.seg.dcm").read_bytes()
    assert not [word for word in (b"Nowhere", b"Hospital", b"Erator") if word in text]


@pytest.mark.filterwarnings("ignore:.*VR:UserWarning")
@pytest.mark.parametrize(
    "tags",
    [
        {"PatientSex": "X", "PatientBirthDate": "1960-01-01", "StudyTime": "noon"},
        {"SeriesNumber": None, "SliceThickness": None, "SpacingBetweenSlices": None},
        {"StudyID": "longer than sixteen characters", "AccessionNumber": None},
    ],
)
def test_a_source_that_violates_the_standard_is_still_referred_to(tags: dict[str, Any], tmp_path: Path) -> None:
    write_segmentation(write_exam(tmp_path / "exam", **tags), tmp_path / "a.seg.dcm")
    stored = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert [
        keyword for keyword in ("PatientSex", "StudyID", "AccessionNumber", "StudyTime") if keyword not in stored
    ] == []
    assert stored.SeriesNumber > 0


def test_provenance_and_uncertain_levels_are_stored(tmp_path: Path) -> None:
    exam = write_exam(tmp_path / "exam")
    seg.write(
        random_labels(exam), SEGMENTS, exam.source_images, replace(PROVENANCE, user_guided=True), tmp_path / "a.seg.dcm"
    )
    stored = pydicom.dcmread(tmp_path / "a.seg.dcm")
    assert (stored.Manufacturer, stored.ManufacturerModelName) == ("lumbarseg", "shipped")
    assert (stored.SoftwareVersions, stored.DeviceSerialNumber) == ("1.2", "f" * 64)
    for item in stored.SegmentSequence:
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert f"sha256={'f' * 64}" in "".join(algorithm.AlgorithmParameters)
        assert item.SegmentAlgorithmType == "SEMIAUTOMATIC"
        assert ("uncertain" in item.get("SegmentDescription", "")) == (item.SegmentLabel == "L3")


def test_codes_of_levels_are_those_of_the_standard() -> None:
    """pydicom carries the standard's tables of codes and meanings."""
    meanings: dict[str, set[str]] = {}
    for names in concepts["SCT"].values():
        for value, (meaning, _) in names.items():
            meanings.setdefault(value, set()).add(meaning)
    with_code = [s for s in STRUCTURES if s.code and s.kind is not Kind.ARCH]
    standard = {s.name for s in with_code if structure_codes(s).type.meaning in meanings.get(s.code, ())}
    assert {s.name for s in with_code} == standard


def test_what_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    exam = write_exam(tmp_path / "exam")
    empty = Volume(np.zeros_like(random_labels(exam).array), exam.volume.affine)
    with pytest.raises(FileError, match="no structure was segmented"):
        seg.write(empty, SEGMENTS, exam.source_images, PROVENANCE, tmp_path / "a.seg.dcm")
    write_image(exam.volume, tmp_path / "a.nii.gz")
    plain = read_exam(tmp_path / "a.nii.gz")
    with pytest.raises(FileError, match=r"a\.nii\.gz: not read from DICOM"):
        derived_objects.require_source_images(plain.path, plain.source_images)
    write_series(tmp_path / "nowhere", filled(Grid((4, 4, 5), affine_of("PIR", (1, 1, 4), (0, 0, 0)))), T2)
    nowhere = read_exam(tmp_path / "nowhere")
    with pytest.raises(FileError, match="no FrameOfReferenceUID"):
        derived_objects.require_source_images(nowhere.path, nowhere.source_images)
    assert not (tmp_path / "a.seg.dcm").exists()


def test_without_highdicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exam = write_exam(tmp_path / "exam")
    monkeypatch.setattr(derived_objects, "find_spec", lambda name: None)
    with pytest.raises(FileError, match=r"pip install 'lumbarseg\[dicom\]'"):
        derived_objects.require_source_images(exam.path, exam.source_images)


def test_own_outputs_in_a_folder_do_not_change_the_exam(tmp_path: Path) -> None:
    exam = write_exam(tmp_path / "exam")
    write_segmentation(exam, tmp_path / "exam" / "exam.seg.dcm")
    write_segmentation(exam, tmp_path / "out" / "exam.seg.dcm")
    repeated = read_exam(tmp_path / "exam")
    assert np.array_equal(repeated.volume.array, exam.volume.array)
    assert repeated.notes == exam.notes
    with pytest.raises(FileError):
        find_exams([tmp_path / "out"])
