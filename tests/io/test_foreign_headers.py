"""NIfTI, MetaImage and NRRD headers as other software writes them: they are read, or one error says what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.grids import filled
from tests.io.itk import itk_image
from tests.io.make_nifti import SAGITTAL, save_nifti, set_header

from lumbarseg.errors import FileError, GridError
from lumbarseg.io import read_exam, read_image, read_labels, write_image
from lumbarseg.volume import Grid

SimpleITK = pytest.importorskip("SimpleITK")

VOLUME = filled(Grid((7, 9, 5), SAGITTAL))
NAMES = ["Müller", "日本", "with blanks", "100%", "50%d", "a:b", "LIST of"]


def test_a_metaimage_header_with_all_dicom_tags_is_read(tmp_path: Path) -> None:
    image = itk_image(VOLUME)
    for number in range(3000):
        image.SetMetaData(f"0018|{number:04x}", f"value {number} " * 5)
    image.SetMetaData("0010|4000", "a comment\nin two lines")
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    assert (tmp_path / "a.mha").stat().st_size > 2**17
    assert np.array_equal(read_image(tmp_path / "a.mha").array, VOLUME.array)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
@pytest.mark.parametrize("name", NAMES)
def test_data_files_may_have_any_name(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}{suffix}"
    SimpleITK.WriteImage(itk_image(VOLUME), str(tmp_path / f"a{suffix}"))
    (data,) = (file for file in tmp_path.iterdir() if file.suffix != suffix)
    data.rename(tmp_path / f"{name}.raw")
    header = (tmp_path / f"a{suffix}").read_bytes().replace(data.name.encode(), f"{name}.raw".encode())
    path.write_bytes(header)
    exam = read_exam(path)
    assert np.array_equal(exam.volume.array, VOLUME.array)
    assert exam.volume.grid.same_as(VOLUME.grid, 1e-3)


def test_a_data_file_named_in_latin_1_is_read(tmp_path: Path) -> None:
    SimpleITK.WriteImage(itk_image(VOLUME), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").rename(tmp_path / "Müller.raw")
    header = (tmp_path / "a.mhd").read_bytes().replace(b"a.raw", "Müller.raw".encode("latin-1"))
    (tmp_path / "a.mhd").write_bytes(header)
    assert np.array_equal(read_image(tmp_path / "a.mhd").array, VOLUME.array)


@pytest.mark.parametrize("value", ["LIST", "LIST 2", "a%03d.raw 1 5 1"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_several_data_files_are_refused_in_plain_words(value: str, suffix: str, tmp_path: Path) -> None:
    SimpleITK.WriteImage(itk_image(VOLUME), str(tmp_path / f"a{suffix}"))
    (data,) = (file for file in tmp_path.iterdir() if file.suffix != suffix)
    path = tmp_path / f"a{suffix}"
    names = "\n".join(f"slice{index}.raw" for index in range(5))
    path.write_bytes(path.read_bytes().replace(data.name.encode(), f"{value}\n{names}".encode()))
    with pytest.raises(FileError, match=r"spread over several files; save it as one \.mha or \.nrrd file"):
        read_exam(path)


def test_an_nrrd_without_spacing_is_reported(tmp_path: Path) -> None:
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nendian: little\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + np.arange(24, dtype="<i2").tobytes())
    exam = read_exam(tmp_path / "a.nrrd")
    assert [note.split(":")[0] for note in exam.notes] == ["no orientation in its header", "no spacing in its header"]
    assert exam.volume.grid.spacing == (1, 1, 1)


@pytest.mark.parametrize("row", [[0, 0, 0, 5], [np.nan, 0, 0, 0], [0.6, 0, 0, 0]])
def test_a_broken_sform_gives_way_to_a_good_qform(row: list[float], tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii", VOLUME.array, SAGITTAL)
    image = nib.load(path)
    image.set_qform(SAGITTAL, 1)
    nib.save(image, path)
    set_header(path, srow_x=row, srow_y=row)
    exam = read_exam(path)
    assert exam.volume.grid.same_as(VOLUME.grid, 1e-3)
    assert exam.notes == ["its sform is damaged: the qform was used"]
    set_header(path, qform_code=0)
    with pytest.raises(GridError, match=r"a\.nii: the affine is"):
        read_exam(path)


def test_negative_spacing_with_a_qform_alone_is_read_as_nibabel_reads_it(tmp_path: Path) -> None:
    image = nib.Nifti1Image(VOLUME.array, None)
    image.set_sform(None, 0)
    image.set_qform(SAGITTAL, 1)
    nib.save(image, tmp_path / "a.nii")
    zooms = image.header["pixdim"].copy()
    zooms[2] *= -1
    set_header(tmp_path / "a.nii", pixdim=zooms)
    exam = read_exam(tmp_path / "a.nii")
    assert exam.volume.grid.same_as(VOLUME.grid, 1e-3)
    assert exam.notes == ["negative spacing in its header: its sign was ignored"]


def test_a_first_axis_of_one_is_refused_with_what_works(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", VOLUME.array[None], SAGITTAL)
    with pytest.raises(FileError, match=r"1 x 7 x 9 x 5: its first axis is not in space; remove it \(array\[0\]"):
        read_exam(path)
    save_nifti(path, np.asanyarray(nib.load(path).dataobj)[0], SAGITTAL)
    assert np.array_equal(read_image(path).array, VOLUME.array)


@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
def test_one_hot_and_layered_labels_are_refused_with_what_works(suffix: str, tmp_path: Path) -> None:
    one_hot = (VOLUME.array[..., None] % 3 == np.arange(3)).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    if suffix == ".nii.gz":
        save_nifti(path, one_hot, SAGITTAL)
    else:
        import nrrd

        directions = np.vstack([[np.nan] * 3, np.eye(3)])
        header = {"space": "LPS", "space directions": directions, "kinds": ["list", *["domain"] * 3]}
        nrrd.write(str(path), np.moveaxis(one_hot, 3, 0), header)
    with pytest.raises(FileError, match="a label map has one volume; combine one-hot channels") as error:
        read_labels(path)
    assert "--volume" not in str(error.value)
    save_nifti(tmp_path / "b.nii.gz", one_hot.argmax(axis=3).astype(np.uint8), SAGITTAL)
    assert np.array_equal(read_labels(tmp_path / "b.nii.gz").array, VOLUME.array % 3)


@pytest.mark.parametrize("rest", [b"garbage behind the end", b"\0" * 100 + b"x", gzip.compress(b"more")])
def test_bytes_behind_a_gzip_file_are_ignored_and_reported(rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_image(VOLUME, path)
    path.write_bytes(path.read_bytes() + rest)
    exam = read_exam(path)
    assert np.array_equal(exam.volume.array, VOLUME.array)
    assert exam.notes == ["bytes after its voxels were ignored"]
    content = bytearray(path.read_bytes())
    content[-len(rest) - 6] ^= 1  # its checksum
    path.write_bytes(content)
    with pytest.raises(FileError, match="damaged"):
        read_exam(path)
