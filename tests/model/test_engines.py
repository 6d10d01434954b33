"""Which engine answers, and that both give the same classes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from lumbarseg.model import Model
from lumbarseg.model.run import MANY

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


def test_one_exam_is_answered_by_onnxruntime(tmp_path: Path) -> None:
    assert Model.load(tiny.write(tmp_path / "m.onnx")).engine.startswith("onnxruntime")


@needs_openvino
def test_many_exams_are_answered_by_openvino(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx")
    assert Model.load(path, exams=MANY).engine.startswith("openvino")
    assert Model.load(path, "cpu", exams=MANY).engine.startswith("onnxruntime")


@needs_openvino
def test_both_engines_give_the_same_classes(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx")
    windows = np.random.default_rng(0).random((3, 5, 64, 96), dtype=np.float32)
    first, second = (Model.load(path, device).run(windows).argmax(axis=1) for device in ("cpu", "openvino"))
    assert (first == second).mean() > 0.999
