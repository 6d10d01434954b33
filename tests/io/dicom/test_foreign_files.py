"""DICOM that passed through other software: attributes, file meta information, identifiers or content are missing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage, RLELossless, generate_uid
from tests.grids import filled
from tests.io.dicom.examples import SAGITTAL, volume_along
from tests.io.make_dicom import AXIAL, T1, T2, write_series

from lumbarseg.errors import FileError
from lumbarseg.io import LoadedExam, find_exams, read_exam
from lumbarseg.volume import Volume

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 5\n"


def edit(paths: list[Path], change: Callable[[pydicom.Dataset, int], None]) -> None:
    """Change the data set of each file and save it with pydicom."""
    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        change(dataset, index)
        dataset.save_as(path)


def without(*keywords: str) -> Callable[[pydicom.Dataset, int], None]:
    def remove(dataset: pydicom.Dataset, _: int) -> None:
        for keyword in keywords:
            if keyword in dataset:
                delattr(dataset, keyword)

    return remove


def save_bare(path: Path, implicit_vr: bool, little_endian: bool = True, keep_from: int = 0) -> None:
    """Save a data set without preamble and file meta information, from a group on."""
    dataset = pydicom.dcmread(path)
    if not little_endian:
        dataset.PixelData = dataset.pixel_array.astype(">i2").tobytes()
    bare = pydicom.Dataset()
    bare.update({tag: dataset[tag] for tag in dataset.keys() if tag.group >= keep_from})  # noqa: SIM118
    bare.save_as(path, implicit_vr=implicit_vr, little_endian=little_endian, enforce_file_format=False)


def assert_same(exam: LoadedExam, volume: Volume = SAGITTAL) -> None:
    assert np.array_equal(exam.volume.array, volume.array)
    assert exam.volume.grid.same_as(volume.grid, 1e-3)


def test_the_rsna_2024_files_are_read(tmp_path: Path) -> None:
    def like_rsna(dataset: pydicom.Dataset, _: int) -> None:
        dataset.compress(RLELossless)
        without(
            *("SOPClassUID", "Modality", "ImageType", "EchoTime", "RepetitionTime", "SeriesNumber", "ScanningSequence"),
            *("Manufacturer", "PatientName", "StudyDate", "MagneticFieldStrength", "PixelRepresentation"),
        )(dataset, 0)
        dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage

    edit(write_series(tmp_path, SAGITTAL), like_rsna)
    exam = read_exam(tmp_path)
    assert_same(exam)
    assert exam.metadata["modality"] == "MR"
    assert find_exams([tmp_path]) == [tmp_path]


def test_without_any_class_the_attributes_decide(tmp_path: Path) -> None:
    def remove(dataset: pydicom.Dataset, _: int) -> None:
        without("SOPClassUID", "Modality")(dataset, 0)
        del dataset.file_meta.MediaStorageSOPClassUID

    edit(write_series(tmp_path, SAGITTAL), remove)
    assert_same(read_exam(tmp_path))


@pytest.mark.parametrize(
    "keyword",
    *[
        [
            "PixelRepresentation",
            "SamplesPerPixel",
            "PhotometricInterpretation",
            "BitsStored",
            "HighBit",
            "BitsAllocated",
        ]
    ],
)
def test_missing_pixel_attributes_have_their_usual_values(keyword: str, tmp_path: Path) -> None:
    edit(write_series(tmp_path, Volume(SAGITTAL.array.astype(np.uint16), SAGITTAL.affine)), without(keyword))
    assert_same(read_exam(tmp_path))


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"])
def test_a_missing_attribute_that_decides_is_named(keyword: str, tmp_path: Path) -> None:
    edit(write_series(tmp_path, SAGITTAL), without(keyword))
    with pytest.raises(FileError, match=rf"no grey slices with a position in space \(9 .* without {keyword}\)"):
        read_exam(tmp_path)


@pytest.mark.parametrize(("implicit_vr", "little_endian"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("keep_from", [0x8, 0x10, 0x18, 0x20])
def test_files_without_file_meta_may_begin_with_any_element(
    implicit_vr: bool, little_endian: bool, keep_from: int, tmp_path: Path
) -> None:
    paths = write_series(tmp_path, SAGITTAL)
    for path in paths:
        save_bare(path, implicit_vr, little_endian, keep_from)
    assert_same(read_exam(tmp_path))


def test_files_with_and_without_file_meta_may_be_mixed(tmp_path: Path) -> None:
    paths = write_series(tmp_path, SAGITTAL)
    for index, path in enumerate(paths):
        if index % 3:
            save_bare(path, implicit_vr=index % 3 == 1)
    assert_same(read_exam(tmp_path))


def test_other_binary_files_are_not_taken_for_dicom(tmp_path: Path) -> None:
    write_series(tmp_path, SAGITTAL)
    rng = np.random.default_rng(0)
    for index in range(50):
        (tmp_path / f"other{index}").write_bytes(bytes([2 * (index % 20), 0]) + rng.bytes(600))
    exam = read_exam(tmp_path)
    assert_same(exam)
    assert len(exam.notes) == 1


def test_one_sop_instance_uid_for_all_slices_is_not_a_copy(tmp_path: Path) -> None:
    edit(write_series(tmp_path, SAGITTAL), lambda dataset, _: setattr(dataset, "SOPInstanceUID", "1.2.3"))
    exam = read_exam(tmp_path)
    assert_same(exam)
    assert len(exam.notes) == 1


@pytest.mark.parametrize("number", [2, 3])
def test_two_series_with_the_same_identifiers_are_separate(number: int, tmp_path: Path) -> None:
    def same_identifiers(dataset: pydicom.Dataset, index: int) -> None:
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.3", f"1.2.3.{index}"

    t1 = volume_along("PIR", 9)
    edit(write_series(tmp_path / "t2", SAGITTAL, T2), same_identifiers)
    edit(write_series(tmp_path / "t1", t1, replace(T1, number=number)), same_identifiers)
    exam = read_exam(tmp_path)
    assert_same(exam)
    assert "T1_TSE_SAG" in exam.metadata["left_out"][0]
    assert_same(read_exam(tmp_path, series="T1_TSE"), t1)


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "StudyInstanceUID"])
def test_an_identifier_for_each_slice_is_joined_and_reported(keyword: str, tmp_path: Path) -> None:
    edit(write_series(tmp_path / "t2", SAGITTAL), lambda dataset, _: setattr(dataset, keyword, generate_uid()))
    exam = read_exam(tmp_path)
    assert_same(exam)
    assert exam.notes[-1].startswith(f"its slices have different {keyword}s")


def test_a_study_uid_for_each_slice_is_one_exam_for_each_patient(tmp_path: Path) -> None:
    for patient in ("A", "B"):
        for protocol in (T1, T2):
            folder = tmp_path / patient / protocol.description
            paths = write_series(folder, SAGITTAL, replace(protocol, tags={**protocol.tags, "PatientID": patient}))
            edit(paths, lambda dataset, _: setattr(dataset, "StudyInstanceUID", generate_uid()))
    assert find_exams([tmp_path]) == [tmp_path / "A", tmp_path / "B"]
    assert_same(read_exam(tmp_path / "A"))


def test_a_series_uid_for_each_slice_keeps_two_series_apart(tmp_path: Path) -> None:
    def new_uid(dataset: pydicom.Dataset, _: int) -> None:
        dataset.SeriesInstanceUID = generate_uid()

    for protocol, volume in ((T1, volume_along("PIR", 9)), (T2, SAGITTAL), (AXIAL, volume_along("LPS", 12))):
        edit(write_series(tmp_path / protocol.description, volume, protocol), new_uid)
    exam = read_exam(tmp_path)
    assert_same(exam)
    assert len(exam.metadata["left_out"]) == 2


def test_links_to_folders_and_files_are_followed(tmp_path: Path) -> None:
    write_series(tmp_path / "store" / "t2", SAGITTAL)
    for path in write_series(tmp_path / "store" / "t1", volume_along("PIR", 9), T1):
        (tmp_path / "exam" / "t1").mkdir(parents=True, exist_ok=True)
        (tmp_path / "exam" / "t1" / path.name).symlink_to(path)
    (tmp_path / "exam" / "t2").symlink_to(tmp_path / "store" / "t2")
    (tmp_path / "exam" / "circle").symlink_to(tmp_path / "exam")
    exam = read_exam(tmp_path / "exam")
    assert_same(exam)
    assert len(exam.notes) == 1 and len(exam.metadata["left_out"]) == 1
    assert find_exams([tmp_path / "exam"]) == [tmp_path / "exam"]


def test_missing_content_is_counted_and_a_gap_is_reported(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "exam", SAGITTAL)
    (tmp_path / "exam" / "lost").symlink_to(tmp_path / "gone")
    (tmp_path / "exam" / "pointer").write_bytes(POINTER)
    exam = read_exam(tmp_path / "exam")
    assert_same(exam)
    assert exam.notes[-1] == (
        "files without content (1 dangling links, 1 pointers of Git LFS or git-annex skipped): is the exam complete?"
    )
    paths[4].unlink()
    paths[4].symlink_to(tmp_path / ".git" / "annex" / "objects" / "x")
    with pytest.raises(FileError, match=r"slices are missing.*\(2 dangling links, 1 pointers"):
        read_exam(tmp_path / "exam")


def test_a_folder_of_pointers_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"IM{index}").write_bytes(POINTER)
    for read in (read_exam, lambda path: find_exams([path])):
        with pytest.raises(FileError, match=r"\(3 pointers of Git LFS or git-annex skipped\)"):
            read(tmp_path)


def test_the_error_for_a_pointer_or_annex_link_names_the_command_to_fetch_it(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(POINTER)
    (tmp_path / "b.nii.gz").symlink_to(Path(".git", "annex", "objects", "b"))
    with pytest.raises(FileError, match=r"a\.nii\.gz: a pointer without its content; .*git lfs pull"):
        read_exam(tmp_path / "a.nii.gz")
    assert find_exams([tmp_path]) == [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    with pytest.raises(FileError, match=r"b\.nii\.gz: cannot be read: a git-annex link .*git annex get"):
        read_exam(tmp_path / "b.nii.gz")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may read everything")
def test_unreadable_files_are_counted(tmp_path: Path) -> None:
    write_series(tmp_path, SAGITTAL)
    (tmp_path / "closed").write_bytes(b"1")
    (tmp_path / "closed").chmod(0)
    assert "1 unreadable files" in read_exam(tmp_path).notes[-1]


def test_a_shared_sop_instance_uid_cannot_be_referred_to(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    from lumbarseg.io.dicom.derived_objects import require_source_images

    edit(
        write_series(tmp_path, filled(SAGITTAL.grid), replace(T2, tags={"FrameOfReferenceUID": "1.2"})),
        lambda dataset, _: setattr(dataset, "SOPInstanceUID", "1.2.3"),
    )
    with pytest.raises(FileError, match="several of its images have the same SOPInstanceUID"):
        require_source_images(tmp_path, read_exam(tmp_path).source_images)
