"""`lumbarseg evaluate`: label files, two models, failures, the shipped model."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from lumbarseg.cli.main import main
from lumbarseg.io import read_image, write_image
from lumbarseg.volume import Volume


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    assert main(["phantom", str(folder), "-n", "2", "--seed", "8", "--jobs", "1"]) == 0
    return folder


def test_the_reference_itself_scores_1(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = str(data / "labels")
    arguments = ["evaluate", "--labels", labels, str(data), "--by", "level,contrast", "-o", str(tmp_path), "--against"]
    assert main([*arguments, labels]) == 0
    out = capsys.readouterr().out
    assert "1.000 [1.000, 1.000]" in out and "all names right" in out
    result = json.loads((tmp_path / "evaluation.json").read_text())
    lines = [line for table in result["tables"] if table["of"] == "structures" for line in table["lines"]]
    assert len(lines) > 30 and all(line["dice"]["mean"] == 1 and line["surface95_mm"]["mean"] == 0 for line in lines)
    assert all(row["mean"] == 0 and row["probability"] in (1, None) for row in result["differences"]["dice"])
    with (tmp_path / "evaluation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == {"phantom-8-00000", "phantom-8-00001"}
    assert {float(row["dice"]) for row in rows} == {1.0}


def test_one_failure_does_not_stop_the_others(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(data / "labels" / "phantom-8-00001.nii.gz", tmp_path / "phantom-8-00001_labels.nii.gz")
    assert main(["evaluate", "--labels", str(tmp_path), str(data), "--json", "--no-distances"]) == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert [row["case"] for row in result["cases"]] == ["phantom-8-00001"]
    assert [row["case"] for row in result["failed"]] == ["phantom-8-00000"]
    assert "phantom-8-00000.nii.gz: not found" in err and "1 of 2 cases could not be scored" in err
    assert result["tables"][0]["lines"][0]["surface_mm"]["count"] == 0
    (tmp_path / "phantom-8-00001_labels.nii.gz").unlink()
    assert main(["evaluate", "--labels", str(tmp_path), str(data)]) == 1
    assert "neither this case nor any other" in capsys.readouterr().err


def test_a_model_that_refuses_all_exams_scores_0(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ct = shutil.copytree(data, tmp_path / "ct")
    for path in (ct / "images").iterdir():
        image = read_image(path)
        tissue = image.array > np.median(image.array)
        write_image(Volume(np.where(tissue, 40.0, -1000.0).astype(np.float32), image.affine), path)
    model = tiny.write(tmp_path / "tiny.onnx")
    assert main(["evaluate", str(model), str(ct), "--against", str(data / "labels")]) == 3
    out = capsys.readouterr().out
    assert "refused, which counts as an empty prediction: this looks like CT" in out
    assert "-1.000 [-1.000, -1.000]" in out
    assert f"exams in which {model} falls behind most" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "shipped"], "DATASET"),
        (["evaluate", "shipped", "data", "--by", "colour"], "colour"),
        (["evaluate", "shipped", "data", "--scheme", "dataset"], "--labels"),
    ],
)
def test_wrong_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_model_scores_well_on_phantoms(
    model_file: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "shipped", str(data), "--json"]) in (0, 3)
    result = json.loads(capsys.readouterr().out)
    assert result["model"]["file"] == "shipped"
    lines = {line["group"][1]: line for line in result["tables"][0]["lines"]}
    assert lines["canal"]["dice"]["mean"] > 0.8
    assert 0 < lines["canal"]["surface_mm"]["mean"] < 2
