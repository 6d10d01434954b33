from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests import sets

from lumbarseg.datasets import Dataset
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.prepare import Spec
from lumbarseg.train.batches import Source, make
from lumbarseg.train.checkpoint import Checkpoint
from lumbarseg.train.data import gather
from lumbarseg.train.loop import _begin, rate_at, step, train
from lumbarseg.train.losses import Sets
from lumbarseg.train.settings import Settings

KILLED_WHILE_SAVING = """
import json, os, signal, sys
from lumbarseg.datasets import Dataset
from lumbarseg.train.loop import train
from lumbarseg.train.settings import Settings

saves = 0
def fsync(file):
    global saves
    saves += 1
    if saves == 4:
        os.kill(os.getpid(), signal.SIGKILL)

os.fsync = fsync
settings, out, *folders = sys.argv[1:]
train(Settings.from_dict(json.loads(settings)), [Dataset.open(folder) for folder in folders], out)
"""


def same(a: object, b: object) -> bool:
    """Whether two nested values are equal to the last bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_a_run_leaves_a_checkpoint_its_settings_and_a_journal(checkpoint: Path, settings: Settings) -> None:
    found = Checkpoint.load(checkpoint)
    assert found.step == settings.steps
    assert found.settings == settings
    assert found.about["sources"]["0 a"] == [["blobs", "CC BY 4.0"]]
    assert Settings.from_dict(json.loads((checkpoint.parent / "settings.json").read_text())) == settings
    assert list((checkpoint.parent / "log").glob("events*"))
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["checkpoint.pt", "log", "settings.json"]
    assert not same(found.model, found.average)


def test_a_run_killed_while_saving_resumes_to_the_same_weights(
    checkpoint: Path, settings: Settings, datasets: list[Dataset], tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    words = [json.dumps(settings.to_dict()), str(out), *(str(dataset.folder) for dataset in datasets)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED_WHILE_SAVING, *words]
    killed = subprocess.run(command, capture_output=True, text=True, env=env)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert Checkpoint.load(out / "checkpoint.pt").step == 3  # the fourth was never put in its place
    resumed = Checkpoint.load(train(settings, datasets, out, resume=True))
    whole = Checkpoint.load(checkpoint)
    assert resumed.step == whole.step
    assert same(resumed.model, whole.model)
    assert same(resumed.average, whole.average)
    assert same(resumed.optimiser, whole.optimiser)


def test_any_number_of_loaders_trains_the_same(
    checkpoint: Path, settings: Settings, datasets: list[Dataset], tmp_path: Path
) -> None:
    other = Checkpoint.load(train(replace(settings, loaders=1), datasets, tmp_path / "one"))
    assert same(other.model, Checkpoint.load(checkpoint).model)


def test_it_learns(datasets: list[Dataset], settings: Settings) -> None:
    quick = replace(settings, steps=80, rate=1e-2)
    data = gather(quick, datasets, Spec())
    run = _begin(quick, data)
    classes = Sets.of(torch.from_numpy(data.codes.allowed))
    batch = make(Source.of(data.train, ()), settings, 0)
    losses = [step(run, batch, classes) for _ in range(80)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_new_run_may_begin_with_the_weights_of_another(
    checkpoint: Path, settings: Settings, datasets: list[Dataset], tmp_path: Path
) -> None:
    still = replace(settings, steps=1, rate=0.0, seed=8)
    found = Checkpoint.load(train(still, datasets, tmp_path / "new", init=checkpoint))
    before = Checkpoint.load(checkpoint).average
    assert all(torch.equal(found.model[n], v) for n, v in before.items() if n.endswith(".weight"))
    with pytest.raises(ModelError, match="channels"):
        train(replace(settings, channels=(4, 8)), datasets, tmp_path / "other", init=checkpoint)


def test_runs_are_not_mixed_up(checkpoint: Path, settings: Settings, datasets: list[Dataset], tmp_path: Path) -> None:
    run = checkpoint.parent
    with pytest.raises(ModelError, match="a run is here already; continue it with --resume"):
        train(settings, datasets, run)
    with pytest.raises(ModelError, match="started with another rate"):
        train(replace(settings, rate=1.0), datasets, run, resume=True)
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


def test_a_loss_that_is_no_number_stops_the_run(settings: Settings, datasets: list[Dataset], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the loss is nan at step \d+; lower the rate"):
        train(replace(settings, rate=1e30, steps=6), datasets, tmp_path / "wild")


def test_the_rate_rises_then_falls() -> None:
    settings = Settings(steps=1000, warmup=100, rate=1.0, rate_end=0.01)
    rates = [rate_at(settings, step) for step in range(1000)]
    top = rates.index(max(rates))
    assert 90 <= top <= 100
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
