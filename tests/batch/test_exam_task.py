"""What is done with one exam: a failing measurement or picture never loses the segmentation."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.report.segmented_phantom import phantom, phantom_segmentation

from lumbarseg.batch import exam_task
from lumbarseg.batch.exam_task import StageTimer, describe_segmentation
from lumbarseg.batch.options import ExamOptions
from lumbarseg.batch.output_formats import write_outputs
from lumbarseg.io import LoadedExam

MODEL: Any = SimpleNamespace(path=Path("model.onnx"), card=SimpleNamespace(digest="0" * 64))


@pytest.mark.parametrize(("failing", "result"), [("measure_spine", "measure"), ("render_picture", "picture")])
def test_a_failing_measurement_or_picture_is_a_warning(
    failing: str, result: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("an empty band")

    monkeypatch.setattr(exam_task, failing, fail)
    monkeypatch.delenv("LUMBARSEG_DEBUG", raising=False)
    exam = LoadedExam(phantom().image, [], {}, tmp_path / "exam.nii.gz")
    described = describe_segmentation("exam", exam, phantom_segmentation(), MODEL, ExamOptions(), StageTimer())
    assert any(
        text.startswith(f"{result} failed: ") and "an empty band" in text for text in described.report["warnings"]
    )
    json.dumps(described.report, allow_nan=False)
    write_outputs(described, exam, {"labels": tmp_path / "exam_labels.nii.gz", "picture": tmp_path / "exam.png"})
    assert (tmp_path / "exam_labels.nii.gz").exists()
    assert (tmp_path / "exam.png").exists() == (failing != "render_picture")
