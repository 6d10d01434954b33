"""ZIP archives read in place: studies and images in them, and archives that are unsafe to open."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.grids import affine_of, filled
from tests.io.make_dicom import AXIAL, LOCALISER, T1, T2, write_enhanced, write_series

from lumbarseg.errors import FileError, LumbarsegError
from lumbarseg.io import archives, exam_name, find_exams, read_exam, write_image
from lumbarseg.volume import Grid

SAGITTAL = filled(Grid((12, 14, 9), affine_of("PIR", (0.6, 0.7, 4.4), (25, 90, 130), (4, -7, 9))))


def zip_folder(folder: Path, archive: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(archive, "w", compression) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder).as_posix())
    return archive


def study(folder: Path) -> Path:
    write_series(folder / "DICOM" / "1", SAGITTAL, LOCALISER)
    write_series(folder / "DICOM" / "2", SAGITTAL, T1)
    write_series(folder / "DICOM" / "3", SAGITTAL, T2)
    write_series(folder / "DICOM" / "4", SAGITTAL, AXIAL)
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 64)
    (folder / "viewer.exe").write_bytes(b"MZ" * 300)
    return folder


@pytest.fixture(autouse=True)
def nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    empty = tmp_path / "temporary"
    empty.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(empty))
    yield
    assert not list(empty.iterdir())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_study_in_a_zip_reads_as_its_folder_does(compression: int, tmp_path: Path) -> None:
    folder = study(tmp_path / "Müller Straße 日本")
    archive = zip_folder(folder, tmp_path / "Müller 日本.zip", compression)
    from_zip, from_folder = read_exam(archive), read_exam(folder)
    assert find_exams([archive]) == [archive]
    assert exam_name(archive) == "Müller 日本"
    assert np.array_equal(from_zip.volume.array, from_folder.volume.array)
    assert np.array_equal(from_zip.volume.affine, from_folder.volume.affine)
    assert (from_zip.notes, from_zip.metadata, from_zip.path) == (from_folder.notes, from_folder.metadata, archive)
    assert read_exam(archive, series="T1").metadata["series"] == "T1_TSE_SAG"


def test_several_studies_and_volumes_in_a_zip_are_exams_of_their_own(tmp_path: Path) -> None:
    for name in ("1.2.3", "1.2.4"):
        write_series(tmp_path / "all" / f"patient{name[-1]}" / "t2", SAGITTAL, replace(T2, study=name))
    write_image(SAGITTAL, tmp_path / "all" / "extra" / "a.nii.gz")
    write_image(SAGITTAL, tmp_path / "all" / "a_labels.nii.gz")
    archive = zip_folder(tmp_path / "all", tmp_path / "all.zip")
    exams = find_exams([archive])
    assert [exam_name(exam) for exam in exams] == ["patient3", "patient4", "a"]
    assert exams[0] == archive / "patient3"
    for exam in exams:
        assert np.array_equal(read_exam(exam).volume.array, SAGITTAL.array)
        assert find_exams([exam]) == [exam]
    with pytest.raises(FileError, match=r"holds 2 patients; give the folder of one"):
        read_exam(archive)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "below/é.nii"])
def test_a_volume_in_a_zip_is_read(name: str, tmp_path: Path) -> None:
    write_image(SAGITTAL, tmp_path / "in" / name)
    archive = zip_folder(tmp_path / "in", tmp_path / "exam.zip")
    exam = read_exam(archive)
    assert np.array_equal(exam.volume.array, SAGITTAL.array)
    assert exam.volume.grid.same_as(SAGITTAL.grid)
    assert (find_exams([archive]), exam_name(archive), exam.path) == ([archive], "exam", archive)
    assert np.array_equal(read_exam(archive / name).volume.array, SAGITTAL.array)


def test_headers_with_voxels_beside_them_are_read_in_a_zip(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    from tests.io.itk import itk_image

    (tmp_path / "in").mkdir()
    for name in ("a.mhd", "b.nhdr"):
        sitk.WriteImage(itk_image(SAGITTAL), str(tmp_path / "in" / name))
    archive = zip_folder(tmp_path / "in", tmp_path / "exams.zip")
    exams = find_exams([archive])
    assert [exam.name for exam in exams] == ["a.mhd", "b.nhdr"]
    assert all(np.array_equal(read_exam(exam).volume.array, SAGITTAL.array) for exam in exams)
    with pytest.raises(FileError, match=r"a ZIP of 2 exams; name one, for example .*exams\.zip/a\.mhd"):
        read_exam(archive)


def test_an_enhanced_file_in_a_zip_is_read(tmp_path: Path) -> None:
    write_enhanced(tmp_path / "in" / "IM1", [(SAGITTAL, {})])
    archive = zip_folder(tmp_path / "in", tmp_path / "exam.zip")
    assert np.array_equal(read_exam(archive).volume.array, SAGITTAL.array)
    assert np.array_equal(read_exam(archive / "IM1").volume.array, SAGITTAL.array)


def test_zips_in_a_folder_of_exams_are_exams(tmp_path: Path) -> None:
    folder = tmp_path / "exams"
    write_image(SAGITTAL, folder / "b.nii.gz")
    zip_folder(study(tmp_path / "study"), folder / "a.zip")
    (folder / "damaged.zip").write_bytes(b"PK\x03\x04 and no more")
    (folder / "named_so.zip").write_bytes(b"something else")
    with zipfile.ZipFile(folder / "empty.zip", "w"):
        pass
    assert [exam.name for exam in find_exams([folder])] == ["b.nii.gz", "a.zip", "damaged.zip"]


def test_a_zip_without_an_exam_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "readme.txt").write_text("nothing")
    archive = zip_folder(tmp_path / "in", tmp_path / "a.zip")
    with pytest.raises(FileError, match=r"a\.zip: no NIfTI, MetaImage, NRRD or DICOM file in it; give"):
        find_exams([archive])
    shutil.copy(archive, tmp_path / "in" / "inner.zip")
    with pytest.raises(FileError, match="file in it; unpack the ZIP in it first"):
        read_exam(zip_folder(tmp_path / "in", tmp_path / "b.zip"))
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(FileError, match=r"empty\.zip: no NIfTI"):
        read_exam(tmp_path / "empty.zip")


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/up", "..\\up", "C:\\up", "c:/up"])
def test_names_outside_the_zip_are_refused(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "up"
    write_image(SAGITTAL, tmp_path / "up.nii.gz")
    (tmp_path / "deep").mkdir()
    archive = zip_folder(study(tmp_path / "study"), tmp_path / "deep" / "a.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, b"x")
    with pytest.raises(FileError, match=r"a\.zip: an unsafe ZIP: .* points outside; do not unpack it"):
        find_exams([archive])
    with pytest.raises(FileError, match=r"a\.zip: an unsafe ZIP"):
        read_exam(archive)
    assert not secret.exists()
    with pytest.raises(LumbarsegError):
        read_exam(archive / ".." / ".." / "gone.nii.gz")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file, file.open("IM1", "w") as member:
        for _ in range(300):
            member.write(b"\0" * 2**20)
    assert archive.stat().st_size < 400_000
    with pytest.raises(FileError, match=r"bomb\.zip: a ZIP bomb, or damaged: IM1 would grow from 0\.3 to 315 MB"):
        read_exam(archive)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for index in range(10):
            file.writestr(f"IM{index}", b"\0" * 30 * 2**20)
    with pytest.raises(FileError, match="a ZIP bomb, or damaged: its content would grow"):
        find_exams([archive])


def test_a_member_with_a_false_size_is_not_expanded(tmp_path: Path) -> None:
    archive = tmp_path / "lies.zip"
    content = b"\0" * 128 + b"DICM" + b"\0" * 2**22
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("IM1", content)
    small = archive.read_bytes().replace(struct.pack("<L", len(content)), struct.pack("<L", 5000))
    archive.write_bytes(small)
    with pytest.raises(FileError, match=r"lies\.zip"):
        read_exam(archive)
    with pytest.raises(FileError, match="damaged in its ZIP"), archives.open_member(archive / "IM1") as stream:
        stream.read()


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_MEMBERS", 100)
    archive = tmp_path / "many.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for index in range(101):
            file.writestr(f"{index}", b"")
    with pytest.raises(FileError, match="a ZIP of more than 100 files is no exam"):
        find_exams([archive])
    monkeypatch.setattr(archives, "_MAX_DIRECTORY_BYTES", 1000)
    shutil.copy(archive, tmp_path / "again.zip")
    with pytest.raises(FileError, match="a ZIP of more than 100 files is no exam"):
        find_exams([tmp_path / "again.zip"])


def test_encrypted_and_doubled_members_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("IM1", b"x" * 500)
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(FileError, match=r"a\.zip: the ZIP is encrypted; unpack it with its password"):
        find_exams([archive])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("IM1", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("IM1", b"y")
    with pytest.raises(FileError, match="two files of the ZIP are named IM1"):
        read_exam(tmp_path / "b.zip")


def test_links_in_a_zip_lead_nowhere(tmp_path: Path) -> None:
    write_image(SAGITTAL, tmp_path / "secret.nii.gz")
    info = zipfile.ZipInfo("a.nii.gz")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, str(tmp_path / "secret.nii.gz"))
    with pytest.raises(FileError, match="neither NIfTI"):
        read_exam(tmp_path / "a.zip")


def test_hidden_files_and_those_of_macos_are_ignored(tmp_path: Path) -> None:
    write_image(SAGITTAL, tmp_path / "in" / "a.nii.gz")
    write_image(SAGITTAL, tmp_path / "in" / "__MACOSX" / "._a.nii.gz")
    write_image(SAGITTAL, tmp_path / "in" / ".hidden" / "b.nii.gz")
    archive = zip_folder(tmp_path / "in", tmp_path / "a.zip")
    assert np.array_equal(read_exam(archive).volume.array, SAGITTAL.array)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 2**20), bits=st.integers(1, 255), truncate=st.booleans())
def test_a_damaged_zip_reads_as_before_or_is_refused_in_one_line(
    at: int, bits: int, truncate: bool, tmp_path: Path
) -> None:
    complete = tmp_path / "whole.zip"
    if not complete.exists():
        write_series(tmp_path / "s", SAGITTAL, T2)
        zip_folder(tmp_path / "s", complete)
    content = bytearray(complete.read_bytes())
    at %= len(content)
    content[at] ^= bits
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(content[:at] if truncate else content)
    os.utime(damaged, ns=(at * 256 + bits, at * 256 + bits))
    message = ""
    try:
        assert read_exam(find_exams([damaged])[0]).volume.array.shape[:2] == SAGITTAL.array.shape[:2]
    except LumbarsegError as error:
        message = str(error)
    assert not message or (str(damaged) in message and "\n" not in message)


def test_a_volume_that_is_no_zip_costs_no_import_of_their_libraries(tmp_path: Path) -> None:
    write_image(SAGITTAL, tmp_path / "a.nii.gz")
    code = (
        "import sys\nfrom pathlib import Path\nfrom lumbarseg.io import find_exams, read_exam\n"
        f"read_exam(find_exams([Path({str(tmp_path)!r}) / 'a.nii.gz'])[0])\n"
        "print([name for name in ('pydicom', 'highdicom', 'gdcm') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert process.stdout.strip() == "[]"
