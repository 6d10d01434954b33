"""Read a folder of DICOM files: the sagittal series with its geometry, or one clear error."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from pydicom.uid import generate_uid
from tests.grids import filled, grids
from tests.io.dicom.examples import SAGITTAL, volume_along
from tests.io.itk import ras_affine, ras_array
from tests.io.make_dicom import AXIAL, LOCALISER, T1, T2, Protocol, write_series

from lumbarseg.errors import FileError
from lumbarseg.io import read_exam
from lumbarseg.volume import Grid, Volume

SimpleITK = pytest.importorskip("SimpleITK")


def study(folder: Path) -> Path:
    """Write a typical lumbar exam: localisers, sagittal T1 and T2, axial T2, and files that are not DICOM."""
    write_series(folder / "1", volume_along("LPS", 3), LOCALISER)
    write_series(folder / "1", volume_along("PIR", 3), replace(LOCALISER, number=11))
    write_series(folder / "2", volume_along("PIR", 9), T1)
    write_series(folder / "3", SAGITTAL, T2)
    write_series(folder / "4", volume_along("LPS", 20), AXIAL)
    (folder / "README.txt").write_text("how to open this disc\n" * 20)
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 64)
    return folder


def test_the_sagittal_t2_series_is_selected_and_reported(tmp_path: Path) -> None:
    exam = read_exam(study(tmp_path / "exam"))
    assert np.array_equal(exam.volume.array, SAGITTAL.array)
    assert exam.volume.grid.same_as(SAGITTAL.grid, 1e-3)
    assert exam.notes == ["DICOM series 3 'T2_TSE_SAG': sagittal, T2 (TE 101, TR 3500 ms), 9 slices"]
    assert exam.metadata["taken"] == exam.notes[0]
    assert exam.metadata["left_out"] == [
        "series 2 'T1_TSE_SAG': sagittal, T1 (TE 11, TR 600 ms), 9 slices",
        "series 4 'T2_TSE_TRA': axial, T2 (TE 101, TR 4200 ms), 20 slices",
        "series 11 'localizer': localiser, sagittal, other, 3 slices",
        "series 1 'localizer': localiser, axial, other, 3 slices",
    ]


def test_metadata_do_not_identify_the_patient(tmp_path: Path) -> None:
    about = read_exam(study(tmp_path / "exam")).metadata
    assert about["modality"] == "MR"
    assert (about["echo_time_ms"], about["repetition_time_ms"], about["field_strength_tesla"]) == (101, 3500, 1.5)
    assert (about["series"], about["manufacturer"], about["slice_distance_mm"]) == ("T2_TSE_SAG", "MAKER", 4.4)
    text = str(about)
    assert not [word for word in ("Secret", "Somebody", "ID-", "1960", "2020") if word in text]


@settings(max_examples=30, deadline=None)
@given(grid=grids(largest=6))
def test_any_orientation_comes_back_as_gdcm_reads_it(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> None:
    columns, rows = grid.affine[:3, 0], grid.affine[:3, 1]
    normal = np.cross(columns, rows)
    affine = grid.affine.copy()
    affine[:3, 2] = normal / np.linalg.norm(normal) * grid.spacing[2]
    grid = Grid((grid.shape[0] + 1, grid.shape[1] + 1, grid.shape[2] + 1), affine)  # ITK drops axes of one voxel
    volume, folder = filled(grid), tmp_path_factory.mktemp("series")
    paths = write_series(folder, volume)

    exam = read_exam(folder)
    assert exam.volume.grid.same_as(grid, 2e-3)
    assert np.array_equal(exam.volume.array, volume.array)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    itk_image = reader.Execute()
    assert len(paths) == itk_image.GetSize()[2]
    assert np.array_equal(ras_array(itk_image), exam.volume.array)
    assert Grid(grid.shape, ras_affine(itk_image)).same_as(exam.volume.grid, 0.02)


def test_slices_stored_from_the_other_end_lie_in_the_same_place(tmp_path: Path) -> None:
    flipped = SAGITTAL.affine.copy()
    flipped[:3, 3] += flipped[:3, 2] * 8
    flipped[:3, 2] *= -1
    write_series(tmp_path, Volume(SAGITTAL.array[:, :, ::-1], flipped))
    exam = read_exam(tmp_path)
    assert exam.volume.grid.same_as(SAGITTAL.grid, 1e-3)
    assert np.array_equal(exam.volume.array, SAGITTAL.array)


def test_each_slice_is_rescaled_by_its_own_numbers(tmp_path: Path) -> None:
    for index, path in enumerate(write_series(tmp_path, SAGITTAL)):
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + index / 2, -index
        dataset.save_as(path)
    array = read_exam(tmp_path).volume.array
    for index in range(9):
        assert np.allclose(array[:, :, index], SAGITTAL.array[:, :, index] * (1 + index / 2) - index)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([T1, T2], "T2_TSE_SAG"),
        ([T1, Protocol("t2_tirm_sag", 7)], "T1_TSE_SAG"),
        ([Protocol("t2_tirm_sag", 7), Protocol("t2_tse_sag_fs", 8), T2], "T2_TSE_SAG"),
        ([Protocol("sag", 5, tags={"EchoTime": 100, "RepetitionTime": 3000}), T1], "sag"),
        ([Protocol("sag", 5, tags={"EchoTime": 9, "RepetitionTime": 500}), Protocol("pd", 6)], "sag"),
        ([Protocol("T2* sag", 5), T1], "T1_TSE_SAG"),
        (
            [replace(T2, description="T2 calculated", image_type=("DERIVED", "SECONDARY")), replace(T2, number=9)],
            "T2_TSE_SAG",
        ),
        ([replace(T2, description="T2 scout"), Protocol("unknown", 6)], "unknown"),
    ],
)
def test_which_sagittal_series_is_preferred(others: list[Protocol], expected: str, tmp_path: Path) -> None:
    for protocol in others:
        write_series(tmp_path, SAGITTAL, protocol)
    assert read_exam(tmp_path).metadata["series"] == expected


def test_more_slices_win_and_a_handful_is_no_exam(tmp_path: Path) -> None:
    few = Volume(SAGITTAL.array[:, :, :3], SAGITTAL.affine)
    write_series(tmp_path, few, replace(T2, description="T2 short", number=1))
    write_series(tmp_path, Volume(SAGITTAL.array[:, :, :8], SAGITTAL.affine), replace(T1, description="T1 long"))
    assert read_exam(tmp_path).metadata["series"] == "T1 long"
    write_series(
        tmp_path, Volume(SAGITTAL.array[:, :, :6], SAGITTAL.affine), replace(T2, description="T2 six", number=5)
    )
    write_series(
        tmp_path, Volume(SAGITTAL.array[:, :, :7], SAGITTAL.affine), replace(T2, description="T2 seven", number=6)
    )
    assert read_exam(tmp_path).metadata["series"] == "T2 seven"


def test_without_a_sagittal_series_another_is_read_and_reported(tmp_path: Path) -> None:
    write_series(tmp_path, volume_along("LPS", 20), AXIAL)
    exam = read_exam(tmp_path)
    assert exam.metadata["plane"] == "axial"
    assert exam.notes[1] == "no sagittal series was read: its slices are axial"


def test_a_single_slice_is_an_exam(tmp_path: Path) -> None:
    write_series(tmp_path, Volume(SAGITTAL.array[:, :, :1], SAGITTAL.affine))
    volume = read_exam(tmp_path).volume
    assert volume.array.shape == (20, 24, 1)
    assert volume.grid.same_as(Grid((20, 24, 1), SAGITTAL.affine), 1e-3)


def test_ct_is_reported(tmp_path: Path) -> None:
    write_series(tmp_path, SAGITTAL, replace(T2, modality="CT", description="LWS"))
    exam = read_exam(tmp_path)
    assert exam.metadata["modality"] == "CT"
    assert exam.notes[-1] == "CT, not MRI"


def test_copies_of_a_file_do_no_harm(tmp_path: Path) -> None:
    paths = write_series(tmp_path, SAGITTAL)
    shutil.copy(paths[2], tmp_path / "copy")
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, SAGITTAL.array)
    assert exam.notes[-1] == "1 files that are copies of others were left out"


def test_slices_a_little_out_of_step_are_one_stack(tmp_path: Path) -> None:
    paths = write_series(tmp_path, SAGITTAL)
    dataset = pydicom.dcmread(paths[4])
    dataset.ImagePositionPatient = [float(v) + 0.2 for v in dataset.ImagePositionPatient]
    dataset.save_as(paths[4])
    assert read_exam(tmp_path).volume.grid.same_as(SAGITTAL.grid, 1e-3)


def test_a_missing_slice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, SAGITTAL)[4].unlink()
    with pytest.raises(
        FileError, match=r"series 3 'T2_TSE_SAG': slices are missing, or two .*: gaps of 4\.40 to 8\.80 mm"
    ):
        read_exam(tmp_path)


def test_slices_that_grow_apart_are_refused(tmp_path: Path) -> None:
    for index, path in enumerate(write_series(tmp_path, SAGITTAL)):
        dataset = pydicom.dcmread(path)
        normal = SAGITTAL.affine[:3, 2] * (-1, -1, 1)
        shifted = np.array(dataset.ImagePositionPatient, float) + normal * 0.03 * index**2
        dataset.ImagePositionPatient = [f"{v:.8f}" for v in shifted]
        dataset.save_as(path)
    with pytest.raises(FileError, match="slices are missing"):
        read_exam(tmp_path)


def test_several_slices_at_one_position_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path / "one", SAGITTAL)
    for path in write_series(tmp_path / "two", Volume(SAGITTAL.array + 1, SAGITTAL.affine)):
        with_new_identity(path)
    with pytest.raises(FileError, match="2 slices at each position"):
        read_exam(tmp_path)


def test_the_same_slices_sent_twice_under_new_identities_are_copies(tmp_path: Path) -> None:
    write_series(tmp_path / "one", SAGITTAL)
    for path in write_series(tmp_path / "two", SAGITTAL)[3:]:
        with_new_identity(path)
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, SAGITTAL.array)
    assert exam.notes[1:] == [
        "6 slices that are copies of others were left out",
        "3 files that are copies of others were left out",
    ]


def with_new_identity(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("keyword", "value", "message"),
    [
        (
            "ImageOrientationPatient",
            [0, 0.9, 0.4358898943540674, 0, 0.4358898943540674, -0.9],
            "sagittal 20 x 24, 8 of 9 slices",
        ),
        ("PixelSpacing", [0.9, 0.9], "sagittal 20 x 24, 8 of 9 slices"),
    ],
)
def test_a_stack_of_unlike_slices_is_refused(keyword: str, value: list[float], message: str, tmp_path: Path) -> None:
    path = write_series(tmp_path, SAGITTAL)[3]
    dataset = pydicom.dcmread(path)
    setattr(dataset, keyword, value)
    dataset.save_as(path)
    with pytest.raises(FileError, match=rf"\({message}\): slices are missing"):
        read_exam(tmp_path)


def test_a_three_plane_localiser_without_a_name_is_not_preferred(tmp_path: Path) -> None:
    for axes in ("PIR", "LPS", "LIA"):
        paths = write_series(tmp_path / axes, volume_along(axes, 9), Protocol("planes", 1))
        for path in paths:
            dataset = pydicom.dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            dataset.save_as(path)
    write_series(tmp_path / "pd", SAGITTAL, Protocol("pd", 9))
    assert read_exam(tmp_path).metadata["series"] == "pd"


@pytest.mark.parametrize("what", ["patients", "studies"])
def test_two_exams_in_one_folder_are_refused(what: str, tmp_path: Path) -> None:
    tags = {"PatientID": "same"} if what == "studies" else {}
    write_series(tmp_path, SAGITTAL, replace(T2, tags=tags))
    write_series(tmp_path, SAGITTAL, replace(T2, study="1.2.3", number=8, tags=tags))
    with pytest.raises(FileError, match=f"holds 2 {what}; give the folder of one"):
        read_exam(tmp_path)


def test_only_localisers_are_refused(tmp_path: Path) -> None:
    write_series(tmp_path, SAGITTAL, LOCALISER)
    with pytest.raises(FileError, match="only localisers in it"):
        read_exam(tmp_path)


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(FileError, match="no readable DICOM file in it"):
        read_exam(tmp_path)


def test_images_without_a_position_are_refused(tmp_path: Path) -> None:
    for path in write_series(tmp_path, SAGITTAL):
        dataset = pydicom.dcmread(path)
        del dataset.ImagePositionPatient
        dataset.save_as(path)
    with pytest.raises(
        FileError, match=r"no grey slices with a position in space \(9 pictures without ImagePositionPatient"
    ):
        read_exam(tmp_path)


def as_multi_frame(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames, dataset.PixelData = 2, dataset.PixelData * 2
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    del dataset.ImagePositionPatient
    dataset.save_as(path)


def test_multi_frame_files_without_positions_are_refused_or_left_out(tmp_path: Path) -> None:
    as_multi_frame(write_series(tmp_path / "frames", SAGITTAL, replace(T2, number=9))[0])
    for path in sorted((tmp_path / "frames").iterdir()):
        if pydicom.dcmread(path).get("NumberOfFrames") is None:
            path.unlink()
    with pytest.raises(FileError, match="multi-frame DICOM without the positions of its frames"):
        read_exam(tmp_path)
    write_series(tmp_path / "slices", SAGITTAL)
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, SAGITTAL.array)
    assert exam.metadata["left_out"] == ["1 picture without ImagePositionPatient"]


def test_colour_slices_are_refused(tmp_path: Path) -> None:
    for path in write_series(tmp_path, SAGITTAL):
        dataset = pydicom.dcmread(path)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.PixelData = b"\0" * (3 * dataset.Rows * dataset.Columns)
        dataset.save_as(path)
    with pytest.raises(FileError, match=r"no grey slices .* \(9 colour pictures\)"):
        read_exam(tmp_path)


def test_truncated_pixels_are_refused_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = write_series(tmp_path, SAGITTAL)[3]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FileError, match=rf"{path.name}: its pixels are truncated or damaged"):
        read_exam(tmp_path)


def test_pixels_that_cannot_be_decompressed_are_refused(tmp_path: Path) -> None:
    for path in write_series(tmp_path, SAGITTAL):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.HTJ2KLossless
        dataset.PixelData = pydicom.encaps.encapsulate([b"no image" * 9])
        dataset.save_as(path)
    with pytest.raises(FileError, match=r"its pixels are compressed \(High-Throughput JPEG 2000.*not supported"):
        read_exam(tmp_path)


def test_run_length_compressed_pixels_are_read(tmp_path: Path) -> None:
    for path in write_series(tmp_path, SAGITTAL):
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
    assert np.array_equal(read_exam(tmp_path).volume.array, SAGITTAL.array)


def test_damaged_files_among_the_slices_do_not_stop_the_rest(tmp_path: Path) -> None:
    write_series(tmp_path, SAGITTAL)
    (tmp_path / "stub").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "noise").write_bytes(b"\0" * 128 + b"DICM" + np.random.default_rng(0).bytes(500))
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, SAGITTAL.array)
    assert exam.notes[-1] == "2 damaged DICOM files were left out"


def test_files_without_a_preamble_are_read(tmp_path: Path) -> None:
    for path in write_series(tmp_path, SAGITTAL):
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.preamble = None
        pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True)
    assert (tmp_path / "03_0000").read_bytes()[:2] == b"\x08\x00"
    assert np.array_equal(read_exam(tmp_path).volume.array, SAGITTAL.array)


def test_malformed_values_are_taken_for_none(tmp_path: Path) -> None:
    for path in write_series(tmp_path, SAGITTAL):
        content = path.read_bytes()
        assert b"3500" in content
        path.write_bytes(content.replace(b"3500", b"x,y "))
    exam = read_exam(tmp_path)
    assert "repetition_time_ms" not in exam.metadata
    assert np.array_equal(exam.volume.array, SAGITTAL.array)


def test_there_is_no_second_volume(tmp_path: Path) -> None:
    write_series(tmp_path, SAGITTAL)
    assert read_exam(tmp_path, 0).volume.array.shape == SAGITTAL.array.shape
    with pytest.raises(FileError, match="no volume 2"):
        read_exam(tmp_path, 2)
