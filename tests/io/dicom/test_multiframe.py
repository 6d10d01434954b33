"""Enhanced multi-frame DICOM: frames are placed correctly, in whatever order the file stores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.grids import AXIS_ORDERS, affine_of, filled
from tests.io.itk import ras_affine, ras_array
from tests.io.make_dicom import T1, write_enhanced, write_series

from lumbarseg.errors import FileError, LumbarsegError
from lumbarseg.io import find_exams, read_exam
from lumbarseg.volume import Grid, Volume

SimpleITK = pytest.importorskip("SimpleITK")

AFFINE = affine_of("PIR", (0.6, 0.7, 4.4), (25, 90, 130), (4, -7, 9))
SAGITTAL = Volume(filled(Grid((20, 24, 9), np.eye(4))).array, AFFINE)


@settings(max_examples=15, deadline=None)
@given(
    axes=st.sampled_from([axes for axes in AXIS_ORDERS if np.linalg.det(affine_of(axes)[:3, :3]) > 0]),
    turn=st.floats(-60, 60),
    seed=st.integers(0, 9),
)
def test_frames_in_any_order_and_orientation_make_the_volume(
    axes: str, turn: float, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    volume = filled(Grid((5, 6, 7), affine_of(axes, (0.5, 0.8, 3.3), (-40, 20, 66), (turn, turn / 2, 3))))
    path = write_enhanced(tmp_path_factory.mktemp("enhanced") / "one.dcm", [(volume, {"EchoTime": 101})], seed)
    exam = read_exam(path)
    assert exam.volume.grid.same_as(volume.grid, 2e-3)
    assert np.array_equal(exam.volume.array, volume.array)


def test_a_converted_series_comes_back_as_gdcm_reads_them(tmp_path: Path) -> None:
    import highdicom

    paths = write_series(tmp_path / "plain", SAGITTAL)
    enhanced = highdicom.legacy.LegacyConvertedEnhancedMRImage(
        [pydicom.dcmread(path) for path in paths],
        pydicom.uid.generate_uid(),
        4,
        pydicom.uid.generate_uid(),
        1,
    )
    enhanced.save_as(tmp_path / "enhanced.dcm")
    exam = read_exam(tmp_path / "enhanced.dcm")
    assert exam.volume.grid.same_as(SAGITTAL.grid, 1e-3)
    assert np.array_equal(exam.volume.array, SAGITTAL.array)
    itk_image = SimpleITK.ReadImage(str(tmp_path / "enhanced.dcm"))
    reversed_affine = ras_affine(itk_image)  # in the order of the frames in the file
    reversed_affine[:3, 3] += 8 * reversed_affine[:3, 2]
    reversed_affine[:3, 2] *= -1
    assert np.array_equal(ras_array(itk_image)[:, :, ::-1], exam.volume.array)
    assert Grid((20, 24, 9), reversed_affine).same_as(exam.volume.grid, 0.02)


def test_an_enhanced_file_is_an_exam_alone_and_in_a_study(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "disc" / "IM1", [(SAGITTAL, {"EchoTime": 101})])
    write_series(tmp_path / "disc" / "t1", SAGITTAL, T1)
    assert find_exams([path]) == [path]
    from_file, from_study = read_exam(path), read_exam(tmp_path / "disc")
    assert np.array_equal(from_file.volume.array, from_study.volume.array)
    assert from_study.notes == ["DICOM series 3 'T2_TSE_SAG': sagittal, T2 (TE 101, TR 3500 ms), 9 slices"]
    assert from_study.metadata["left_out"] == ["series 2 'T1_TSE_SAG': sagittal, T1 (TE 11, TR 600 ms), 9 slices"]
    assert from_study.source_images is not None and from_study.source_images.frame_numbers != tuple(range(1, 10))
    assert sorted(from_study.source_images.frame_numbers) == list(range(1, 10))


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        ({"EchoTime": 11}, {"EchoTime": 101}, "3.2 'T2_TSE_SAG' (echo time 101)"),
        ({"EchoTime": 101}, {"EchoTime": 11}, "3.1 'T2_TSE_SAG' (echo time 101)"),
        ({"TimeIndex": 1}, {"TimeIndex": 2}, "3.1 'T2_TSE_SAG' (time point 1)"),
        ({"StackID": "A"}, {"StackID": "B"}, "3.1 'T2_TSE_SAG' (stack A)"),
        ({}, {}, "3.1 'T2_TSE_SAG' (dimension 1 1)"),
    ],
)
def test_stacks_of_one_file_are_split(first: dict, second: dict, taken: str, tmp_path: Path) -> None:
    volumes = SAGITTAL, Volume(SAGITTAL.array[::-1].copy(), AFFINE)
    path = write_enhanced(tmp_path / "both.dcm", list(zip(volumes, (first, second), strict=True)), shuffle=0)
    exam = read_exam(path)
    expected = (
        volumes[int(taken[2]) - 1] if "EchoTime" not in first else volumes[(first, second).index({"EchoTime": 101})]
    )
    assert np.array_equal(exam.volume.array, expected.array)
    assert f"series {taken[:2]}" in exam.notes[0] and taken[taken.index("(") :] in exam.notes[0]
    assert len(exam.metadata["left_out"]) == 1
    number = exam.metadata["left_out"][0].split()[1]
    other_volume = volumes[0] if expected is volumes[1] else volumes[1]
    assert np.array_equal(read_exam(path, series=number).volume.array, other_volume.array)


def test_each_frame_is_rescaled_by_its_own_numbers(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "one.dcm", [(SAGITTAL, {"EchoTime": 101, "Slope": 2.5})])
    assert np.allclose(read_exam(path).volume.array, SAGITTAL.array * 2.5)


def test_a_file_whose_frames_do_not_fit_its_header_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "one.dcm", [(SAGITTAL, {})])
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:-1]
    dataset.save_as(path)
    with pytest.raises(FileError, match="multi-frame DICOM without the positions of its frames"):
        read_exam(path)


def test_a_truncated_file_is_refused_with_its_name(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "one.dcm", [(SAGITTAL, {})])
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(FileError, match=r"one\.dcm: its pixels are truncated or damaged"):
        read_exam(path)


def test_a_single_slice_is_not_a_series(tmp_path: Path) -> None:
    path = write_series(tmp_path, SAGITTAL)[0]
    with pytest.raises(FileError, match="one DICOM file of one slice; give the folder that holds its series"):
        read_exam(path)


@settings(max_examples=80, deadline=None)
@given(enhanced=st.booleans(), at=st.integers(0, 2**20), bits=st.integers(1, 255), truncate=st.booleans())
def test_a_damaged_file_is_read_or_refused_in_one_line(
    enhanced: bool, at: int, bits: int, truncate: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    small = filled(Grid((5, 6, 5), AFFINE))
    path = write_enhanced(folder / "IM1", [(small, {})]) if enhanced else write_series(folder, small)[2]
    content = bytearray(path.read_bytes())
    at = (at % (len(content) - 132)) + 132
    content[at] ^= bits
    path.write_bytes(content[:at] if truncate else content)
    message = ""
    try:
        assert read_exam(folder).volume.array.ndim == 3
    except LumbarsegError as error:
        message = str(error)
    assert not message or (str(folder) in message and "\n" not in message)
