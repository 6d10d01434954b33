"""Clicks by the commands alone: train --method deepedit from the shipped weights, export, segment --clicks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from tests.click_files import clicks_json

from lumbarseg.anatomy import structure_by_name
from lumbarseg.cli.main import main
from lumbarseg.clicks import Click
from lumbarseg.io import read_labels
from lumbarseg.volume import Volume

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("model_file")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clicks")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """Two steps from the shipped weights: it still predicts as they do, and reads clicks."""
    data, run = str(folder / "data"), str(folder / "run")
    assert main(["phantom", data, "-n", "1", "--seed", "8", "--jobs", "1"]) == 0
    few = ["--steps", "2", "--batch-size", "2", "--crop-size", "96", "--learning-rate", "1e-4"]
    assert main(["train", data, "-o", run, "--method", "deepedit", "--init", "shipped", *few]) == 0
    assert main(["export", run, "-o", str(folder / "edit.onnx")]) == 0
    return folder / "edit.onnx"


@pytest.fixture(scope="module")
def labels_before(exam: Path, model: Path, folder: Path) -> Volume:
    assert main(["segment", str(exam), "-o", str(folder / "plain"), "--model", str(model)]) == 0
    return read_labels(folder / "plain" / "spine_labels.nii.gz")


def centre(labels: Volume, name: str) -> tuple[float, float, float]:
    depth = ndimage.distance_transform_edt(labels.array == structure_by_name(name).label, sampling=labels.grid.spacing)
    x, y, z = labels.grid.to_world(np.array(np.unravel_index(depth.argmax(), depth.shape)))
    return float(x), float(y), float(z)


def test_clicks_correct_a_result(
    exam: Path, model: Path, labels_before: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    click = Click(centre(labels_before, "L3-L4"), "L3-L4", positive=False)
    (tmp_path / "clicks.json").write_text(clicks_json([click]))
    arguments = ["segment", str(exam), "-o", str(tmp_path), "--model", str(model)]
    assert main([*arguments, "--clicks", str(tmp_path / "clicks.json"), "--json"]) in (0, 3)
    labels_after = read_labels(tmp_path / "spine_labels.nii.gz")
    voxel = tuple(np.rint(labels_after.grid.to_index(np.array(click.point))).astype(int))
    assert labels_before.array[voxel] == structure_by_name("L3-L4").label
    assert labels_after.array[voxel] != structure_by_name("L3-L4").label
    assert json.loads(capsys.readouterr().out)["exams"][0]["error"] is None


def test_clicks_of_slicer_are_read_in_their_own_space(
    exam: Path, model: Path, labels_before: Volume, tmp_path: Path
) -> None:
    x, y, z = centre(labels_before, "L4")
    point = {"label": "L3-1", "position": [-x, -y, z], "positionStatus": "defined"}
    markups = {"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [point]}]}
    (tmp_path / "L3.mrk.json").write_text(json.dumps(markups))
    arguments = ["segment", str(exam), "-o", str(tmp_path), "--model", str(model)]
    assert main([*arguments, "--clicks", str(tmp_path / "L3.mrk.json")]) in (0, 3)
    report = json.loads((tmp_path / "spine_report.json").read_text())
    assert report["anchor"] == "given by the user"
    at = {level["name"]: level["centre_mm"][2] for level in report["levels"]}
    assert abs(at["L3"] - z) < 8


def test_what_cannot_be_is_one_line(
    exam: Path, model: Path, labels_before: Volume, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "clicks.json"
    file.write_text(clicks_json([Click(centre(labels_before, "L3"), "L3")]))

    def refused(*arguments: str) -> str:
        assert main(["segment", str(exam), *arguments, "-o", str(tmp_path / "out")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    few = ["--steps", "1", "--batch-size", "2", "--crop-size", "96", "--learning-rate", "1e-9", "--init", "shipped"]
    assert main(["train", str(model.parent / "data"), "-o", str(tmp_path / "run"), *few]) == 0
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "deaf.onnx")]) == 0
    capsys.readouterr()
    deaf = refused("--clicks", str(file), "--model", str(tmp_path / "deaf.onnx"))
    assert "this model does not accept clicks" in deaf
    assert "not found" in refused("--clicks", str(tmp_path / "none.json"), "--model", str(model))
    (tmp_path / "other.nii.gz").write_bytes(exam.read_bytes())
    both = refused(str(tmp_path / "other.nii.gz"), "--clicks", str(file), "--model", str(model))
    assert "clicks belong to one exam, and 2 are given" in both
    file.write_text('{"clicks": [{"point": [0, 0, 0], "structure": "L3"}]}')
    assert "must state its space" in refused("--clicks", str(file), "--model", str(model))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"spine_report.json"}  # the reason
