from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lumbarseg.anatomy import CLASSES
from lumbarseg.datasets import Dataset
from lumbarseg.inference import Model, predict
from lumbarseg.preprocessing import ClickGaussian
from lumbarseg.training.checkpoint import Checkpoint, load_mean_checkpoint
from lumbarseg.training.deepedit import ClickSimulator, add_empty_click_channels, codes_near_clicks, fit_input_channels
from lumbarseg.training.export import export_model, parity_input
from lumbarseg.training.networks import PlanarUNet, build_network, input_channel_count
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import train

ALLOWED = np.vstack([np.ones(6, bool), np.eye(6, dtype=bool), [True, False, False, False, True, False]])
"""Code 0 is unknown, 1..6 are the classes, 7 is background or sacrum."""


def simulator(seed: int = 0) -> ClickSimulator:
    return ClickSimulator(ALLOWED, ClickGaussian(), 1.0, seed)


def logits_for(kind: int, shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Logits for one class everywhere."""
    logits = np.zeros((6, *shape), np.float32)
    logits[kind] = 5
    return logits


@pytest.fixture(scope="module")
def deepedit_checkpoint(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return train(replace(settings, method="deepedit"), datasets, tmp_path_factory.mktemp("deepedit") / "whole")


def test_more_input_channels_predict_the_same(settings: TrainingSettings) -> None:
    before = build_network(settings).eval()
    after = PlanarUNet(settings.channels, 11).eval()
    after.load_state_dict(fit_input_channels(before.state_dict(), 11))
    images = torch.rand(2, 5, 32, 48)
    clicks = torch.rand(2, 6, 32, 48)
    assert torch.equal(before(images), after(add_empty_click_channels(images, 11)))
    assert torch.equal(before(images), after(torch.cat([images, clicks], 1)))
    back = build_network(settings).eval()
    back.load_state_dict(fit_input_channels(after.state_dict(), 5))
    assert torch.equal(before(images), back(images))


def test_a_click_lies_in_the_largest_error_with_the_class_of_the_reference() -> None:
    codes = np.ones((64, 64), np.uint8)
    codes[10:30, 10:30] = 3  # a disc
    codes[40:44, 40:44] = 5
    for seed in range(30):
        click = simulator().next_click(logits_for(0), codes, np.random.default_rng(seed))
        assert click is not None
        if click.strength >= 0.7:
            assert click.channel == 2
            assert all(10 <= value < 30 for value in click.position)


def test_an_extra_structure_is_clicked_as_background() -> None:
    codes = np.full((64, 64), 7, np.uint8)
    clicks = [simulator().next_click(logits_for(1), codes, np.random.default_rng(seed)) for seed in range(10)]
    assert {click.channel for click in clicks if click} == {0}


def test_no_click_where_nothing_is_wrong_or_annotated() -> None:
    for codes in (np.zeros((64, 64), np.uint8), np.full((64, 64), 1, np.uint8), np.full((64, 64), 7, np.uint8)):
        assert simulator().next_click(logits_for(0), codes, np.random.default_rng(1)) is None


def test_clicks_follow_from_seed_step_and_sample_alone() -> None:
    rng = np.random.default_rng(3)
    codes = torch.from_numpy(rng.integers(1, 7, (6, 4, 4)).repeat(12, 1).repeat(12, 2))
    images = torch.rand(6, 5, 48, 48)

    def predict_logits(with_clicks: torch.Tensor) -> torch.Tensor:
        return torch.cat([with_clicks[:, :1] * 0 + 1, with_clicks[:, 6:] * 3], 1)

    out = simulator()(predict_logits, images, codes, 4)
    assert out.shape == (6, 11, 48, 48)
    as_it_was = (out[:, :5] == images).flatten(1).all(1)
    assert as_it_was[out[:, 5:].flatten(1).amax(1) == 0].all()
    assert 0 < out[:, 5:].max() <= 1
    assert torch.equal(out, simulator()(predict_logits, images, codes, 4))
    halves = [simulator()(predict_logits, images[i : i + 3], codes[i : i + 3], 4, range(i, i + 3)) for i in (0, 3)]
    assert torch.equal(out, torch.cat(halves))
    assert not torch.equal(out, simulator()(predict_logits, images, codes, 5))
    assert not torch.equal(out, simulator(1)(predict_logits, images, codes, 4))
    counts = [simulator()(predict_logits, images, codes, n)[:, 5:].flatten(1).amax(1) > 0 for n in range(20)]
    assert 0.4 < torch.stack(counts).float().mean() < 0.9


def test_a_patch_without_signal_lies_around_a_structure() -> None:
    codes = np.ones((96, 96), np.uint8)
    codes[40:56, 40:56] = 2
    for seed in range(20):
        image = torch.full((5, 96, 96), 0.7)
        simulator().erase_patch(image, codes, np.random.default_rng(seed))
        erased = (image < 0.69).numpy()
        assert (erased == erased[0]).all() and image.min() <= 0.2
        assert erased[0][40:56, 40:56].any() and 50 < erased[0].sum() < np.pi * 20**2
        assert not erased[0][:20].any() and not erased[0][76:].any()
    image = torch.full((5, 96, 96), 0.7)
    simulator().erase_patch(image, np.ones((96, 96), np.uint8), np.random.default_rng(0))
    assert (image == 0.7).all()


def test_only_what_is_near_a_click_is_scored_beside_the_whole() -> None:
    codes = torch.full((1, 40, 40), 3)
    images = torch.zeros(1, 11, 40, 40)
    assert not codes_near_clicks(images, codes).any()
    images[0, 7, 20, 20] = 1
    near = codes_near_clicks(images, codes)
    assert near.sum() == 3
    assert near[0, 20, 20] == 3


def test_it_may_start_from_a_network_without_clicks_and_vice_versa(
    deepedit_checkpoint: Path, checkpoint: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    still = replace(settings, steps=1, learning_rate=0.0, distillation_weight=1.0)
    first = "down.0.0.weight"
    to_clicks = Checkpoint.load(train(replace(still, method="deepedit"), datasets, tmp_path / "a", init=checkpoint))
    before = Checkpoint.load(checkpoint).ema_weights[first]
    assert torch.equal(to_clicks.weights[first][:, :20], before)
    assert not to_clicks.weights[first][:, 20:].any()
    assert to_clicks.spec.clicks == ClickGaussian()
    back = Checkpoint.load(train(still, datasets, tmp_path / "b", init=deepedit_checkpoint))
    assert torch.equal(back.weights[first], Checkpoint.load(deepedit_checkpoint).ema_weights[first][:, :20])
    assert back.spec.clicks is None


def test_a_mean_of_runs_takes_click_weights_from_those_that_read_clicks(
    deepedit_checkpoint: Path, checkpoint: Path
) -> None:
    first = "down.0.0.weight"
    plain, with_clicks = (Checkpoint.load(path).ema_weights[first] for path in (checkpoint, deepedit_checkpoint))
    mean_checkpoint = load_mean_checkpoint([checkpoint, deepedit_checkpoint])
    assert mean_checkpoint.spec.clicks == ClickGaussian()
    torch.testing.assert_close(mean_checkpoint.ema_weights[first][:, :20], (plain + with_clicks[:, :20]) / 2)
    torch.testing.assert_close(mean_checkpoint.ema_weights[first][:, 20:], with_clicks[:, 20:])
    back = load_mean_checkpoint([deepedit_checkpoint, checkpoint])
    assert back.spec.clicks is None
    torch.testing.assert_close(back.ema_weights[first], mean_checkpoint.ema_weights[first][:, :20])


def test_the_exported_file_reads_clicks_and_can_start_a_run(
    deepedit_checkpoint: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    model = Model.load(export_model(deepedit_checkpoint, tmp_path / "edit.onnx"))
    assert model.card.spec.clicks == ClickGaussian()
    images = parity_input(model.card.spec)
    assert images.shape[1] == input_channel_count(replace(settings, method="deepedit")) == 5 + len(CLASSES)
    assert (images[:, 5:].max(axis=(0, 2, 3)) > 0.1).all()
    with torch.no_grad():
        expected = Checkpoint.load(deepedit_checkpoint).ema_network()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(model.run(images), expected, atol=1e-3)
    assert predict(model, np.random.default_rng(0).random((3, 40, 40)).astype(np.float32)).shape == (6, 3, 40, 40)
    run_settings = replace(settings, method="deepedit", steps=1)
    mean_checkpoint = Checkpoint.load(train(run_settings, datasets, tmp_path / "run", init=tmp_path / "edit.onnx"))
    assert mean_checkpoint.spec.clicks == ClickGaussian()
