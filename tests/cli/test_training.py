"""From phantoms to a model of one's own, by the commands alone: phantom, train, export, info, evaluate, segment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lumbarseg.cli.main import main
from lumbarseg.training.presets import PRESETS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    assert main(["phantom", str(folder), "-n", "2", "--seed", "8", "--jobs", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    out = data.parent / "run"
    assert main(["train", str(data), "-o", str(out), "--preset", "quick", "--steps", "3"]) == 0
    return out


@pytest.fixture(scope="module")
def model(run: Path) -> Path:
    out = run.parent / "mine.onnx"
    (run.parent / "about.json").write_text(json.dumps({"licence": "mine alone"}))
    arguments = ["export", str(run), "-o", str(out), "--about", str(run.parent / "about.json"), "--bias", "body=-0.5"]
    assert main(arguments) == 0
    return out


def test_a_run_goes_on_with_its_own_settings(run: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(data), "-o", str(run)]) == 1
    assert "continue it with --resume" in capsys.readouterr().err
    assert main(["train", str(data), "-o", str(run), "--resume", "--steps", "4"]) == 0
    assert json.loads((run / "settings.json").read_text())["crop_size"] == PRESETS["quick"].settings.crop_size
    assert main(["train", str(data), "-o", str(run), "--resume", "--crop-size", "192"]) == 1
    assert main(["train", str(data), "-o", str(run.parent / "none"), "--resume"]) == 1


def test_the_card_has_the_details_of_the_export(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(model), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["licence"] == "mine alone"
    assert values["bias"][1] == -0.5


def test_it_is_scored_on_a_dataset(model: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(model), str(data), "--json"]) in (0, 3)
    values = json.loads(capsys.readouterr().out)
    assert [row["case"] for row in values["cases"]] == ["phantom-8-00000", "phantom-8-00001"]
    lines = {line["group"][1]: line for line in values["tables"][0]["lines"]}
    assert {"L4", "canal", "sacrum"} <= set(lines)
    assert all(0 <= line["dice"]["mean"] <= 1 for line in lines.values())
    assert main(["evaluate", str(model), str(data), "--split", "test"]) == 1


def test_it_segments_or_refuses_in_one_line(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = data / "images" / "phantom-8-00000.nii.gz"
    code = main(["segment", str(image), "-o", str(tmp_path), "--model", str(model)])
    assert code in (0, 1, 3)
    assert len(capsys.readouterr().err.splitlines()) == (code == 1)
