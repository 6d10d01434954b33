"""NRRD: files of SimpleITK and pynrrd are read with their geometry, and damaged files are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.grids import affine_of, filled, grids
from tests.io.itk import itk_image

from lumbarseg.errors import FileError, GridError
from lumbarseg.io import read_exam, read_image, read_labels
from lumbarseg.volume import Grid

SimpleITK = pytest.importorskip("SimpleITK")

SAGITTAL = affine_of("PIL", (0.6, 0.6, 4.4), (30, 120, 200))
NUMBERS = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
GEOMETRY = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": np.zeros(3)}


@settings(max_examples=60, deadline=None)
@given(grid=grids(), suffix=st.sampled_from([".nrrd", ".nhdr"]), compressed=st.booleans())
def test_every_geometry_that_simpleitk_writes(
    grid: Grid, suffix: str, compressed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    volume = filled(grid)
    path = tmp_path_factory.mktemp("nrrd") / f"exam{suffix}"
    SimpleITK.WriteImage(itk_image(volume), str(path), compressed)
    exam = read_exam(path)
    assert np.array_equal(exam.volume.array, volume.array)
    assert exam.volume.grid.same_as(grid, 1e-3)
    assert exam.notes == []


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (-1, -1, 1)),
        ("LPS", (-1, -1, 1)),
        ("right-anterior-superior", (1, 1, 1)),
        ("RAS", (1, 1, 1)),
        ("left-anterior-superior", (-1, 1, 1)),
        ("LAS", (-1, 1, 1)),
    ],
)
@settings(max_examples=15, deadline=None)
@given(grid=grids())
def test_every_space(space: str, signs: tuple[int, ...], grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> None:
    volume, path = filled(grid), tmp_path_factory.mktemp("space") / "a.nrrd"
    stored_affine = np.diag([*signs, 1]) @ grid.affine
    header = {"space": space, "space directions": stored_affine[:3, :3].T, "space origin": stored_affine[:3, 3]}
    nrrd.write(str(path), volume.array, header)
    assert read_exam(path).volume.grid.same_as(grid, 1e-6)
    assert np.array_equal(read_image(path).array, volume.array)


def write_nrrd(folder: Path, array: np.ndarray = NUMBERS, name: str = "a.nrrd", **fields: Any) -> Path:
    nrrd.write(
        str(folder / name), array, {**GEOMETRY, **{key.replace("_", " "): value for key, value in fields.items()}}
    )
    return folder / name


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("code", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", ">i2", ">f4"])
def test_encodings_number_types_and_byte_orders(encoding: str, code: str, tmp_path: Path) -> None:
    path = write_nrrd(tmp_path, NUMBERS.astype(code), encoding=encoding)
    assert np.array_equal(read_image(path).array, NUMBERS)
    assert np.array_equal(read_labels(path).array, NUMBERS)


def test_a_space_that_is_not_the_patients_is_reported(tmp_path: Path) -> None:
    exam = read_exam(write_nrrd(tmp_path, space="scanner-xyz"))
    assert exam.volume.grid.axis_codes == "LPS"
    assert exam.notes == ["its space scanner-xyz is not a patient's: left-posterior-superior assumed"]


def test_spacings_without_directions_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    nrrd.write(str(path), NUMBERS, {"spacings": [4.0, 0.6, 0.7]})
    exam = read_exam(path)
    assert exam.volume.grid.spacing == pytest.approx((4, 0.6, 0.7))
    assert "no orientation" in exam.notes[0]


def test_a_flat_image_is_one_slice(tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    nrrd.write(str(path), NUMBERS[0], {"spacings": [0.6, 0.7]})
    exam = read_exam(path)
    assert exam.volume.array.shape == (3, 4, 1)
    assert exam.volume.grid.spacing == pytest.approx((0.6, 0.7, 4))


@pytest.mark.parametrize("axis_position", [0, 3])
def test_one_volume_of_a_list_before_or_behind_the_axes_in_space(axis_position: int, tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    transposed = np.moveaxis(array, 3, axis_position)
    directions = np.insert(np.diag([4.0, 0.6, 0.7]), axis_position, np.nan, axis=0)
    kinds = ["list" if axis == axis_position else "domain" for axis in range(4)]
    path = write_nrrd(tmp_path, transposed, space_directions=directions, kinds=kinds)
    with pytest.raises(FileError, match="4-D, 5 volumes; choose one with --volume 0 to 4"):
        read_exam(path)
    exam = read_exam(path, 3)
    assert np.array_equal(exam.volume.array, array[..., 3])
    assert exam.volume.grid.spacing == pytest.approx((4, 0.6, 0.7))


@pytest.mark.parametrize("kind", ["RGB-color", "vector", "3-color", "complex"])
def test_several_numbers_in_a_voxel_are_refused(kind: str, tmp_path: Path) -> None:
    directions = np.insert(np.eye(3), 0, np.nan, axis=0)
    array = np.zeros((3, 2, 3, 4), np.uint8)
    path = write_nrrd(tmp_path, array, space_directions=directions, kinds=[kind, "domain", "domain", "domain"])
    with pytest.raises(FileError, match=r"a\.nrrd: several numbers or colours in a voxel"):
        read_exam(path)


def test_a_colour_image_of_simpleitk_is_refused(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((4, 3, 2, 3), np.uint8), isVector=True)
    for name in ("a.nrrd", "a.mha", "a.nii.gz"):
        SimpleITK.WriteImage(image, str(tmp_path / name))
        with pytest.raises(FileError, match="colours"):
            read_exam(tmp_path / name)


def edit_header(path: Path, old: str, new: str) -> Path:
    content = path.read_bytes()
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode(), 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: int16", "type: block", "voxel type 'block' is unknown"),
        ("encoding: raw", "encoding: hex", "encoded as 'hex'"),
        ("sizes: 2 3 4", "sizes: 2 3 0", "names no voxels"),
        ("sizes: 2 3 4", "sizes: 2 3", "lacks some sizes"),
        ("sizes: 2 3 4", "sizes: 2 three 4", "NRRD header is damaged"),
        ("sizes: 2 3 4", "sizes: 30000 30000 30000", "too large for an exam"),
        ("sizes: 2 3 4", "sizes: 900 900 900", "truncated: its header claims 900 x 900 x 900 voxels, 1,458.0 MB"),
        ("sizes: 2 3 4", "sizes: 2 3 9", "truncated"),
        ("encoding: raw\n", "", "lacks encoding"),
        ("NRRD0005", "NRRD0009", "NRRD header is damaged"),
        ("encoding: raw", "encoding: raw\nbyte skip: -9", "skips"),
        ("encoding: raw", "encoding: raw\ndata file: LIST", "spread over several files"),
        ("encoding: raw", "encoding: raw\ndata file: ../b.raw", "outside its folder"),
        ("encoding: raw", "encoding: raw\ndata file: /etc/hostname", "outside its folder"),
        ("encoding: raw", "encoding: raw\ndata file: gone.raw", r"gone\.raw: cannot be read: not found"),
        ("space origin: (0", "space origin: (0.0,0", "space origin has 4 numbers"),
    ],
)
def test_unsupported_headers_are_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = edit_header(write_nrrd(tmp_path, encoding="raw"), old, new)
    with pytest.raises(FileError, match=message) as refusal:
        read_exam(path)
    assert str(refusal.value).startswith(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_damaged_compressed_voxels_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 4000, (9, 9, 9)).astype(np.int16)
    for encoding in ("gzip", "bzip2"):
        path = write_nrrd(tmp_path, noise, encoding=encoding)
        content = path.read_bytes()
        path.write_bytes(content[:-300])
        with pytest.raises(FileError, match="truncated"):
            read_exam(path)
        damaged = bytearray(content)
        damaged[-200:-150] = b"0" * 50
        path.write_bytes(damaged)
        with pytest.raises(FileError, match=r"damaged|truncated"):
            read_exam(path)


@pytest.mark.parametrize("spacing", [[0.0, 1, 1], [1.0, -1, 1]])
def test_spacing_of_nothing_is_refused(spacing: list[float], tmp_path: Path) -> None:
    path = tmp_path / "a.nrrd"
    nrrd.write(str(path), NUMBERS, {"spacings": spacing})
    with pytest.raises(GridError, match=r"a\.nrrd: its spacing is .*every axis needs more than 0"):
        read_exam(path)


def test_a_singular_affine_is_refused(tmp_path: Path) -> None:
    path = write_nrrd(tmp_path, space_directions=np.array([[1.0, 0, 0], [2, 0, 0], [0, 0, 1]]))
    with pytest.raises(GridError, match=r"a\.nrrd: the affine is singular"):
        read_exam(path)


def test_bytes_and_lines_before_the_voxels(tmp_path: Path) -> None:
    path = write_nrrd(tmp_path, encoding="raw")
    data = NUMBERS.ravel(order="F").tobytes()
    head = path.read_bytes()[: -len(data)].rstrip(b"\n").decode()
    for fields, before in (("byte skip: 5", b"12345"), ("byte skip: -1", b"1234"), ("line skip: 2", b"one\ntwo\n")):
        path.write_bytes(f"{head}\n{fields}\n\n".encode() + before + data)
        assert np.array_equal(read_image(path).array, NUMBERS)
