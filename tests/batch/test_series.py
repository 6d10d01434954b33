"""`lumbarseg segment` of a DICOM study with several series: which one is segmented, and all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.batch import easy
from tests.io.make_dicom import AXIAL, T1, T2, write_series

from lumbarseg.cli.main import main
from lumbarseg.io import read_image
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

STATION_DISTANCE = 250.0  # mm


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return easy.model(tmp_path_factory.mktemp("model") / "m.onnx")


@pytest.fixture(scope="module")
def lumbar(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    """An exam with a sacrum, axes (column, row, slice)."""
    (path,) = easy.exams(tmp_path_factory.mktemp("exam"), 1)
    image = reorient(read_image(path), "PIL")
    return Volume(image.array.astype(np.int16), image.affine)


@pytest.fixture(scope="module")
def upper(lumbar: Volume) -> Volume:
    """The same without its lower half, higher up in the body: another station, without a sacrum."""
    affine = lumbar.affine.copy()
    affine[2, 3] += STATION_DISTANCE
    return Volume(lumbar.array[:, : lumbar.array.shape[1] // 2], affine)


def segment(study: Path, model: Path, out: Path, *options: str) -> tuple[int, list[dict[str, str]]]:
    """Run the command; return its exit code and what each report says of the file."""
    arguments = ["segment", str(study), "-o", str(out), "--model", str(model), "--device", "cpu", *options]
    code = main(arguments)
    reports = [json.loads(path.read_text())["exam"] for path in sorted(out.glob("*_report.json"))]
    return code, [{"series": report["about"]["series"], "notes": "; ".join(report["notes"])} for report in reports]


def test_the_lower_of_two_stations_is_segmented(
    lumbar: Volume, upper: Volume, model_path: Path, tmp_path: Path
) -> None:
    write_series(tmp_path / "study", upper, replace(T2, number=2, description="t2 sag"))
    write_series(tmp_path / "study", lumbar, replace(T2, number=5, description="t2 sag"))
    code, (exam,) = segment(tmp_path / "study", model_path, tmp_path / "out")
    assert code == 0
    assert exam["notes"].startswith("DICOM series 5")


@pytest.mark.parametrize(
    ("upper_tags", "lumbar_tags"),
    [
        ({"SeriesDescription": "t2 sag CERVICAL"}, {"SeriesDescription": "t1 sag lumbar"}),
        ({"BodyPartExamined": "TSPINE"}, {"BodyPartExamined": "LSPINE"}),
    ],
)
def test_description_and_body_part_decide_before_position_and_contrast(
    upper_tags: dict[str, str],
    lumbar_tags: dict[str, str],
    lumbar: Volume,
    upper: Volume,
    model_path: Path,
    tmp_path: Path,
) -> None:
    affine = upper.affine.copy()
    affine[2, 3] -= 2 * STATION_DISTANCE  # below the lumbar station
    write_series(tmp_path / "study", Volume(upper.array, affine), replace(T2, number=2, tags=T2.tags | upper_tags))
    write_series(tmp_path / "study", lumbar, replace(T1, number=5, tags=T1.tags | lumbar_tags))
    code, (exam,) = segment(tmp_path / "study", model_path, tmp_path / "out")
    assert code == 0
    assert exam["notes"].startswith("DICOM series 5")


def test_another_station_is_segmented_where_the_first_shows_no_sacrum(
    lumbar: Volume, upper: Volume, model_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "study", upper, replace(T2, number=2, description="t2 lumbar"))
    write_series(tmp_path / "study", lumbar, replace(T2, number=5, description="t2 sag"))
    code, (exam,) = segment(tmp_path / "study", model_path, tmp_path / "out")
    assert (code, exam["series"]) == (3, "t2 sag")
    assert "series 2 't2 lumbar' was not used: no sacrum found" in capsys.readouterr().out
    code, (exam,) = segment(tmp_path / "study", model_path, tmp_path / "chosen", "--series", "2")
    assert exam["series"] == "t2 lumbar"


def test_all_sagittal_series_are_segmented_side_by_side(lumbar: Volume, model_path: Path, tmp_path: Path) -> None:
    for protocol in (T1, T2):
        write_series(tmp_path / "study", lumbar, protocol)
    axial = reorient(lumbar, "LPI")
    write_series(tmp_path / "study", axial, AXIAL)
    code, exams = segment(tmp_path / "study", model_path, tmp_path / "out", "--series", "all")
    assert code == 0
    assert [exam["series"] for exam in exams] == ["T1_TSE_SAG", "T2_TSE_SAG"]
    names = {path.name for path in (tmp_path / "out").glob("*_labels.nii.gz")}
    assert names == {"study_series-2_labels.nii.gz", "study_series-3_labels.nii.gz"}
