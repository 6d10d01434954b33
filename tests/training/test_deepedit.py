from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.test_trainer import same, train_alone

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


def says(kind: int, shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Logits for one class everywhere."""
    logits = np.zeros((6, *shape), np.float32)
    logits[kind] = 5
    return logits


@pytest.fixture(scope="module")
def edited(settings: TrainingSettings, datasets: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(replace(settings, method="deepedit"), datasets, tmp_path_factory.mktemp("deepedit") / "whole")


def test_a_network_that_grew_answers_as_before(settings: TrainingSettings) -> None:
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


def test_a_click_is_set_in_the_largest_error_on_what_is_there() -> None:
    codes = np.ones((64, 64), np.uint8)
    codes[10:30, 10:30] = 3  # a disc
    codes[40:44, 40:44] = 5
    for seed in range(30):
        spot = simulator().next_click(says(0), codes, np.random.default_rng(seed))
        assert spot is not None
        if spot.strength >= 0.7:
            assert spot.channel == 2
            assert all(10 <= value < 30 for value in spot.position)


def test_what_is_too_much_is_clicked_as_background() -> None:
    codes = np.full((64, 64), 7, np.uint8)
    spots = [simulator().next_click(says(1), codes, np.random.default_rng(seed)) for seed in range(10)]
    assert {spot.channel for spot in spots if spot} == {0}


def test_where_nothing_is_said_or_wrong_nothing_is_clicked() -> None:
    for codes in (np.zeros((64, 64), np.uint8), np.full((64, 64), 1, np.uint8), np.full((64, 64), 7, np.uint8)):
        assert simulator().next_click(says(0), codes, np.random.default_rng(1)) is None


def test_clicks_follow_from_seed_step_and_sample_alone() -> None:
    rng = np.random.default_rng(3)
    codes = torch.from_numpy(rng.integers(1, 7, (6, 4, 4)).repeat(12, 1).repeat(12, 2))
    images = torch.rand(6, 5, 48, 48)

    def answer(clicked: torch.Tensor) -> torch.Tensor:
        return torch.cat([clicked[:, :1] * 0 + 1, clicked[:, 6:] * 3], 1)

    out = simulator()(answer, images, codes, 4)
    assert out.shape == (6, 11, 48, 48)
    as_it_was = (out[:, :5] == images).flatten(1).all(1)
    assert as_it_was[out[:, 5:].flatten(1).amax(1) == 0].all()
    assert 0 < out[:, 5:].max() <= 1
    assert torch.equal(out, simulator()(answer, images, codes, 4))
    halves = [simulator()(answer, images[i : i + 3], codes[i : i + 3], 4, range(i, i + 3)) for i in (0, 3)]
    assert torch.equal(out, torch.cat(halves))
    assert not torch.equal(out, simulator()(answer, images, codes, 5))
    assert not torch.equal(out, simulator(1)(answer, images, codes, 4))
    counts = [simulator()(answer, images, codes, n)[:, 5:].flatten(1).amax(1) > 0 for n in range(20)]
    assert 0.4 < torch.stack(counts).float().mean() < 0.9


def test_a_patch_without_signal_lies_about_a_structure_and_nowhere_else() -> None:
    codes = np.ones((96, 96), np.uint8)
    codes[40:56, 40:56] = 2
    for seed in range(20):
        image = torch.full((5, 96, 96), 0.7)
        simulator().erase_patch(image, codes, np.random.default_rng(seed))
        gone = (image < 0.69).numpy()
        assert (gone == gone[0]).all() and image.min() <= 0.2
        assert gone[0][40:56, 40:56].any() and 50 < gone[0].sum() < np.pi * 20**2
        assert not gone[0][:20].any() and not gone[0][76:].any()
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


def test_a_deepedit_run_resumes_to_the_same_weights(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    chosen = replace(settings, method="deepedit")
    whole = train_alone("whole", chosen, tmp_path / "whole", datasets)
    train_alone("killed while saving", chosen, tmp_path / "run", datasets)
    resumed = train_alone("resumed", chosen, tmp_path / "run", datasets)
    assert same(resumed.weights, whole.weights)
    assert same(resumed.ema_weights, whole.ema_weights)


def test_it_may_begin_with_an_automatic_network_and_the_other_way_round(
    edited: Path, checkpoint: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    still = replace(settings, steps=1, learning_rate=0.0, distillation_weight=1.0)
    first = "down.0.0.weight"
    to_clicks = Checkpoint.load(train(replace(still, method="deepedit"), datasets, tmp_path / "a", init=checkpoint))
    before = Checkpoint.load(checkpoint).ema_weights[first]
    assert torch.equal(to_clicks.weights[first][:, :20], before)
    assert not to_clicks.weights[first][:, 20:].any()
    assert to_clicks.spec.clicks == ClickGaussian()
    back = Checkpoint.load(train(still, datasets, tmp_path / "b", init=edited))
    assert torch.equal(back.weights[first], Checkpoint.load(edited).ema_weights[first][:, :20])
    assert back.spec.clicks is None


def test_in_a_mean_of_runs_clicks_mean_what_those_say_that_read_them(edited: Path, checkpoint: Path) -> None:
    first = "down.0.0.weight"
    plain, clicked = (Checkpoint.load(path).ema_weights[first] for path in (checkpoint, edited))
    found = load_mean_checkpoint([checkpoint, edited])
    assert found.spec.clicks == ClickGaussian()
    torch.testing.assert_close(found.ema_weights[first][:, :20], (plain + clicked[:, :20]) / 2)
    torch.testing.assert_close(found.ema_weights[first][:, 20:], clicked[:, 20:])
    back = load_mean_checkpoint([edited, checkpoint])
    assert back.spec.clicks is None
    torch.testing.assert_close(back.ema_weights[first], found.ema_weights[first][:, :20])


def test_the_exported_file_reads_clicks_and_can_begin_a_run(
    edited: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    model = Model.load(export_model(edited, tmp_path / "edit.onnx"))
    assert model.card.spec.clicks == ClickGaussian()
    images = parity_input(model.card.spec)
    assert images.shape[1] == input_channel_count(replace(settings, method="deepedit")) == 5 + len(CLASSES)
    assert (images[:, 5:].max(axis=(0, 2, 3)) > 0.1).all()
    with torch.no_grad():
        expected = Checkpoint.load(edited).ema_network()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(model.run(images), expected, atol=1e-3)
    assert predict(model, np.random.default_rng(0).random((3, 40, 40)).astype(np.float32)).shape == (6, 3, 40, 40)
    chosen = replace(settings, method="deepedit", steps=1)
    found = Checkpoint.load(train(chosen, datasets, tmp_path / "run", init=tmp_path / "edit.onnx"))
    assert found.spec.clicks == ClickGaussian()
