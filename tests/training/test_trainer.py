"""The training loop: what a run writes, resuming, initial weights, its ends, and its errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import sets
from tests.training.runs import is_equal, resume_after_kill

from lumbarseg.anatomy import Kind
from lumbarseg.datasets import Dataset
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import Model, predict
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training import recorder
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.data import load_training_data
from lumbarseg.training.export import export_model
from lumbarseg.training.history import History
from lumbarseg.training.initial_weights import InitialWeights
from lumbarseg.training.losses import distillation_loss
from lumbarseg.training.networks import load_network
from lumbarseg.training.run_result import RunResult
from lumbarseg.training.sampling import Batch, VolumeSampler, make_batch
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.state import TrainingState, create_state
from lumbarseg.training.trainer import train, train_step

ONLY_BODIES = {0: ("background", "disc", "canal", "sacrum", "arch"), 1: ("body",)}


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return sets.write(tmp_path_factory.mktemp("sets") / "bodies", train=2, val=0, table=ONLY_BODIES)


def first_step(
    settings: TrainingSettings, datasets: list[Dataset], initial_weights: InitialWeights | None = None
) -> tuple[TrainingState, Batch]:
    """Return a run before its first step, and a batch for it."""
    known_kinds = initial_weights.known_kinds if initial_weights else None
    data = load_training_data(settings, datasets, PreprocessingSpec(), known_kinds)
    batch = make_batch(VolumeSampler.from_volumes(data.train, ()), settings, 0)
    return create_state(settings, data, initial_weights), batch


def test_a_run_leaves_a_checkpoint_its_settings_and_a_log(checkpoint: Path, settings: TrainingSettings) -> None:
    last = Checkpoint.load(checkpoint)
    assert last.step == settings.steps
    assert last.settings == settings
    assert last.details["sources"]["0 a"] == [["blobs", "CC BY 4.0"]]
    assert TrainingSettings.from_dict(json.loads((checkpoint.parent / "settings.json").read_text())) == settings
    assert list((checkpoint.parent / "log").glob("events*"))
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == [
        *("checkpoint.pt", "history.csv", "log", "result.json", "settings.json")
    ]
    assert not is_equal(last.weights, last.ema_weights)


@pytest.mark.parametrize("method", ["segmentation", "deepedit"])
def test_a_run_killed_while_saving_resumes_to_the_same_weights(
    method: str, settings: TrainingSettings, datasets: list[Dataset], checkpoint: Path, tmp_path: Path
) -> None:
    settings = replace(settings, method=method, distillation_weight=0.5)
    killed, resumed, uninterrupted = resume_after_kill(settings, tmp_path / "run", datasets, checkpoint)
    assert (killed.step, resumed.step) == (3, settings.steps)  # the fourth checkpoint was never put in its place
    for name in ("step", "weights", "ema_weights", "optimizer", "teacher_weights"):
        assert is_equal(getattr(resumed, name), getattr(uninterrupted, name)), name
    assert resumed.details["init"] == uninterrupted.details["init"]
    assert is_equal(resumed.teacher_weights["head.weight"], Checkpoint.load(checkpoint).ema_weights["head.weight"])
    folders = (tmp_path / "run", tmp_path / "run-uninterrupted")
    rows, expected_rows = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in History.read(folder / "history.csv").rows]
        for folder in folders
    )
    assert [row["step"] for row in rows] == [0, 4, 8]
    assert rows == expected_rows
    first, second = (RunResult.read(folder) for folder in folders)
    assert first.finished
    assert first.epochs == second.epochs == pytest.approx(8 * settings.batch_size / 36)
    assert first.exams == {"train": 6, "held_out": 1, "left_out": 0}


def test_any_number_of_loader_threads_trains_the_same(
    checkpoint: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    other = Checkpoint.load(train(replace(settings, loader_threads=1), datasets, tmp_path / "one"))
    assert is_equal(other.weights, Checkpoint.load(checkpoint).weights)


def test_the_loss_falls(datasets: list[Dataset], settings: TrainingSettings) -> None:
    state, batch = first_step(replace(settings, steps=80, learning_rate=1e-2), datasets)
    losses = [train_step(state, batch) for _ in range(80)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_run_may_start_from_the_weights_of_another(
    checkpoint: Path, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    still = replace(settings, steps=1, learning_rate=0.0, seed=8)
    last = Checkpoint.load(train(still, datasets, tmp_path / "new", init=checkpoint))
    initial = Checkpoint.load(checkpoint).ema_weights
    assert all(torch.equal(last.weights[n], v) for n, v in initial.items() if n.endswith(".weight"))
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
        train(settings, datasets, tmp_path / "missing", resume=True)
    with pytest.raises(DatasetError, match="no dataset to train on"):
        train(settings, [], tmp_path / "nothing")
    empty = sets.write(tmp_path / "empty", train=0, val=1)
    with pytest.raises(DatasetError, match="has no case in the split train"):
        train(settings, [*datasets, empty], tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_loss_that_is_not_finite_stops_the_run(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"the loss is nan at step \d+; lower --learning-rate"):
        train(replace(settings, learning_rate=1e30, steps=6), datasets, tmp_path / "diverging")


def test_the_learning_rate_rises_then_falls() -> None:
    settings = TrainingSettings(steps=1000, warmup_steps=100, learning_rate=1.0, final_learning_rate_fraction=0.01)
    rates = [settings.learning_rate_at(step) for step in range(1000)]
    top = rates.index(max(rates))
    assert 90 <= top <= 100
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_what_is_not_annotated_is_never_predicted(settings: TrainingSettings, bodies: Dataset, tmp_path: Path) -> None:
    last = Checkpoint.load(train(settings, [bodies], tmp_path / "run"))
    assert last.trained_names == ("background", "body")
    model = Model.load(export_model(tmp_path / "run" / "checkpoint.pt", tmp_path / "bodies.onnx"))
    assert model.card.trained_names == last.trained_names
    assert model.card.output_kinds == {Kind.BACKGROUND, Kind.BODY}
    probabilities = predict(model, np.random.default_rng(0).random((3, 40, 64), np.float32))
    assert probabilities[2:].max() < 1e-6
    second = Checkpoint.load(train(settings, [bodies], tmp_path / "second", init=tmp_path / "run"))
    assert second.trained_names == last.trained_names
    assert second.details["init"]["step"] == settings.steps
    resumed = Checkpoint.load(train(settings, [bodies], tmp_path / "run", resume=True))
    assert resumed.trained_names == last.trained_names


def test_distillation_keeps_what_labels_leave_open(
    settings: TrainingSettings, checkpoint: Path, bodies: Dataset
) -> None:
    initial_weights = InitialWeights.load(checkpoint)
    divergence = {}
    for weight in (0.0, 1.0):
        run_settings = replace(settings, distillation_weight=weight, steps=40, learning_rate=1e-2)
        state, batch = first_step(run_settings, [bodies], initial_weights)
        assert (state.teacher is None) == (weight == 0)
        for _ in range(40):
            train_step(state, batch)
        teacher = load_network(run_settings, initial_weights.weights, state.device)
        images, codes = batch[0], batch[1].long()
        with torch.no_grad():
            divergence[weight] = float(
                distillation_loss(state.network(images), teacher(images), codes, state.label_sets)
            )
    assert divergence[1.0] < 0.5 * divergence[0.0]


def test_epochs_are_counted_and_may_be_more_later(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    slices = 6 * 6  # of six training exams
    once = replace(settings, epochs=1)
    assert Checkpoint.load(train(once, datasets, tmp_path / "run")).step == slices / settings.batch_size
    twice = Checkpoint.load(train(replace(once, epochs=2), datasets, tmp_path / "run", resume=True))
    assert twice.step == 2 * slices / settings.batch_size


def test_a_run_ends_at_its_time_limit(settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path) -> None:
    short = replace(settings, steps=100_000, minutes=0.01, checkpoint_seconds=60.0)
    last = Checkpoint.load(train(short, datasets, tmp_path / "run"))
    assert 0 < last.step < 100_000
    assert last.elapsed_seconds >= 0.6
    assert Checkpoint.load(train(short, datasets, tmp_path / "run", resume=True)).step == last.step
    final = short.final_learning_rate_fraction
    assert short.learning_rate_at(500, 0.3) == pytest.approx(short.learning_rate * (0.5 + 0.5 * final), rel=0.02)
    longer = replace(short, minutes=0.015)
    assert Checkpoint.load(train(longer, datasets, tmp_path / "run", resume=True)).step > last.step


def test_the_time_limit_includes_a_validation_that_was_never_run(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated = []
    validate = recorder.validate
    monkeypatch.setattr(recorder, "validate", lambda *args: validated.append(len(args[1])) or validate(*args))
    short = replace(settings, steps=100_000, minutes=0.01, validation_interval=100_000)
    result = Checkpoint.load(train(short, datasets, tmp_path / "run"))
    exams = len(load_training_data(short, datasets, PreprocessingSpec(), None).val)
    assert validated == [1, exams]  # one exam shows how long all of them take
    assert 0 < result.step < 100_000


def test_a_run_without_improvement_ends_early(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    impatient = replace(settings, steps=50, validation_interval=3, patience=2)  # blobs have no level names
    assert Checkpoint.load(train(impatient, datasets, tmp_path / "run")).step == 6


def test_a_run_without_validation_exams_prints_a_note(
    settings: TrainingSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = sets.write(tmp_path / "one", train=1, val=0)
    train(replace(settings, steps=1), [dataset], tmp_path / "run")
    assert "no validation exams" in capsys.readouterr().err


def test_weights_stay_when_the_loss_is_not_finite(settings: TrainingSettings, datasets: list[Dataset]) -> None:
    state, (images, codes) = first_step(settings, datasets)
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    with pytest.raises(ModelError, match="the loss is nan at step 1; lower --learning-rate"):
        train_step(state, (images * torch.nan, codes))
    assert all(torch.equal(value, before[name]) for name, value in state.network.named_parameters())
    assert state.step == 0


def test_an_error_for_too_little_memory_names_what_to_lower(
    settings: TrainingSettings, datasets: list[Dataset]
) -> None:
    state, (images, codes) = first_step(settings, datasets)
    vast = images[:1].expand(50_000_000, -1, -1, -1)
    advice = r"not enough memory for a step; lower --batch-size \(now 2\) or --crop-size \(now 32\)"
    with pytest.raises(ModelError, match=advice):
        train_step(state, (vast, codes))


def test_unusable_initial_weights_and_targets_are_refused(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"shipped\.onnx: is a planar network with channels"):
        train(settings, datasets, tmp_path / "run", init="shipped")
    dataset = sets.write(tmp_path / "l3", table={0: ("background",), 1: ("L3",)})
    with pytest.raises(DatasetError, match="no training case annotates L4"):
        train(replace(settings, targets=("L4",)), [dataset], tmp_path / "run")
    assert not (tmp_path / "run").exists()
