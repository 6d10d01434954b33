"""The mean of model files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")

import onnxruntime
from benchmarks.average_models import average_models

from lumbarseg.inference import ModelCard, bundled_model_path
from lumbarseg.inference.model import read_card


def test_the_mean_of_a_model_with_itself_is_the_model(tmp_path: Path) -> None:
    path = bundled_model_path()
    data = average_models([path, path], {"note": "twice"})
    (tmp_path / "mean.onnx").write_bytes(data)
    card: ModelCard = read_card(tmp_path / "mean.onnx")
    assert card.details["note"] == "twice"
    sessions = [onnxruntime.InferenceSession(source) for source in (str(path), data)]
    name, inputs = sessions[0].get_inputs()[0].name, sessions[0].get_inputs()[0].shape[1]
    images = np.random.default_rng(1).normal(size=(1, inputs, 64, 64)).astype(np.float32)
    expected, mean = (session.run(None, {name: images})[0] for session in sessions)
    assert np.allclose(expected, mean, atol=1e-4)
