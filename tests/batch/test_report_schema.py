"""The JSON schema of reports, against real reports of every kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.batch import easy
from tests.click_files import clicks_json
from tests.segmentation.spines import BODY, SACRUM

from lumbarseg.cli.main import main
from lumbarseg.clicks import Click
from lumbarseg.io import read_image, write_image
from lumbarseg.preprocessing import ClickGaussian
from lumbarseg.report import report_schema
from lumbarseg.volume import Volume

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = easy.exams(tmp_path_factory.mktemp("exams"), 1)
    return path


def faults(report: dict[str, Any]) -> list[str]:
    """Return what contradicts the schema, in the part for results or for failures."""
    schema = report_schema()
    part = schema | {"oneOf": [{"$ref": f"#/$defs/{'failure' if 'error' in report else 'result'}"}]}
    errors = [inner for error in jsonschema.Draft202012Validator(part).iter_errors(report) for inner in error.context]
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


def without(exam: Path, folder: Path, classes: tuple[int, ...]) -> Path:
    """Write the exam with some classes as background; return its path."""
    image = read_image(exam)
    array = np.where(np.isin(image.array, easy.VALUES[list(classes)] * 1000), 0, image.array)
    write_image(Volume(array, image.affine), folder / exam.name)
    return folder / exam.name


def report_of(exam: Path, model: Path, folder: Path, *options: str) -> dict[str, Any]:
    main(["segment", str(exam), "-o", str(folder), "--model", str(model), "--device", "cpu", *options])
    report: dict[str, Any] = json.loads((folder / "e00_report.json").read_text(encoding="utf-8"))
    return report


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(report_schema())


@pytest.mark.parametrize("options", [(), ("--lowest", "L4"), ("--scheme", "spider"), ("--format", "seg-nrrd")])
def test_a_result(options: tuple[str, ...], exam: Path, tmp_path: Path) -> None:
    report = report_of(exam, easy.model(tmp_path / "m.onnx"), tmp_path, *options)
    assert report["levels"] and report["measurements"] and faults(report) == []


def test_a_refused_exam(exam: Path, tmp_path: Path) -> None:
    image = read_image(exam)
    array = np.random.default_rng(0).integers(0, 50, image.array.shape)
    array[1:4, 60:70, 60:70] = 1000  # too small for a vertebra
    write_image(Volume(array.astype(np.int16), image.affine), tmp_path / exam.name)
    report = report_of(tmp_path / exam.name, easy.model(tmp_path / "m.onnx"), tmp_path / "out")
    assert "no lumbar spine found" in report["error"] and faults(report) == []


def test_uncertain_names(exam: Path, tmp_path: Path) -> None:
    report = report_of(without(exam, tmp_path, (SACRUM,)), easy.model(tmp_path / "m.onnx"), tmp_path / "out")
    assert report["uncertain"] and report["warnings"] and faults(report) == []


def test_a_model_of_bodies_alone(exam: Path, tmp_path: Path) -> None:
    model = easy.model(tmp_path / "m.onnx", trained_names=("background", "body"))
    others = tuple(set(range(1, len(easy.VALUES))) - {BODY})
    report = report_of(without(exam, tmp_path, others), model, tmp_path / "out")
    assert {row["kind"] for row in report["measurements"]} == {"body"} and faults(report) == []


def test_clicks(exam: Path, tmp_path: Path) -> None:
    model = easy.model(tmp_path / "m.onnx", clicks=ClickGaussian())
    centre = report_of(exam, model, tmp_path / "plain")["levels"][-1]["centre_mm"]
    (tmp_path / "clicks.json").write_text(clicks_json([Click(tuple(centre), "L4")]))
    report = report_of(exam, model, tmp_path / "out", "--clicks", str(tmp_path / "clicks.json"))
    assert report["anchor"] == "given by the user" and faults(report) == []


@pytest.mark.parametrize(
    ("key", "value"), [("levels", None), ("extra", 1), ("confidence", 1.5), ("measurements", [{"name": "L1"}])]
)
def test_a_wrong_report_is_noticed(key: str, value: Any, exam: Path, tmp_path: Path) -> None:
    assert faults(report_of(exam, easy.model(tmp_path / "m.onnx"), tmp_path) | {key: value})


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--report-schema"]) == 0
    assert json.loads(capsys.readouterr().out) == report_schema()
