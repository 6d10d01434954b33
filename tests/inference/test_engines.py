"""Which engine answers, and that both give the same classes."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from lumbarseg.cli import options
from lumbarseg.errors import ModelError
from lumbarseg.inference import Model
from lumbarseg.inference.engines import DEVICES, PROVIDERS, available_devices
from lumbarseg.inference.model import OPENVINO_MIN_EXAMS

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


def test_one_exam_runs_on_onnxruntime(tmp_path: Path) -> None:
    assert Model.load(tiny.write(tmp_path / "m.onnx")).engine_name.startswith("onnxruntime")


@needs_openvino
def test_many_exams_run_on_openvino(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx")
    assert Model.load(path, exam_count=OPENVINO_MIN_EXAMS).engine_name.startswith("openvino")
    assert Model.load(path, "cpu", exam_count=OPENVINO_MIN_EXAMS).engine_name.startswith("onnxruntime")


@needs_openvino
def test_both_engines_give_the_same_classes(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx")
    windows = np.random.default_rng(0).random((3, 5, 64, 96), dtype=np.float32)
    first, second = (Model.load(path, device).run(windows).argmax(axis=1) for device in ("cpu", "openvino"))
    assert (first == second).mean() > 0.999


def test_the_command_line_knows_the_devices_of_the_engines() -> None:
    parser = argparse.ArgumentParser()
    options.add_shared_options(parser, "--device")
    assert all(name in parser.format_help() for name in DEVICES)


def test_devices_are_listed_without_the_engine_as_the_engine_lists_them() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    available = {name for name, provider in PROVIDERS.items() if provider in onnxruntime.get_available_providers()}
    assert available == set(available_devices()) - {"openvino"}
    assert ("openvino" in available_devices()) == (find_spec("openvino") is not None)


def test_a_device_that_is_not_here_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx")
    absent = sorted(set(DEVICES) - {"auto", *available_devices()})
    assert absent
    for device in absent:
        with pytest.raises(ModelError, match=rf"{path.name}: --device {device} is not available here .*auto, cpu"):
            Model.load(path, device)


@pytest.mark.parametrize("device", sorted({"cpu", "openvino"} & set(available_devices())))
def test_threads_do_not_change_the_prediction(device: str, tmp_path: Path) -> None:
    path = tiny.write(tmp_path / "m.onnx")
    windows = np.random.default_rng(0).random((3, 5, 64, 96), dtype=np.float32)
    one, all_of_them = (Model.load(path, device, threads=threads).run(windows) for threads in (1, 0))
    np.testing.assert_allclose(one, all_of_them, rtol=1e-4, atol=1e-5)
