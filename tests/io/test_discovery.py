"""The exams that files and folders refer to."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.grids import affine_of, filled
from tests.io.make_dicom import AXIAL, T1, T2, write_series

from lumbarseg.errors import FileError
from lumbarseg.io import exam_name, find_exams, list_folder, read_exam, write_image, write_labels
from lumbarseg.volume import Grid

SMALL = filled(Grid((6, 7, 8), affine_of("PIR", (0.6, 0.6, 4))))


def create_files(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "a"),
        ("a.nii", "a"),
        ("a.MHA", "a"),
        ("a.b.mhd", "a.b"),
        ("a.nrrd", "a"),
        ("a.seg.nrrd", "a.seg"),
        ("a.nhdr", "a"),
        ("a.NII.GZ", "a"),
        ("enhanced.dcm", "enhanced"),
        ("a.gz", "a.gz"),
        ("exam 1", "exam 1"),
        (".nii.gz", ".nii.gz"),
    ],
)
def test_exam_name(name: str, expected: str, tmp_path: Path) -> None:
    assert exam_name(tmp_path / name) == expected
    assert exam_name(str(tmp_path / name)) == expected


def test_the_name_of_a_folder_is_its_exam_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "exam.nrrd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert exam_name(folder) == exam_name(f"{folder}/") == exam_name(".") == "exam.nrrd"
    assert exam_name("..") == tmp_path.name


def test_a_folder_gives_all_volumes_below_it_but_no_label_maps(tmp_path: Path) -> None:
    names = ["a.nii", "b.nii.gz", "c.MHA", "d.mhd", "e.nrrd", "f.nhdr"]
    create_files(*(tmp_path / name for name in names))
    create_files(
        *(tmp_path / name for name in ("a_labels.nii.gz", "B_Labels.nii.gz", ".hidden.nii.gz", "d.raw", "notes.txt"))
    )
    create_files(tmp_path / "below" / "z.nii.gz", tmp_path / "masks" / "a.nii.gz", tmp_path / "sub" / "a_dseg.nii.gz")
    assert [path.name for path in find_exams([tmp_path])] == [*names, "z.nii.gz"]
    listing = list_folder(tmp_path, exclude=tmp_path / "below")
    assert [path.name for path in listing.exams] == names
    assert len(listing.label_maps) == 4
    assert [path.name for path in listing.other_files] == ["d.raw", "notes.txt"]


def test_dicom_studies_and_volumes_below_a_folder_are_exams(tmp_path: Path) -> None:
    for study in ("1.2.3", "1.2.4"):
        write_series(tmp_path / "dicom" / f"patient{study[-1]}", SMALL, replace(T2, study=study))
    for subject in ("sub-01", "sub-02"):
        write_image(SMALL, tmp_path / subject / "anat" / f"{subject}_T2w.nii.gz")
        write_image(SMALL, tmp_path / "derivatives" / subject / f"{subject}_T2w.nii.gz")
    names = ["patient3", "patient4", "sub-01_T2w", "sub-02_T2w"]
    assert [exam_name(exam) for exam in find_exams([tmp_path])] == names


def test_files_stand_for_themselves_once_and_in_order(tmp_path: Path) -> None:
    create_files(tmp_path / "b.nii.gz", tmp_path / "a.nii.gz", tmp_path / "x_labels.nii.gz")
    addresses = [tmp_path / "x_labels.nii.gz", tmp_path / "b.nii.gz", tmp_path, tmp_path / "b.nii.gz"]
    assert [path.name for path in find_exams(addresses)] == ["x_labels.nii.gz", "b.nii.gz", "a.nii.gz"]


def test_exams_may_have_the_same_name(tmp_path: Path) -> None:
    create_files(tmp_path / "1" / "t2.nii.gz", tmp_path / "2" / "t2.mha")
    assert [exam_name(path) for path in find_exams([tmp_path / "1", tmp_path / "2"])] == ["t2", "t2"]


def test_a_folder_of_dicom_files_is_one_exam(tmp_path: Path) -> None:
    write_series(tmp_path / "exam", SMALL)
    assert find_exams([tmp_path / "exam"]) == [tmp_path / "exam"]
    write_image(SMALL, tmp_path / "exam" / "converted.nii.gz")
    write_labels(filled(SMALL.grid, dtype=bool), tmp_path / "exam" / "exam_labels.nii.gz")
    assert find_exams([tmp_path / "exam"]) == [tmp_path / "exam", tmp_path / "exam" / "converted.nii.gz"]


def test_a_disc_with_one_study_in_folders_is_one_exam(tmp_path: Path) -> None:
    for protocol in (T1, T2, AXIAL):
        write_series(tmp_path / "disc" / "DICOM" / "ST0" / f"SE{protocol.number}", SMALL, protocol)
    create_files(tmp_path / "disc" / "README.TXT")
    assert find_exams([tmp_path / "disc"]) == [tmp_path / "disc"]
    assert read_exam(tmp_path / "disc").metadata["series"] == T2.description


def test_the_directory_of_a_disc_stands_for_its_folder(tmp_path: Path) -> None:
    from pydicom.fileset import FileSet

    write_series(tmp_path / "series", SMALL, replace(T2, tags={"StudyTime": "1200", "StudyID": "1"}))
    disc = FileSet()
    for path in sorted((tmp_path / "series").iterdir()):
        disc.add(path)
    disc.write(tmp_path / "disc")
    shutil.copy(tmp_path / "disc" / "DICOMDIR", tmp_path / "disc" / "INDEX")
    assert find_exams([tmp_path / "disc" / "DICOMDIR"]) == find_exams([tmp_path / "disc"]) == [tmp_path / "disc"]
    for addresses in (tmp_path / "disc" / "DICOMDIR", tmp_path / "disc"):
        exam = read_exam(addresses)
        assert (exam.volume.array == SMALL.array).all() and len(exam.notes) == 1


def test_a_folder_of_studies_gives_one_exam_each(tmp_path: Path) -> None:
    for study in ("1.2.3", "1.2.4"):
        for protocol in (T1, T2):
            folder = tmp_path / "all" / f"patient{study[-1]}" / str(protocol.number)
            write_series(folder, SMALL, replace(protocol, study=study))
    exams = find_exams([tmp_path / "all"])
    assert [exam_name(exam) for exam in exams] == ["patient3", "patient4"]
    assert all(read_exam(exam).metadata["series"] == T2.description for exam in exams)


def test_studies_in_crossed_folders_are_kept_apart(tmp_path: Path) -> None:
    for index, study in enumerate(("1.2.3", "1.2.4", "1.2.3")):
        write_series(tmp_path / f"s{index}", SMALL, replace(T2, study=study, number=index))
    exams = find_exams([tmp_path])
    assert [exam.name for exam in exams] == ["s0", "s1", "s2"]
    assert all(read_exam(exam) for exam in exams)


def test_folders_without_an_exam_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no NIfTI, MetaImage, NRRD, DICOM or ZIP file in it"):
        find_exams([tmp_path])
    create_files(tmp_path / "a_labels.nii.gz")
    with pytest.raises(FileError, match="only label maps in it"):
        find_exams([tmp_path])


def test_missing_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link.nii").symlink_to(tmp_path / "gone")
    with pytest.raises(FileError, match=r"gone\.nii\.gz: cannot be read: not found; check the path"):
        find_exams([tmp_path / "gone.nii.gz"])
    with pytest.raises(FileError, match=r"link\.nii: cannot be read: a link to a file that does not exist"):
        find_exams([tmp_path / "link.nii"])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may read everything")
def test_an_unreadable_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0)
    try:
        with pytest.raises(FileError, match="closed: cannot be read: no permission"):
            find_exams([folder])
        with pytest.raises(FileError, match="closed: cannot be read: no permission"):
            read_exam(folder)
    finally:
        folder.chmod(0o700)
