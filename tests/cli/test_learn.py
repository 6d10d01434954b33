"""`lumbarseg learn` and `next`: exit codes, JSON, one line for each error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from tests import tiny
from tests.datasets.layouts import monailabel as layout
from tests.datasets.small_phantoms import exam

from lumbarseg.active_learning.model_registry import ModelRegistry
from lumbarseg.cli.main import main
from lumbarseg.volume import Volume

SMALL = [
    *("--init", "none", "--steps", "2", "--batch-size", "2", "--crop-size", "64"),
    *("--threads", "1", "--precision", "float32"),
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, phantom = tmp_path_factory.mktemp("cli") / "studies", exam(0, seed=5)
    images = (Volume(phantom.image.array + np.float32(n), phantom.image.affine) for n in range(3))
    exams = [replace(phantom, name=f"exam{n}", image=image) for n, image in enumerate(images)]
    layout.write(folder, exams, np.random.default_rng(3), False)
    return folder


def test_second_round_has_nothing_new(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    arguments = ["learn", str(studies), "-o", str(tmp_path / "app"), *SMALL]
    code = main([*arguments, "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["number"], result["training_exams"], result["validation_exams"]) == (1, 2, 1)
    assert code == (0 if result["published"] else 3)
    assert result["published"] == ModelRegistry(tmp_path / "app", "lumbar_spine").model_path.is_file()
    assert main(arguments) == 0
    assert "nothing new since round 1" in capsys.readouterr().out


def test_errors_are_one_line(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        ([str(tmp_path)], "datastore_v2.json"),
        ([str(studies), "--name", "../x"], "cannot name a model"),
        ([str(studies), "--restore", "2"], "no version 2 of lumbar_spine; existing versions: none"),
        ([str(studies), "--val-dataset", str(tmp_path)], "dataset.json: not found"),
    ):
        assert main(["learn", *arguments, "-o", str(tmp_path / "app")]) == 1
        err = capsys.readouterr().err
        assert text in err
        assert len(err.splitlines()) == 1


def test_older_version_is_restored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    registry = ModelRegistry(tmp_path, "mine")
    files = [tiny.write(tmp_path / f"{seed}.onnx", seed=seed) for seed in range(2)]
    for file in files:
        registry.publish(file, {})
    assert main(["learn", "studies", "-o", str(tmp_path), "--name", "mine", "--restore", "1"]) == 0
    assert "version 1 is in use again" in capsys.readouterr().out
    assert registry.model_path.read_bytes() == files[0].read_bytes()


def test_next_prints_every_exam(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.write(tmp_path / "tiny.onnx")
    arguments = ["next", str(studies), "--model", str(model), "--cache", str(tmp_path / "cache.json")]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert {score["name"] for score in result["exams"]} == {"exam0", "exam1", "exam2"}
    assert main([*arguments, "--seconds", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert not any("not scored yet" in line for line in lines)  # all are cached
