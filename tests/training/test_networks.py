"""MONAI's networks in our loop: built, trained, chosen by memory, exported, and answering like the planar one."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import sets

from lumbarseg.cli.main import main
from lumbarseg.datasets import Dataset
from lumbarseg.errors import ModelError
from lumbarseg.inference import Model, predict
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.data import load_training_data
from lumbarseg.training.export import export_model
from lumbarseg.training.initial_weights import InitialWeights
from lumbarseg.training.memory_budget import estimate_step_bytes, memory_advice, settings_for_budget
from lumbarseg.training.monai_networks import FastInstanceNorm
from lumbarseg.training.sampling import VolumeSampler, make_batch, stream_batches
from lumbarseg.training.settings import BLOCK_NETWORKS, NETWORKS, TrainingSettings
from lumbarseg.training.state import create_state
from lumbarseg.training.trainer import train, train_step
from lumbarseg.training.training_volumes import PartialLabelCodec, load_volumes

WIDTHS = {"unet": (4, 6, 8, 10), "dynunet": (4, 6, 8, 10), "segresnet": (8, 16, 32), "swinunetr": (12,)}
OTHERS = [name for name in NETWORKS if name != "planar"]


def small(settings: TrainingSettings, network: str, **more: int) -> TrainingSettings:
    if network == "swinunetr" and find_spec("einops") is None:
        pytest.skip("needs einops")
    depth = 4 if network in BLOCK_NETWORKS else 0
    crop = 64 if network == "swinunetr" else 32
    return replace(settings, network=network, channels=WIDTHS[network], depth=depth, crop_size=crop, **more)


@pytest.mark.parametrize("network", OTHERS)
def test_the_loss_of_each_falls(network: str, settings: TrainingSettings, datasets: list[Dataset]) -> None:
    run_settings = small(settings, network, steps=12)
    data = load_training_data(run_settings, datasets[:1], PreprocessingSpec())
    state = create_state(replace(run_settings, learning_rate=3e-3), data)
    assert (state.spec.depth, state.spec.tile) == (run_settings.depth, run_settings.crop_size)
    norms = [module for module in state.network.modules() if isinstance(module, torch.nn.InstanceNorm3d)]
    assert all(isinstance(norm, FastInstanceNorm) for norm in norms)
    assert bool(norms) == (network in BLOCK_NETWORKS)
    batch = make_batch(VolumeSampler.from_volumes(data.train, ()), run_settings, 0)
    losses = [train_step(state, batch) for _ in range(12)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert all(torch.isfinite(value).all() for value in state.ema.weights.values())


@pytest.mark.slow
@pytest.mark.parametrize("network", OTHERS)
def test_each_is_trained_exported_and_predicts(
    network: str, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    run_settings = small(settings, network, steps=2, validation_interval=2, image_interval=2)
    path = train(run_settings, datasets, tmp_path / "run")
    assert Checkpoint.load(path).settings == run_settings
    model = Model.load(export_model(path, tmp_path / "mine.onnx"))
    assert (model.card.spec.depth, model.card.spec.tile) == (run_settings.depth, run_settings.crop_size)
    for shape in ((3, 20, 40), (7, 70, 33)):
        result = predict(model, np.random.default_rng(0).random(shape, np.float32))
        assert result.shape == (6, *shape)
        np.testing.assert_allclose(result.sum(0), 1, atol=1e-5)
    with pytest.raises(ModelError, match=f"holds the network '{network}', whose weights cannot be read back"):
        InitialWeights.load(tmp_path / "mine.onnx")


def test_a_run_of_blocks_goes_on_and_begins_another(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    run_settings = small(settings, "unet", steps=3)
    complete = Checkpoint.load(train(run_settings, datasets, tmp_path / "whole"))
    train(replace(run_settings, steps=3, minutes=1e-9), datasets, tmp_path / "cut")
    assert Checkpoint.load(tmp_path / "cut" / "checkpoint.pt").step < 3
    resumed = Checkpoint.load(train(run_settings, datasets, tmp_path / "cut", resume=True))
    assert resumed.step == 3
    assert resumed.weights.keys() == complete.weights.keys()
    still = replace(run_settings, steps=1, learning_rate=0.0, weight_decay=0.0, seed=8)
    result = Checkpoint.load(train(still, datasets, tmp_path / "new", init=tmp_path / "whole"))
    assert all(torch.equal(value, complete.ema_weights[name]) for name, value in result.weights.items())


def test_blocks_are_a_function_of_seed_and_step(datasets: list[Dataset], settings: TrainingSettings) -> None:
    run_settings = small(settings, "unet")
    sampler = VolumeSampler.from_volumes(
        load_volumes(
            datasets[:1], "train", PartialLabelCodec.from_tables([datasets[0].label_table]), PreprocessingSpec()
        ),
        (),
    )
    images, codes = make_batch(sampler, run_settings, 5)
    assert images.shape == (2, 1, 4, 32, 32)
    assert codes.shape == (2, 4, 32, 32)
    (first,) = stream_batches(sampler, run_settings, 5, 6)
    assert torch.equal(first[0], images)
    assert torch.equal(first[1], codes)
    assert not torch.equal(make_batch(sampler, run_settings, 6)[0], images)


def test_slices_of_a_block_keep_their_place(datasets: list[Dataset], settings: TrainingSettings) -> None:
    run_settings = replace(small(settings, "unet"), depth=8, batch_size=1)  # exams of six slices, each the same squares
    sampler = VolumeSampler.from_volumes(
        load_volumes(
            datasets[:1], "train", PartialLabelCodec.from_tables([datasets[0].label_table]), PreprocessingSpec()
        ),
        (),
    )
    for number in range(8):
        codes = make_batch(sampler, run_settings, number)[1][0].numpy()
        inside = np.flatnonzero(codes.any(axis=(1, 2)))
        assert len(inside) <= 6
        assert np.ptp(codes[inside].astype(int), axis=0).max(initial=0) == 0


@pytest.mark.parametrize("layout", [torch.channels_last_3d, torch.contiguous_format])
def test_instance_norm_is_that_of_torch_and_leaves_the_layout(layout: torch.memory_format) -> None:
    fast_norm, torch_norm = FastInstanceNorm(6, affine=True), torch.nn.InstanceNorm3d(6, affine=True)
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        fast_norm.weight.uniform_(0.5, 2.0, generator=rng)
        fast_norm.bias.normal_(generator=rng)
    torch_norm.load_state_dict(fast_norm.state_dict())
    values = 40 + 9 * torch.randn(3, 6, 4, 10, 8, generator=rng)
    pull = torch.randn(values.shape, generator=rng)
    result = []
    for norm in (fast_norm, torch_norm):
        images = values.contiguous(memory_format=layout).requires_grad_()
        normalised = norm(images)
        (normalised * pull).sum().backward()
        result.append((normalised, images.grad, norm.weight.grad, norm.bias.grad))
    assert result[0][0].is_contiguous(memory_format=layout)
    for one, other in zip(*result, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert torch.equal(fast_norm.eval()(values), torch_norm.eval()(values))


@pytest.mark.parametrize("network", ["unet", "segresnet", "dynunet"])
def test_more_memory_gives_a_larger_network(network: str) -> None:
    result = [
        settings_for_budget(TrainingSettings(), {"network": network, "memory_gb": memory})
        for memory in (2.0, 8.0, 24.0)
    ]
    for settings, memory in zip(result, (2e9, 8e9, 24e9), strict=True):
        assert 0.2 * memory < estimate_step_bytes(settings) <= memory
        assert settings.memory_gb == memory / 1e9
        assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    sizes = [(settings.channels, settings.crop_size * settings.batch_size) for settings in result]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_explicit_sizes_stay_and_too_little_memory_is_reported() -> None:
    result = settings_for_budget(
        TrainingSettings(),
        {"network": "unet", "memory_gb": 2.0, "crop_size": 96, "batch_size": 1, "seed": 4, "learning_rate": 0.1},
    )
    assert (result.crop_size, result.batch_size, result.seed, result.learning_rate) == (96, 1, 4, 0.1)
    planar = settings_for_budget(TrainingSettings(), {"memory_gb": 1.25})
    assert planar == replace(TrainingSettings(), memory_gb=1.25, batch_size=planar.batch_size)
    assert 2 <= planar.batch_size < TrainingSettings.batch_size
    assert settings_for_budget(TrainingSettings(), {"memory_gb": 8.0}).batch_size == TrainingSettings.batch_size
    assert memory_advice(result) == "--memory (now 2GB) in a new run, --batch-size (now 1) or --crop-size (now 96)"
    assert memory_advice(planar) == f"--batch-size (now {planar.batch_size}) or --crop-size (now 192)"
    with pytest.raises(ModelError, match=r"--memory 0.5GB: training dynunet needs about 1\.\d GB at least; give more"):
        settings_for_budget(TrainingSettings(), {"network": "dynunet", "memory_gb": 0.5})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "unet", "method": "deepedit"}, "unet reads no clicks; deepedit needs the network planar"),
        ({"depth": 16}, "planar reads no blocks"),
        ({"network": "unet", "depth": 6}, "depth must be a multiple of 4"),
        ({"network": "segresnet", "channels": (8, 12, 16)}, "double from level to level"),
        ({"network": "swinunetr", "channels": (16,)}, "a multiple of 12"),
    ],
)
def test_impossible_networks_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        TrainingSettings(**values)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_command_trains_what_segment_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets.write(tmp_path / "blobs", train=5, val=0)
    arguments = ["train", str(tmp_path / "blobs"), "-o", str(tmp_path / "run"), "--network", "unet", "--memory", "2GB"]
    quick = ["--crop-size", "32", "--batch-size", "1", "--steps", "1", "--threads", "1", "--precision", "float32"]
    assert main([*arguments, *quick, "--method", "deepedit"]) == 1
    assert "unet reads no clicks" in capsys.readouterr().err
    assert main([*arguments, *quick, "--init", "nowhere"]) == 1
    assert main([*arguments, *quick]) == 0
    settings = TrainingSettings.from_dict(json.loads((tmp_path / "run" / "settings.json").read_text()))
    assert (settings.network, settings.memory_gb, settings.crop_size, settings.depth) == ("unet", 2.0, 32, 16)
    assert main([*arguments[:4], "--resume", "--steps", "2"]) == 0
    assert main(["export", str(tmp_path / "run"), "-o", str(tmp_path / "mine.onnx")]) == 0
    image = next((tmp_path / "blobs" / "images").glob("*.nii.gz"))
    capsys.readouterr()
    code = main(["segment", str(image), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "mine.onnx")])
    err = capsys.readouterr().err
    assert code in (0, 3) or "no lumbar spine found" in err
