"""The words of `lumbarseg learn` and `next`: exit codes, JSON, one line for each error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import tiny
from tests.datasets.layouts import monailabel as layout
from tests.datasets.small_phantoms import exam

from lumbarseg.active_learning.model_registry import ModelRegistry
from lumbarseg.cli.main import main
from lumbarseg.volume import Volume

SMALL = [
    "--init",
    "none",
    "--steps",
    "2",
    "--batch-size",
    "2",
    "--crop-size",
    "64",
    "--threads",
    "1",
    "--precision",
    "float32",
]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, one = tmp_path_factory.mktemp("cli") / "studies", exam(0, seed=5)
    brighter = (Volume(one.image.array + np.float32(n), one.image.affine) for n in range(3))
    exams = [replace(one, name=f"exam{n}", image=image) for n, image in enumerate(brighter)]
    layout.write(folder, exams, np.random.default_rng(3), False)
    return folder


def test_a_round_is_told_and_the_second_has_nothing_to_do(
    studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["learn", str(studies), "-o", str(tmp_path / "app"), *SMALL]
    code = main([*words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["round"], told["exams"], told["judges"]) == (1, 2, 1)
    assert code == (0 if told["published"] else 3)
    assert told["published"] == ModelRegistry(tmp_path / "app", "lumbar_spine").model_path.is_file()
    assert main(words) == 0
    assert "nothing new since round 1" in capsys.readouterr().out


def test_errors_are_one_line(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in (
        ([str(tmp_path)], "holds no datastore_v2.json"),
        ([str(studies), "--name", "../x"], "cannot name a model"),
        ([str(studies), "--back", "2"], "no version 2 of lumbar_spine; there are: none"),
        ([str(studies), "--judge", str(tmp_path)], "dataset.json: not found"),
    ):
        assert main(["learn", *words, "-o", str(tmp_path / "app")]) == 1
        err = capsys.readouterr().err
        assert text in err
        assert len(err.splitlines()) == 1


def test_an_older_version_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shelf = ModelRegistry(tmp_path, "mine")
    files = [tiny.write(tmp_path / f"{seed}.onnx", seed=seed) for seed in range(2)]
    for file in files:
        shelf.publish(file, {})
    assert main(["learn", "studies", "-o", str(tmp_path), "--name", "mine", "--back", "1"]) == 0
    assert "version 1 is in use again" in capsys.readouterr().out
    assert shelf.model_path.read_bytes() == files[0].read_bytes()


def test_next_tells_every_exam(studies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.write(tmp_path / "tiny.onnx")
    words = ["next", str(studies), "--model", str(model), "--memory", str(tmp_path / "doubts.json")]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in told["exams"]} == {"exam0", "exam1", "exam2"}
    assert main([*words, "--seconds", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert not any("not looked at yet" in line for line in lines)  # all are remembered
