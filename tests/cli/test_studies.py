"""`lumbarseg segment` and `info` on whole DICOM studies, in folders and ZIPs."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.io.make_dicom import AXIAL, LOCALISER, T1, T2, write_series

from lumbarseg.cli.main import main
from lumbarseg.io import read_labels, write_image
from lumbarseg.phantom import render_phantom, sample_recipe
from lumbarseg.volume import Volume


@pytest.fixture(scope="module")
def spine() -> Volume:
    """A phantom as a scanner stores it: whole numbers, slices last."""
    image = render_phantom(sample_recipe(np.random.default_rng(3))).image
    thick = int(np.argmax(image.grid.spacing))
    order = [axis for axis in range(3) if axis != thick] + [thick]
    affine = image.affine.copy()
    affine[:, :3] = image.affine[:, order]
    array = image.array.transpose(order)
    if np.linalg.det(affine[:3, :3]) < 0:  # DICOM's slices follow the right-handed normal of rows and columns
        affine[:3, 3] += affine[:3, 0] * (array.shape[0] - 1)
        affine[:3, 0] *= -1
        array = array[::-1]
    scaled = (array - array.min()) * (4000 / np.ptp(array))
    return Volume(np.ascontiguousarray(scaled.astype(np.int16)), affine)


@pytest.fixture(scope="module")
def study(spine: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One study: sagittal T2 and T1, a localiser, and another plane."""
    folder = tmp_path_factory.mktemp("study") / "patient"
    few = Volume(spine.array[:, :, :3], spine.affine)
    write_series(folder / "a", few, LOCALISER)
    write_series(folder / "b", Volume(spine.array // 2, spine.affine), T1)
    write_series(folder / "c", spine, T2, shuffle=4)
    axial_affine = spine.affine[:, [2, 1, 0, 3]]
    write_series(folder / "d", Volume(spine.array.transpose(2, 1, 0)[:, :, :6], axial_affine), AXIAL)
    return folder


def test_a_study_is_segmented_like_the_same_volume_in_nifti(
    study: Path, spine: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(spine, tmp_path / "same.nii.gz")
    archive = tmp_path / "zipped.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(study.rglob("*")):
            file.write(path, path.relative_to(study.parent).as_posix())
    out = tmp_path / "out"
    assert main(["segment", str(study), str(archive), str(tmp_path / "same.nii.gz"), "-o", str(out)]) in (0, 3)
    printed = capsys.readouterr().out
    assert printed.count("series: DICOM series 3 'T2_TSE_SAG': sagittal, T2 (TE 101, TR 3500 ms)") == 2
    assert printed.count("series 2 'T1_TSE_SAG': sagittal, T1") == 2
    from_study, zipped, from_nifti = (
        read_labels(out / f"{name}_labels.nii.gz") for name in ("patient", "zipped", "same")
    )
    assert np.array_equal(from_study.array, zipped.array)
    assert from_study.grid.same_as(from_nifti.grid, 0.01)
    assert np.mean(from_study.array != from_nifti.array) < 1e-3
    report = (out / "patient_report.json").read_text()
    assert not [word for word in ("Secret", "Somebody", "ID-", "1960", "2020") if word in report]


def test_another_series_can_be_selected(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for series in ("2", "t1_tse"):
        assert main(["segment", str(study), "-o", str(tmp_path / series), "--series", series]) in (0, 3)
        assert "series: DICOM series 2 'T1_TSE_SAG'" in capsys.readouterr().out
    assert main(["segment", str(study), "-o", str(tmp_path), "--series", "99"]) == 1
    assert "no series '99' in it; it holds series 3 'T2_TSE_SAG', series 2" in capsys.readouterr().err


def test_info_lists_the_series_of_a_study(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(study), "--series", "T1", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["file"]
    assert about["taken"].startswith("DICOM series 2 'T1_TSE_SAG'")
    assert [text.split("'")[1] for text in about["left_out"]] == ["T2_TSE_SAG", "T2_TSE_TRA", "localizer"]
