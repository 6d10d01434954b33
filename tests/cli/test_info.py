"""`lumbarseg info`: describe a model, an exam or a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests import tiny
from tests.io.make_nifti import SAGITTAL, save_nifti

from lumbarseg.cli.main import main
from lumbarseg.inference import ModelCard
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.terminology import slicer_terminology


def test_the_model_of_the_package_is_described(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    output = capsys.readouterr().out
    assert str(model_file) in output
    assert "SPIDER" in output
    assert "CC BY 4.0" in output
    for word in ("licences", "scores", "limits"):
        assert f"\n{word}:" in output, word


def test_any_model_file_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = ModelCard(
        PreprocessingSpec(),
        details={"seed": 7, "data": ["phantoms of this program, drawn by the seed", "mine"], "scores": {}},
    )
    path = tiny.write(tmp_path / "m.onnx", card)
    assert main(["info", str(path)]) == 0
    output = capsys.readouterr().out
    assert "\nseed: 7" in output
    assert "  - phantoms of this program" in output
    assert main(["info", str(path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["preparation"]["pixel"] == 1.0
    assert values["devices"][0] == "cpu"


def test_an_exam_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", np.ones((448, 400, 16), np.int16), SAGITTAL)
    assert main(["info", str(path)]) == 0
    output = capsys.readouterr().out
    assert "slices: sagittal, 4.40 mm apart" in output
    assert "axes: PIL" in output
    assert "pixels: 269, 240" in output


@pytest.mark.parametrize("content", [b"", b"no model at all"])
def test_a_file_that_is_not_a_model_is_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert main(["info", str(tmp_path / "m.onnx")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lumbarseg: error: {tmp_path / 'm.onnx'}: ")


def test_what_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("x.onnx", "x.nii.gz", "folder"):
        assert main(["info", str(tmp_path / name)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert name in line


def test_the_terminology_is_for_slicer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--terminology"]) == 0
    assert json.loads(capsys.readouterr().out) == slicer_terminology()
    assert main(["info", "exam.nii.gz", "--terminology"]) == 2
    assert "not allowed with" in capsys.readouterr().err
