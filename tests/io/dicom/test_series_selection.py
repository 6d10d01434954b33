"""Studies: splitting series into stacks, selecting one, replacing a broken one, and other objects beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import SegmentationStorage, generate_uid
from tests.grids import affine_of, filled
from tests.io.make_dicom import AXIAL, LOCALISER, T1, T2, Protocol, write_series

from lumbarseg.errors import FileError
from lumbarseg.io import read_exam
from lumbarseg.volume import Grid, Volume

AFFINE = affine_of("PIR", (0.6, 0.7, 4.4), (25, 90, 130), (4, -7, 9))


def sagittal_stack(seed: int, slices: int = 8, shift: float = 0.0, step: float = 1.0) -> Volume:
    """Return a sagittal stack, shifted by `shift` slice distances, with slices `step` distances apart."""
    affine = AFFINE.copy()
    affine[:3, 3] += shift * affine[:3, 2]
    affine[:3, 2] *= step
    return Volume(filled(Grid((12, 14, slices), np.eye(4)), seed=seed).array, affine)


def write_stack(folder: Path, volume: Volume, protocol: Protocol = T2, **tags: Any) -> None:
    """Write slices with identities of their own, so that several stacks share a series."""
    for path in write_series(folder, volume, replace(protocol, tags={**protocol.tags, **tags})):
        change_file(path, lambda dataset: None)


def change_file(path: Path, edit: Callable[[pydicom.Dataset], None]) -> None:
    dataset = pydicom.dcmread(path)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    edit(dataset)
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("first_tags", "second_tags", "first", "why"),
    [
        ({"EchoTime": 11}, {"EchoTime": 90}, 2, "echo time 90"),
        ({"EchoNumbers": 1}, {"EchoNumbers": 2}, 1, "echo 1"),
        ({"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}, 1, "time point 1"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, 2, "image type M"),
        ({"ImageType": ["DERIVED", "PRIMARY", "W"]}, {"ImageType": ["DERIVED", "PRIMARY", "IP"]}, 2, "image type IP"),
        ({"InversionTime": 50}, {"InversionTime": 400}, 1, "inversion time 50"),
        ({"FlipAngle": 5}, {"FlipAngle": 25}, 1, "flip angle 5"),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 500.0}, 1, "b value 0"),
        ({"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}, 1, "acquisition 1"),
    ],
)
def test_two_stacks_in_one_series_are_split(
    first_tags: dict, second_tags: dict, first: int, why: str, tmp_path: Path
) -> None:
    volumes = {1: sagittal_stack(1), 2: sagittal_stack(2)}
    write_stack(tmp_path / "1", volumes[1], **first_tags)
    write_stack(tmp_path / "2", volumes[2], **second_tags)
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, volumes[first].array)
    assert f"({why})" in exam.notes[0] and len(exam.notes) == 1
    assert len(exam.metadata["left_out"]) == 1
    for number in (1, 2):
        assert read_exam(tmp_path, series=f"3.{number}").volume.array.shape == (12, 14, 8)
    other = read_exam(tmp_path, series=exam.metadata["left_out"][0].split()[1])
    assert np.array_equal(other.volume.array, volumes[3 - first].array)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shift=st.floats(0.1, 0.9), slices=st.integers(5, 9))
def test_interleaved_stacks_with_a_distinguishing_attribute_are_split(
    shift: float, slices: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("interleaved")
    write_stack(folder / "1", sagittal_stack(1, slices), AcquisitionNumber=1)
    write_stack(folder / "2", sagittal_stack(2, slices, shift), AcquisitionNumber=2)
    array = read_exam(folder).volume.array
    if 0.42 < shift < 0.58:  # then they are one even stack, as interleaved acquisition makes it
        assert array.shape[2] in (slices, 2 * slices)
    else:
        assert np.array_equal(array, sagittal_stack(1, slices).array)
        assert np.array_equal(read_exam(folder, series="3.2").volume.array, sagittal_stack(2, slices).array)


def test_one_stack_acquired_in_two_halves_stays_one(tmp_path: Path) -> None:
    complete = sagittal_stack(1, 10)
    for half in (0, 1):
        part = Volume(np.ascontiguousarray(complete.array[:, :, half::2]), sagittal_stack(1, 5, half, 2.0).affine)
        write_stack(tmp_path / str(half), part, AcquisitionNumber=half)
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, complete.array)
    assert exam.volume.grid.same_as(complete.grid, 1e-3)


def test_interleaved_stacks_without_distinguishing_attributes_are_refused(tmp_path: Path) -> None:
    write_stack(tmp_path / "1", sagittal_stack(1))
    write_stack(tmp_path / "2", sagittal_stack(2, shift=0.3))
    with pytest.raises(FileError, match=r"series 3 'T2_TSE_SAG': slices are missing, or two stacks are interleaved"):
        read_exam(tmp_path)


def test_four_stacks_of_two_echoes_and_two_time_points(tmp_path: Path) -> None:
    for number, (echo, time) in enumerate([(11, 1), (11, 2), (101, 1), (101, 2)]):
        write_stack(tmp_path / str(number), sagittal_stack(number), EchoTime=echo, TemporalPositionIdentifier=time)
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, sagittal_stack(2).array)
    assert "(echo time 101, time point 1)" in exam.notes[0]
    assert len(exam.metadata["left_out"]) == 3


def test_stacks_of_several_planes_in_one_series(tmp_path: Path) -> None:
    write_stack(tmp_path / "sagittal", sagittal_stack(1))
    write_stack(tmp_path / "axial", filled(Grid((12, 14, 6), affine_of("LPS", (0.8, 0.8, 5))), seed=5))
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, sagittal_stack(1).array)
    assert "(sagittal 12 x 14, 8 of 14 slices)" in exam.notes[0]
    assert exam.notes[1:] == ["slices in several directions in one series: is it a localiser?"]


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_broken_series_is_replaced_by_the_next_of_its_plane(damage: str, tmp_path: Path) -> None:
    paths = write_series(tmp_path, sagittal_stack(1), T2)
    write_series(tmp_path, sagittal_stack(2), T1)
    write_series(tmp_path, filled(Grid((12, 14, 20), affine_of("LPS", (0.8, 0.8, 5)))), AXIAL)
    if damage == "missing":
        paths[3].unlink()
    else:
        paths[3].write_bytes(paths[3].read_bytes()[:-100])
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, sagittal_stack(2).array)
    assert exam.notes[0].startswith("DICOM series 2 'T1_TSE_SAG'")
    assert exam.notes[1].startswith("left out: ")
    assert ("slices are missing" if damage == "missing" else f"{paths[3].name}: its pixels") in exam.notes[1]
    with pytest.raises(FileError, match=r"slices are missing|its pixels are truncated"):
        read_exam(tmp_path, series="T2_TSE_SAG")


def test_another_plane_never_replaces_a_broken_sagittal_series(tmp_path: Path) -> None:
    write_series(tmp_path, sagittal_stack(1), T2)[3].unlink()
    write_series(tmp_path, filled(Grid((12, 14, 20), affine_of("LPS", (0.8, 0.8, 5)))), AXIAL)
    with pytest.raises(FileError, match="slices are missing"):
        read_exam(tmp_path)


def test_the_images_that_should_be_there_are_counted(tmp_path: Path) -> None:
    tags = {**T2.tags, "ImagesInAcquisition": 11}
    write_series(tmp_path, sagittal_stack(1), replace(T2, tags=tags))
    assert read_exam(tmp_path).notes[1:] == ["its headers announce 11 images, 8 are there: was all of it exported?"]


@pytest.mark.parametrize(
    ("requested", "taken"),
    [
        ("2", "series 2 'T1_TSE_SAG'"),
        ("t1", "series 2 'T1_TSE_SAG'"),
        (" T2_TSE_TRA ", "series 4 'T2_TSE_TRA'"),
        ("t2", "series 3 'T2_TSE_SAG'"),
        ("1", "series 1 'localizer'"),
        ("loc", "series 1 'localizer'"),
    ],
)
def test_a_series_is_selected_by_number_or_part_of_its_name(requested: str, taken: str, tmp_path: Path) -> None:
    for protocol in (LOCALISER, T1, T2, AXIAL):
        write_series(tmp_path, sagittal_stack(protocol.number), protocol)
    exam = read_exam(tmp_path, series=requested)
    assert taken in exam.notes[0]
    assert len(exam.metadata["left_out"]) == 3


@pytest.mark.parametrize("requested", ["7", "STIR", "", "3.1"])
def test_a_missing_series_is_refused_with_a_list_of_the_others(requested: str, tmp_path: Path) -> None:
    for protocol in (T1, T2):
        write_series(tmp_path, sagittal_stack(protocol.number), protocol)
    with pytest.raises(FileError, match=r"no series .* in it; it holds series 3 'T2_TSE_SAG', series 2 'T1_TSE_SAG'"):
        read_exam(tmp_path, series=requested)


def test_a_series_of_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    from lumbarseg.io import write_image

    write_image(sagittal_stack(1), tmp_path / "a.nii.gz")
    with pytest.raises(FileError, match=r"a\.nii\.gz: not DICOM, so it has no series 'T2'; leave out --series"):
        read_exam(tmp_path / "a.nii.gz", series="T2")


def test_non_images_are_left_out_and_reported(tmp_path: Path) -> None:
    write_series(tmp_path, sagittal_stack(1), T2)
    for number, (modality, count) in enumerate({"SEG": 1, "SR": 2, "PR": 1, "OT": 1}.items(), 50):
        for path in write_series(tmp_path, sagittal_stack(number, count), Protocol("beside", number, modality)):
            change_file(path, as_colour if modality == "OT" else as_object)
    exam = read_exam(tmp_path)
    assert np.array_equal(exam.volume.array, sagittal_stack(1).array)
    assert exam.metadata["left_out"] == ["1 PR object", "1 SEG object", "2 SR objects", "1 colour picture"]
    assert len(exam.notes) == 1


def as_object(dataset: pydicom.Dataset) -> None:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SegmentationStorage


def as_colour(dataset: pydicom.Dataset) -> None:
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
    dataset.PixelData = b"\0" * (6 * dataset.Rows * dataset.Columns)


def test_a_list_of_many_series_is_cut(tmp_path: Path) -> None:
    for number in range(3, 20):
        write_series(tmp_path, sagittal_stack(number, 2), replace(T2, number=number))
    left_out = read_exam(tmp_path).metadata["left_out"]
    assert len(left_out) == 13
    assert left_out[-1] == "4 more series"


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_the_order_of_files_does_not_matter(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("order")
    write_series(folder, sagittal_stack(1), T2, shuffle=seed)
    write_series(folder, sagittal_stack(2), T1, shuffle=seed + 1)
    names = np.random.default_rng(seed).permutation(16)
    for name, path in zip(names, sorted(folder.iterdir()), strict=True):
        path.rename(folder / f"IM_{name:04d}")
    exam = read_exam(folder)
    assert np.array_equal(exam.volume.array, sagittal_stack(1).array)
    assert exam.volume.grid.same_as(sagittal_stack(1).grid, 1e-3)
