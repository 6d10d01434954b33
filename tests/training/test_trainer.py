from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import sets

from lumbarseg.anatomy import Kind
from lumbarseg.datasets import Dataset
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import Model, predict
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.data import load_training_data
from lumbarseg.training.export import export_model
from lumbarseg.training.history import History, read_result
from lumbarseg.training.initial_weights import InitialWeights
from lumbarseg.training.losses import LabelSets, distillation_loss
from lumbarseg.training.sampling import Batch, VolumeSampler, make_batch
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import (
    TrainingState,
    _create_state,
    _evaluation_network,
    learning_rate_at,
    train,
    train_step,
)

IN_A_PROCESS_OF_ITS_OWN = """
import json, os, signal, sys
from lumbarseg.datasets import Dataset
from lumbarseg.training.trainer import train
from lumbarseg.training.settings import TrainingSettings

saves = 0
def killed(file):
    global saves
    saves += 1
    if saves == 4:
        os.kill(os.getpid(), signal.SIGKILL)

how, settings, out, init, *folders = sys.argv[1:]
if how == "killed while saving":
    os.fsync = killed
datasets = [Dataset.open(folder) for folder in folders]
train(TrainingSettings.from_dict(json.loads(settings)), datasets, out, how == "resumed", init or None)
"""


def train_alone(
    how: str, settings: TrainingSettings, out: Path, datasets: list[Dataset], init: Path | str = ""
) -> Checkpoint:
    """A run as a person's: in a process that did nothing before. how: "whole", "killed while saving" or "resumed"."""
    words = [how, json.dumps(settings.to_dict()), str(out), str(init), *(str(dataset.folder) for dataset in datasets)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == (-signal.SIGKILL if how == "killed while saving" else 0), done.stderr
    return Checkpoint.load(out / "checkpoint.pt")


def same(a: object, b: object) -> bool:
    """Whether two nested values are equal to the last bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_run_leaves_a_checkpoint_its_settings_and_a_journal(checkpoint: Path, settings: TrainingSettings) -> None:
    found = Checkpoint.load(checkpoint)
    assert found.step == settings.steps
    assert found.settings == settings
    assert found.details["sources"]["0 a"] == [["blobs", "CC BY 4.0"]]
    assert TrainingSettings.from_dict(json.loads((checkpoint.parent / "settings.json").read_text())) == settings
    assert list((checkpoint.parent / "log").glob("events*"))
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == [
        *("checkpoint.pt", "history.csv", "log", "result.json", "settings.json")
    ]
    assert not same(found.weights, found.ema_weights)


def test_a_run_killed_while_saving_resumes_to_the_same_weights(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    unbroken, out = tmp_path / "whole", tmp_path / "killed"
    whole = train_alone("whole", settings, unbroken, datasets)
    assert (
        train_alone("killed while saving", settings, out, datasets).step == 3
    )  # the fourth was never put in its place
    resumed = train_alone("resumed", settings, out, datasets)
    assert resumed.step == whole.step
    assert same(resumed.weights, whole.weights)
    assert same(resumed.ema_weights, whole.ema_weights)
    assert same(resumed.optimizer, whole.optimizer)
    rows, same_rows = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in History.read(folder / "history.csv").rows]
        for folder in (out, unbroken)
    )
    assert [row["step"] for row in rows] == [4, 8]
    assert rows == same_rows
    results = [read_result(folder) for folder in (out, unbroken)]
    assert results[0]["finished"]
    assert results[0]["epochs"] == results[1]["epochs"] == pytest.approx(8 * settings.batch_size / 36)
    assert results[0]["exams"] == {"train": 6, "held_out": 1, "left_out": 0}


def test_any_number_of_loaders_trains_the_same(
    checkpoint: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    other = Checkpoint.load(train(replace(settings, loader_threads=1), datasets, tmp_path / "one"))
    assert same(other.weights, Checkpoint.load(checkpoint).weights)


def test_it_learns(datasets: list[Dataset], settings: TrainingSettings) -> None:
    quick = replace(settings, steps=80, learning_rate=1e-2)
    data = load_training_data(quick, datasets, PreprocessingSpec())
    run = _create_state(quick, data)
    classes = LabelSets.of(torch.from_numpy(data.codec.allowed))
    batch = make_batch(VolumeSampler.from_volumes(data.train, ()), settings, 0)
    losses = [train_step(run, batch, classes) for _ in range(80)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_new_run_may_begin_with_the_weights_of_another(
    checkpoint: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    still = replace(settings, steps=1, learning_rate=0.0, seed=8)
    found = Checkpoint.load(train(still, datasets, tmp_path / "new", init=checkpoint))
    before = Checkpoint.load(checkpoint).ema_weights
    assert all(torch.equal(found.weights[n], v) for n, v in before.items() if n.endswith(".weight"))
    with pytest.raises(ModelError, match="channels"):
        train(replace(settings, channels=(4, 8)), datasets, tmp_path / "other", init=checkpoint)


def test_runs_are_not_mixed_up(
    checkpoint: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    run = checkpoint.parent
    with pytest.raises(ModelError, match="a run is here already; continue it with --resume"):
        train(settings, datasets, run)
    with pytest.raises(ModelError, match="started with another learning_rate"):
        train(replace(settings, learning_rate=1.0), datasets, run, resume=True)
    with pytest.raises(DatasetError, match="the training data changed"):
        train(settings, datasets[:1], run, resume=True)
    with pytest.raises(ModelError, match="not found"):
        train(settings, datasets, tmp_path / "nowhere", resume=True)
    with pytest.raises(DatasetError, match="no dataset to train on"):
        train(settings, [], tmp_path / "nothing")
    empty = sets.write(tmp_path / "empty", train=0, val=1)
    with pytest.raises(DatasetError, match="holds no case of the split train"):
        train(settings, [*datasets, empty], tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_loss_that_is_no_number_stops_the_run(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"the loss is nan at step \d+; lower the rate"):
        train(replace(settings, learning_rate=1e30, steps=6), datasets, tmp_path / "wild")


def test_the_rate_rises_then_falls() -> None:
    settings = TrainingSettings(steps=1000, warmup_steps=100, learning_rate=1.0, final_learning_rate_fraction=0.01)
    rates = [learning_rate_at(settings, step) for step in range(1000)]
    top = rates.index(max(rates))
    assert 90 <= top <= 100
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def run_of(
    settings: TrainingSettings, datasets: list[Dataset], **words: object
) -> tuple[TrainingState, LabelSets, Batch]:
    """A run at its first step, and a batch for it."""
    data = load_training_data(settings, datasets, PreprocessingSpec())
    run = _create_state(settings, data, **words)  # type: ignore[arg-type]
    return (
        run,
        LabelSets.of(torch.from_numpy(data.codec.allowed)),
        make_batch(VolumeSampler.from_volumes(data.train, ()), settings, 0),
    )


def test_what_nobody_drew_is_never_found(settings: TrainingSettings, tmp_path: Path) -> None:
    table = {0: ("background", "disc", "canal", "sacrum", "arch"), 1: ("body",)}
    dataset = sets.write(tmp_path / "bodies", train=2, val=0, table=table)
    found = Checkpoint.load(train(settings, [dataset], tmp_path / "run"))
    assert found.trained_names == ("background", "body")
    model = Model.load(export_model(tmp_path / "run" / "checkpoint.pt", tmp_path / "bodies.onnx"))
    assert model.card.trained_names == found.trained_names
    assert model.card.output_kinds == {Kind.BACKGROUND, Kind.BODY}
    answer = predict(model, np.random.default_rng(0).random((3, 40, 64), np.float32))
    assert answer[2:].max() < 1e-6
    again = Checkpoint.load(train(settings, [dataset], tmp_path / "again", init=tmp_path / "run"))
    assert again.trained_names == found.trained_names
    assert again.details["init"]["step"] == settings.steps
    assert (
        Checkpoint.load(train(settings, [dataset], tmp_path / "run", resume=True)).trained_names == found.trained_names
    )


def test_distillation_keeps_what_labels_leave_open(
    settings: TrainingSettings, checkpoint: Path, tmp_path: Path
) -> None:
    table = {0: ("background", "disc", "canal", "sacrum", "arch"), 1: ("body",)}
    dataset = sets.write(tmp_path / "bodies", train=2, val=0, table=table)
    keep = replace(settings, distillation_weight=1.0, steps=40, learning_rate=1e-2)
    start = InitialWeights.load(checkpoint)
    far = {}
    for distil in (0.0, 1.0):
        chosen = replace(keep, distillation_weight=distil)
        data = load_training_data(chosen, [dataset], PreprocessingSpec(), start.known_kinds)
        run = _create_state(chosen, data, start)
        assert (run.teacher is None) == (distil == 0)
        classes = LabelSets.of(torch.from_numpy(data.codec.allowed))
        batch = make_batch(VolumeSampler.from_volumes(data.train, ()), chosen, 0)
        for _ in range(40):
            train_step(run, batch, classes)
        teacher = _evaluation_network(chosen, start.weights, run.device)
        with torch.no_grad():
            far[distil] = float(distillation_loss(run.network(batch[0]), teacher(batch[0]), batch[1].long(), classes))
    assert far[1.0] < 0.5 * far[0.0]


def test_a_run_with_a_teacher_goes_on_with_it(
    settings: TrainingSettings, datasets: list[Dataset], checkpoint: Path, tmp_path: Path
) -> None:
    keep = replace(settings, distillation_weight=0.5)
    whole = train_alone("whole", keep, tmp_path / "whole", datasets, init=checkpoint)
    train_alone("killed while saving", keep, tmp_path / "killed", datasets, init=checkpoint)
    resumed = train_alone("resumed", keep, tmp_path / "killed", datasets)
    assert same(resumed.weights, whole.weights)
    assert same(resumed.teacher_weights, Checkpoint.load(checkpoint).ema_weights)
    assert resumed.details["init"] == whole.details["init"]


def test_epochs_are_counted_and_may_be_more_later(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    slices = 6 * 6  # of six training exams
    once = replace(settings, epochs=1)
    assert Checkpoint.load(train(once, datasets, tmp_path / "run")).step == slices / settings.batch_size
    more = replace(once, epochs=2)
    assert (
        Checkpoint.load(train(more, datasets, tmp_path / "run", resume=True)).step == 2 * slices / settings.batch_size
    )


def test_a_run_ends_with_its_time(settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path) -> None:
    short = replace(settings, steps=100_000, minutes=0.02, checkpoint_seconds=60.0)
    path = train(short, datasets, tmp_path / "run")
    found = Checkpoint.load(path)
    assert 0 < found.step < 100_000
    assert found.elapsed_seconds >= 1.2
    assert Checkpoint.load(train(short, datasets, tmp_path / "run", resume=True)).step == found.step
    assert learning_rate_at(short, 500, 0.6) == pytest.approx(
        short.learning_rate * (0.5 + 0.5 * short.final_learning_rate_fraction), rel=0.02
    )
    longer = replace(short, minutes=0.03)
    assert Checkpoint.load(train(longer, datasets, tmp_path / "run", resume=True)).step > found.step


def test_a_run_that_gets_no_better_ends_early(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    tired = replace(settings, steps=50, validation_interval=3, patience=2)  # nothing can be named in blobs
    assert Checkpoint.load(train(tired, datasets, tmp_path / "run")).step == 6


def test_nothing_held_out_is_said(
    settings: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = sets.write(tmp_path / "one", train=1, val=0)
    train(replace(settings, steps=1), [dataset], tmp_path / "run")
    assert "no exam is held out" in capsys.readouterr().err


def test_weights_stay_what_they_were_before_a_step_that_is_no_number(
    settings: TrainingSettings, datasets: list[Dataset]
) -> None:
    run, classes, (images, codes) = run_of(settings, datasets)
    before = {name: value.clone() for name, value in run.network.named_parameters()}
    with pytest.raises(ModelError, match="the loss is nan at step 1; lower the rate"):
        train_step(run, (images * torch.nan, codes), classes)
    assert all(torch.equal(value, before[name]) for name, value in run.network.named_parameters())
    assert run.step == 0


def test_too_little_memory_is_answered_with_what_to_lower(settings: TrainingSettings, datasets: list[Dataset]) -> None:
    run, classes, (images, codes) = run_of(settings, datasets)
    vast = images[:1].expand(50_000_000, -1, -1, -1)
    with pytest.raises(
        ModelError, match=r"not enough memory for a step; lower --batch-size \(now 2\) or --crop-size \(now 32\)"
    ):
        train_step(run, (vast, codes), classes)


def test_a_wrong_beginning_is_refused(settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"shipped\.onnx: is a planar network with channels"):
        train(settings, datasets, tmp_path / "run", init="shipped")
    dataset = sets.write(tmp_path / "l3", table={0: ("background",), 1: ("L3",)})
    with pytest.raises(DatasetError, match="no training case in which L4 was drawn"):
        train(replace(settings, targets=("L4",)), [dataset], tmp_path / "run")
    assert not (tmp_path / "run").exists()
