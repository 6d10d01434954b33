"""The same checks for all formats, and the detection of the format by content."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.grids import AXIS_ORDERS, affine_of, filled
from tests.io.itk import itk_image
from tests.io.make_dicom import write_series

from lumbarseg.errors import FileError
from lumbarseg.io import read_exam, read_image, read_labels, write_image
from lumbarseg.volume import Grid, Volume

SimpleITK = pytest.importorskip("SimpleITK")

SUFFIXES = [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr"]


def write_with_itk(suffix: str) -> Callable[[Volume, Path], Path]:
    def write(volume: Volume, folder: Path) -> Path:
        SimpleITK.WriteImage(itk_image(volume), str(folder / f"exam{suffix}"))
        return folder / f"exam{suffix}"

    return write


def write_with_package(volume: Volume, folder: Path) -> Path:
    write_image(volume, folder / "exam.nii.gz")
    return folder / "exam.nii.gz"


def write_as_scanner(volume: Volume, folder: Path) -> Path:
    write_series(folder / "exam", volume)
    return folder / "exam"


WRITERS = {
    **{f"ITK {suffix}": write_with_itk(suffix) for suffix in SUFFIXES},
    "package": write_with_package,
    "DICOM": write_as_scanner,
}
RIGHT_HANDED = [axes for axes in AXIS_ORDERS if np.linalg.det(affine_of(axes)) > 0]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("axes", RIGHT_HANDED[::5])
def test_every_format_gives_the_same_exam(write: Callable[[Volume, Path], Path], axes: str, tmp_path: Path) -> None:
    grid = Grid((7, 9, 5), affine_of(axes, (0.6, 0.8, 3.5), (-40, 60, 900), (5, -10, 20)))
    volume = filled(grid)
    path = write(volume, tmp_path)
    exam = read_exam(path)
    assert exam.volume.array.dtype == np.float32
    assert exam.volume.affine.dtype == np.float64
    assert np.array_equal(exam.volume.array, volume.array)
    assert exam.volume.grid.same_as(grid, 2e-3)
    assert exam.metadata["format"] in ("NIfTI-1", "MetaImage", "NRRD", "DICOM")
    assert np.array_equal(read_image(str(path)).array, volume.array)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_of_every_format_and_grey_values_refused(suffix: str, tmp_path: Path) -> None:
    labels = filled(Grid((6, 7, 8), affine_of("PIR", (0.6, 0.6, 4))), dtype=np.uint8)
    path = write_with_itk(suffix)(labels, tmp_path)
    labels_read = read_labels(path)
    assert labels_read.array.dtype == np.uint8
    assert np.array_equal(labels_read.array, labels.array)
    path = write_with_itk(suffix)(Volume(labels.array + np.float32(0.25), labels.affine), tmp_path)
    with pytest.raises(FileError, match=r"exam\..*: holds grey values, not labels"):
        read_labels(path)
    path = write_with_itk(suffix)(Volume(labels.array + np.float32(np.nan), labels.affine), tmp_path)
    with pytest.raises(FileError, match=r"exam\..*: holds NaN or infinite values in 336 voxels"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_the_content_decides_the_format_not_the_suffix(suffix: str, tmp_path: Path) -> None:
    volume = filled(Grid((6, 7, 8), affine_of("PIR", (0.6, 0.6, 4))))
    path = write_with_itk(suffix)(volume, tmp_path)
    for other in (".nii", ".nii.gz", ".mha", ".nrrd", ".dcm", ""):
        renamed = path.rename(tmp_path / f"renamed{other}")
        assert np.array_equal(read_image(renamed).array, volume.array)
        path = renamed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty, 0 bytes"),
        (b"patient;level\n1;L4\n" * 40, "neither NIfTI, MetaImage, NRRD, DICOM nor ZIP by its content"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "neither NIfTI, MetaImage, NRRD, DICOM nor ZIP by its content"),
        (b"\0" * 5000, "neither NIfTI, MetaImage, NRRD, DICOM nor ZIP by its content"),
        (b"x", "neither NIfTI, MetaImage, NRRD, DICOM nor ZIP by its content"),
        (b"\0" * 128 + b"DICM" + b"\0" * 100, "no readable DICOM file in it; give the folder"),
        (b"NRRD", "its NRRD header is damaged"),
        (b"\x1f\x8b", "truncated or damaged gzip file"),
        (b"\x1f\x8b" + b"\xff" * 50, "truncated or damaged gzip file"),
        ((348).to_bytes(4, "little") + b"\0" * 344, "an Analyze or damaged NIfTI header"),
        ((348).to_bytes(4, "little") + b"\0" * 20, "an Analyze or damaged NIfTI header"),
        (b"NDims = 3\nDimSize = 1 1 1\n", "its header ends without ElementDataFile"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
def test_other_files_are_refused_by_name(content: bytes, message: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"exam{suffix}"
    path.write_bytes(content)
    for read in (read_exam, read_labels):
        with pytest.raises(FileError, match=message) as refusal:
            read(path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert "\n" not in str(refusal.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.nii\.gz: cannot be read: not found"):
        read_exam(tmp_path / "gone.nii.gz")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_truncated_file_is_read(suffix: str, tmp_path: Path) -> None:
    volume = filled(Grid((20, 20, 20), affine_of("PIR", (0.6, 0.6, 4))))
    head = write_with_itk(suffix)(volume, tmp_path)
    largest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    content = largest.read_bytes()
    for size in [*range(0, 400, 37), *np.linspace(400, len(content) - 1, 30).astype(int)]:
        largest.write_bytes(content[:size])
        with pytest.raises(FileError) as refusal:
            read_exam(head)
        assert "\n" not in str(refusal.value)


def test_importing_the_package_loads_no_slow_library() -> None:
    """Except nibabel, which writes every result; it is imported while no other thread can import pydicom."""
    code = "import sys, lumbarseg.io; print([m for m in ('pydicom', 'scipy.ndimage') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert process.stdout.strip() == "[]"
