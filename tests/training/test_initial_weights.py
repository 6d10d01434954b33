from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests import tiny

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.errors import ModelError
from lumbarseg.inference import Model, ModelCard, bundled_model_path
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.deepedit import add_empty_click_channels
from lumbarseg.training.export import export_model
from lumbarseg.training.initial_weights import InitialWeights, calibrate_batch_norms
from lumbarseg.training.networks import PlanarUNet


def network_of(initial: InitialWeights) -> PlanarUNet:
    network = PlanarUNet(initial.channels, initial.spec.inputs)
    network.load_state_dict(initial.weights)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((3, 5, 32, 64), np.float32))


@pytest.mark.parametrize("which", ["own", "shipped"])
def test_a_model_file_is_read_back(
    which: str, checkpoint: Path, tmp_path: Path, images: torch.Tensor, request: pytest.FixtureRequest
) -> None:
    path = bundled_model_path() if which == "shipped" else export_model(checkpoint, tmp_path / "mine.onnx")
    initial = InitialWeights.load(path)
    network = network_of(initial)
    images = add_empty_click_channels(images, initial.spec.inputs)
    expected = Model.load(path).run(images.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-4)
        calibrate_batch_norms(network, [images])
        np.testing.assert_allclose(network(images).numpy(), expected, atol=1e-3)
        np.testing.assert_allclose(network.train()(images).numpy(), expected, atol=1e-3)
    assert initial.known_kinds == set(CLASSES)
    assert initial.has_folded_norms
    assert initial.provenance["digest"] == Model.load(path).card.digest


def test_a_run_has_its_best_weights_or_its_last(checkpoint: Path, tmp_path: Path) -> None:
    last = Checkpoint.load(checkpoint)
    initial = InitialWeights.load(checkpoint.parent)
    assert initial.path == checkpoint
    assert all(torch.equal(value, last.ema_weights[name]) for name, value in initial.weights.items())
    (tmp_path / "best.pt").write_bytes(checkpoint.read_bytes())
    assert InitialWeights.load(tmp_path).path == tmp_path / "best.pt"


def test_known_classes_are_those_of_the_card(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "discs.onnx"
    export_model(checkpoint, path)
    card = Model.load(path).card
    assert card.output_kinds == set(CLASSES)
    assert ModelCard(
        PreprocessingSpec(), trained_names=("background", "disc"), targets=("L4-L5", "L4")
    ).output_kinds == {Kind.DISC}


def test_unusable_initial_weights_are_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"one\.onnx: its network is not one that this program trains"):
        InitialWeights.load(tiny.write(tmp_path / "one.onnx"))
    (tmp_path / "cut.onnx").write_bytes(bundled_model_path().read_bytes()[:5000])
    with pytest.raises(ModelError, match=r"cut\.onnx: "):
        InitialWeights.load(tmp_path / "cut.onnx")
    with pytest.raises(ModelError, match=r"none\.onnx: cannot be read"):
        InitialWeights.load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match=r"checkpoint\.pt: not found"):
        InitialWeights.load(tmp_path)
