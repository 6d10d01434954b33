"""MetaImage: files of SimpleITK are read with their geometry, and damaged files are refused."""

from __future__ import annotations

import zlib
from pathlib import Path

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


@settings(max_examples=60, deadline=None)
@given(grid=grids(), suffix=st.sampled_from([".mha", ".mhd"]), compressed=st.booleans())
def test_every_geometry_that_simpleitk_writes(
    grid: Grid, suffix: str, compressed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    volume = filled(grid)
    path = tmp_path_factory.mktemp("meta") / f"exam{suffix}"
    SimpleITK.WriteImage(itk_image(volume), str(path), compressed)
    exam = read_exam(path)
    assert np.array_equal(exam.volume.array, volume.array)
    assert exam.volume.grid.same_as(grid, 1e-3)
    assert exam.notes == []


@pytest.mark.parametrize(
    "code", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64]
)
@pytest.mark.parametrize("compressed", [False, True])
def test_number_types(code: type, compressed: bool, tmp_path: Path) -> None:
    volume = filled(Grid((4, 5, 6), SAGITTAL), dtype=np.uint8)
    image = SimpleITK.GetImageFromArray((volume.array // 2).T.astype(code))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"), compressed)
    assert np.array_equal(read_image(tmp_path / "a.mha").array, volume.array // 2)
    assert np.array_equal(read_labels(tmp_path / "a.mha").array, volume.array // 2)


def write_header(folder: Path, data: bytes = b"", name: str = "a.mha", **fields: object) -> Path:
    """Write a MetaImage with the given header fields; None leaves a field out."""
    defaults = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": False,
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "0 0 0",
        "ElementSpacing": "1 1 1",
        "DimSize": "2 3 4",
        "ElementType": "MET_SHORT",
    }
    data_file = fields.pop("ElementDataFile", "LOCAL")
    header = {**defaults, **fields, "ElementDataFile": data_file}
    text = "".join(f"{key} = {value}\n" for key, value in header.items() if value is not None)
    (folder / name).write_bytes(text.encode() + data)
    return folder / name


NUMBERS = np.arange(24, dtype=np.int16)


def test_big_endian(tmp_path: Path) -> None:
    path = write_header(tmp_path, NUMBERS.astype(">i2").tobytes(), BinaryDataByteOrderMSB=True)
    assert np.array_equal(read_image(path).array.ravel(order="F"), NUMBERS)


def test_a_detached_data_file_with_bytes_before_the_voxels(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"1234567" + NUMBERS.tobytes())
    for skip in (7, -1):
        path = write_header(tmp_path, name="a.mhd", HeaderSize=skip, ElementDataFile="a.raw")
        assert np.array_equal(read_image(path).array.ravel(order="F"), NUMBERS)


def test_missing_orientation_and_spacing_are_reported(tmp_path: Path) -> None:
    exam = read_exam(write_header(tmp_path, NUMBERS.tobytes(), TransformMatrix=None, ElementSpacing=None))
    assert exam.volume.grid.axis_codes == "LPS"
    assert [note.split(":")[0] for note in exam.notes] == ["no orientation in its header", "no spacing in its header"]


def test_older_names_of_the_fields(tmp_path: Path) -> None:
    path = write_header(
        tmp_path,
        NUMBERS.tobytes(),
        TransformMatrix=None,
        Offset=None,
        ElementSpacing=None,
        Rotation="0 1 0 0 0 -1 1 0 0",
        Position="7 8 9",
        ElementSize="0.6 0.6 4",
    )
    grid = read_exam(path).volume.grid
    assert grid.axis_codes == "PIL"
    assert grid.spacing == pytest.approx((0.6, 0.6, 4))
    assert grid.affine[:3, 3] == pytest.approx((-7, -8, 9))


def test_a_single_slice_and_one_volume_of_several(tmp_path: Path) -> None:
    flat = write_header(
        tmp_path,
        NUMBERS.tobytes(),
        "flat.mha",
        NDims=2,
        DimSize="4 6",
        TransformMatrix="1 0 0 1",
        Offset="0 0",
        ElementSpacing="0.5 0.6",
    )
    exam = read_exam(flat)
    assert exam.volume.array.shape == (4, 6, 1)
    assert exam.volume.grid.spacing == pytest.approx((0.5, 0.6, 4))
    assert "4 mm assumed" in exam.notes[0]
    four = write_header(
        tmp_path,
        NUMBERS.tobytes(),
        NDims=4,
        DimSize="2 3 2 2",
        TransformMatrix=" ".join(str(int(n)) for n in np.eye(4).ravel()),
        Offset="0 0 0 0",
        ElementSpacing="1 1 1 1",
    )
    with pytest.raises(FileError, match="4-D, 2 volumes; choose one with --volume 0 to 1"):
        read_exam(four)
    assert np.array_equal(read_exam(four, 1).volume.array.ravel(order="F"), NUMBERS[12:])


def test_a_data_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(NUMBERS.tobytes())
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in ("../secret.raw", "..\\secret.raw", str(tmp_path / "secret.raw"), "C:/secret.raw"):
        with pytest.raises(FileError, match=r"a\.mhd: its voxels lie outside its folder"):
            read_exam(write_header(inner, name="a.mhd", ElementDataFile=name))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ElementNumberOfChannels": 3}, "several channels or colours"),
        ({"ElementType": "MET_SHORT_ARRAY"}, "several channels or colours"),
        ({"ElementType": "MET_STRING"}, "voxel type MET_STRING is unknown"),
        ({"ElementType": None}, r"voxel type \(none\) is unknown"),
        ({"BinaryData": False}, "written as text"),
        ({"ElementDataFile": "LIST"}, "spread over several files"),
        ({"ElementDataFile": "a%03d.raw 1 4 1"}, "spread over several files"),
        ({"ElementDataFile": "gone.raw"}, "cannot be read: not found"),
        ({"NDims": 5}, "5-D; save it as a 3-D file"),
        ({"NDims": "many"}, "NDims = many"),
        ({"DimSize": None}, "no DimSize"),
        ({"DimSize": "2 3"}, "DimSize = 2 3; 3 numbers are needed"),
        ({"DimSize": "2 0 4"}, "names no voxels"),
        ({"DimSize": "30000 30000 30000"}, "too large for an exam"),
        ({"DimSize": "900 900 900"}, "truncated: its header claims 900 x 900 x 900 voxels, 1,458.0 MB"),
        ({"DimSize": "2 3 5"}, "truncated"),
        ({"TransformMatrix": "1 0 0"}, "TransformMatrix = 1 0 0; 9 numbers are needed"),
        ({"Offset": "0 nan 0"}, "Offset = 0 nan 0"),
    ],
)
def test_unsupported_headers_are_refused(fields: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message) as refusal:
        read_exam(write_header(tmp_path, NUMBERS.tobytes(), **fields))
    assert str(refusal.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    "fields", [{"ElementSpacing": "1 0 1"}, {"ElementSpacing": "1 -1 1"}, {"TransformMatrix": "1 0 0 1 0 0 0 0 1"}]
)
def test_unusable_geometry_is_refused(fields: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"a\.mha: .*repair its header"):
        read_exam(write_header(tmp_path, NUMBERS.tobytes(), **fields))


def test_damaged_compressed_voxels_are_refused(tmp_path: Path) -> None:
    compressed = zlib.compress(np.random.default_rng(0).integers(0, 99, 24, dtype=np.int16).tobytes())
    for data, message in ((compressed[:-20], "truncated"), (b"xx" + compressed[2:], "damaged"), (b"", "truncated")):
        with pytest.raises(FileError, match=message):
            read_exam(write_header(tmp_path, data, CompressedData=True))


def test_a_header_without_its_end_is_refused(tmp_path: Path) -> None:
    path = write_header(tmp_path)
    path.write_text(path.read_text().split("ElementDataFile")[0])
    with pytest.raises(FileError, match="its header ends without ElementDataFile"):
        read_exam(path)
