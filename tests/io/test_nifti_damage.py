"""Damaged NIfTI files, and those that cannot be an exam: each gives one clear error."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.grids import filled
from tests.io.make_nifti import SAGITTAL, save_nifti, set_header

from lumbarseg.errors import FileError, GridError
from lumbarseg.io import read_exam, read_image, read_labels, write_image, write_labels
from lumbarseg.volume import Grid, Volume

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize("array", [np.full((3, 3, 3), 0.5), np.full((3, 3, 3), 256), np.full((3, 3, 3), -1)])
def test_grey_values_are_not_labels(array: np.ndarray, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", array.astype(np.float32), SAGITTAL)
    with pytest.raises(FileError, match=r"a\.nii\.gz: holds grey values, not labels"):
        read_labels(path)
    with pytest.raises(FileError, match="whole numbers from 0 to 255"):
        write_labels(Volume(array, SAGITTAL), tmp_path / "b.nii.gz")
    assert not (tmp_path / "b.nii.gz").exists()


def test_five_axes_are_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5, 2, 3), np.int16), SAGITTAL)
    with pytest.raises(FileError, match="5-D, several numbers or colours in a voxel; save one"):
        read_exam(path)


@pytest.mark.parametrize(
    ("dtype", "message"), [(RGB, "holds colours, not grey values"), (np.complex64, "holds complex numbers")]
)
def test_colours_and_complex_numbers_are_refused(dtype: np.dtype, message: str, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), dtype), SAGITTAL)
    for read in (read_image, read_labels):
        with pytest.raises(FileError, match=rf"a\.nii\.gz: {message}"):
            read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_with_their_number(value: float, tmp_path: Path) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 1:3, 2] = value
    path = save_nifti(tmp_path / "a.nii.gz", array, SAGITTAL)
    with pytest.raises(FileError, match=r"a\.nii\.gz: holds NaN or infinite values in 2 voxels"):
        read_image(path)
    with pytest.raises(FileError, match="holds NaN or infinite values in 2 voxels"):
        read_labels(path)


@pytest.mark.parametrize("qform_code", [0, 1])
@pytest.mark.parametrize("zooms", [(0, 0.6, 0.6), (4, -0.6, 0.6), (4, 0.6, np.nan), (4, 0.6, np.inf)])
def test_zero_and_negative_spacing_are_refused(zooms: tuple[float, ...], qform_code: int, tmp_path: Path) -> None:
    if qform_code and min(zooms) < 0:
        pytest.skip("negative spacing with a qform is read: see test_foreign_headers")
    path = save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), np.eye(4))
    set_header(path, sform_code=0, qform_code=qform_code, pixdim=[1, *zooms, 0, 0, 0, 0])
    with pytest.raises(GridError, match=r"a\.nii: its spacing is .* mm; every axis needs more than 0"):
        read_exam(path)


def test_a_damaged_qform_does_not_matter_beside_a_sform(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), SAGITTAL)
    set_header(path, qform_code=1, quatern_b=3)
    assert read_exam(path).notes == ["its qform is damaged: the sform was used"]
    set_header(path, sform_code=0)
    with pytest.raises(GridError, match=r"a\.nii: its qform is no rotation"):
        read_exam(path)


@pytest.mark.parametrize("row", [[0, 0, 0, 5], [1, 0, 0, 0], [np.nan, 0, 0, 0], [0, np.inf, 0, 0]])
def test_a_singular_affine_is_refused(row: list[float], tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), np.eye(4))
    set_header(path, srow_x=[1, 0, 0, 0], srow_y=row, srow_z=[0, 0, 1, 0])
    with pytest.raises(GridError, match=r"a\.nii: the affine is .*; repair its header"):
        read_exam(path)


@pytest.mark.parametrize("spacing", [0.0005, 900.0])
def test_voxels_that_fit_no_person_are_refused(spacing: float, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16), np.diag([spacing, spacing, spacing, 1]))
    with pytest.raises(GridError, match="cannot be an exam of a person"):
        read_exam(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_truncated_files_are_refused(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write_image(filled(Grid((30, 30, 30), SAGITTAL)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileError, match=r"a\.nii.*: truncated.*copy or export it again"):
        read_exam(path)


def test_a_gzip_file_without_its_end_or_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(filled(Grid((30, 30, 30), SAGITTAL)), path)
    content = path.read_bytes()
    path.write_bytes(content[:-6])
    with pytest.raises(FileError, match="truncated"):
        read_exam(path)
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(FileError, match=r"truncated|damaged"):
        read_exam(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_false_sizes_are_refused_before_memory_is_allocated(compressed: bool, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), SAGITTAL)
    for dim, message in (
        ([3, 30000, 30000, 30000, 1, 1, 1, 1], "too large for an exam"),
        ([3, 1000, 1000, 1000, 1, 1, 1, 1], "truncated: its header claims 1000 x 1000 x 1000 voxels, 2,000.0 MB"),
    ):
        set_header(path, dim=dim)
        file = tmp_path / "b.nii.gz"
        file.write_bytes(gzip.compress(path.read_bytes()) if compressed else path.read_bytes())
        with pytest.raises(FileError, match=rf"b\.nii\.gz: .*{message}"):
            read_exam(file)


@pytest.mark.parametrize(
    "dim", [[0, 1, 1, 1, 1, 1, 1, 1], [9, 1, 1, 1, 1, 1, 1, 1], [3, 4, 0, 5, 1, 1, 1, 1], [3, 4, -5, 5, 1, 1, 1, 1]]
)
def test_impossible_sizes_are_refused(dim: list[int], tmp_path: Path) -> None:
    path = set_header(save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), SAGITTAL), dim=dim)
    with pytest.raises(FileError, match=r"a\.nii: its header names"):
        read_exam(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("datatype", 999, "voxel type 999 is unknown"),
        ("datatype", 0, "voxel type 0 is unknown"),
        ("vox_offset", np.nan, "its header places its voxels at byte nan"),
        ("magic", b"ni1", "half of a .hdr/.img pair"),
        ("magic", b"", "an Analyze or damaged NIfTI header"),
    ],
)
def test_damaged_headers_are_refused(field: str, value: object, message: str, tmp_path: Path) -> None:
    path = set_header(save_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16), SAGITTAL), **{field: value})
    with pytest.raises(FileError, match=rf"a\.nii: .*{message}"):
        read_exam(path)


def test_a_gzip_file_with_something_else_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(b"hello " * 200))
    with pytest.raises(FileError, match=r"a\.nii\.gz: no NIfTI file inside"):
        read_exam(path)


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 347), value=st.integers(0, 255))
def test_a_changed_header_byte_is_read_or_refused_in_one_line(
    position: int, value: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.nii"
    if not path.exists() or path.stat().st_size != 352 + 240:
        save_nifti(path, np.arange(120, dtype=np.int16).reshape(4, 5, 6), SAGITTAL)
    content = bytearray(path.read_bytes())
    content[position] = value
    damaged = path.with_name("fuzzed_damaged.nii")
    damaged.write_bytes(content)
    message = None
    try:
        read_exam(damaged)
    except (FileError, GridError) as error:
        message = str(error)
    assert message is None or (message.startswith(str(damaged)) and "\n" not in message)


@pytest.mark.parametrize("name", ["a.mha", "a", "a.nii.gz.txt"])
def test_other_suffixes_are_not_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"the name must end in \.nii\.gz or \.nii"):
        write_image(filled(Grid((3, 3, 3), SAGITTAL)), tmp_path / name)
