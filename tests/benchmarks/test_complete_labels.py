"""Labels filled in by teachers: only what annotators left open changes, and only to what they allow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")

import onnxruntime
from benchmarks.average_models import average_models
from benchmarks.complete_labels import complete

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.inference import ModelCard, bundled_model_path
from lumbarseg.inference.model import read_card
from lumbarseg.preprocessing import PreparedImage, PreprocessingSpec, preprocess
from lumbarseg.volume import Array, Volume

TABLE = {0: ["background", "sacrum"], 1: ["L5"], 9: ["unknown"]}


@pytest.fixture
def image() -> PreparedImage:
    grey = np.random.default_rng(0).normal(100, 20, (4, 60, 60)).astype(np.float32)
    return preprocess(Volume(grey, np.diag([4.0, 1.0, 1.0, 1.0])), PreprocessingSpec())


def sure_of(kind: Kind, image: PreparedImage) -> Array:
    probabilities = np.full((len(CLASSES), *image.grid.shape), 0.02, np.float32)
    probabilities[CLASSES.index(kind)] = 0.9
    return probabilities


@pytest.mark.parametrize(("kind", "in_background", "in_unknown"), [(Kind.SACRUM, 204, 204), (Kind.DISC, 0, 202)])
def test_only_open_voxels_change(image: PreparedImage, kind: Kind, in_background: int, in_unknown: int) -> None:
    labels = np.zeros((4, 60, 60), np.uint8)
    labels[:, 20:40], labels[:, 40:] = 1, 9
    completed = complete(labels, TABLE, sure_of(kind, image), image)
    assert set(np.unique(completed[:, 20:40])) == {1}
    inner = completed[:, 3:-3, 3:-3]
    assert set(np.unique(inner[:, :12])) == {in_background}
    assert set(np.unique(inner[:, 42:])) == {in_unknown}


def test_equal_probabilities_leave_a_voxel_open(image: PreparedImage) -> None:
    labels = np.full((4, 60, 60), 9, np.uint8)
    probabilities = np.full((len(CLASSES), *image.grid.shape), 1 / len(CLASSES), np.float32)
    assert np.array_equal(complete(labels, TABLE, probabilities, image), labels)


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
