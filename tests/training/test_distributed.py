"""Two processes on the loopback train what one does; one that dies takes the other with it, and both go on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lumbarseg.datasets import Dataset
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.checkpoint import BEST_FILE, Checkpoint
from lumbarseg.training.data import load_training_data
from lumbarseg.training.distributed import ProcessGroup
from lumbarseg.training.history import History
from lumbarseg.training.sampling import VolumeSampler, make_batch
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import train

WORKER = """
import json, os, signal, sys
from lumbarseg.datasets import Dataset
from lumbarseg.errors import LumbarsegError
from lumbarseg.training import trainer
from lumbarseg.training.settings import TrainingSettings

settings, out, end, *folders = sys.argv[1:]
train_step = trainer.train_step
def killed_step(state, batch, label_sets):
    if state.process_group.rank == 1 and state.step == int(end):
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(state, batch, label_sets)

trainer.train_step = killed_step
try:
    datasets = [Dataset.open(folder) for folder in folders]
    resume = os.path.exists(os.path.join(out, "checkpoint.pt"))
    trainer.train(TrainingSettings.from_dict(json.loads(settings)), datasets, out, resume=resume)
except LumbarsegError as error:
    sys.exit(f"error: {error}")
"""
TOLERANCE = 1e-4  # of a weight after eight steps; the sums of both are rounded in another order


def two(settings: TrainingSettings, out: Path, datasets: list[Dataset], end: int = -1) -> list[tuple[int, str]]:
    """Exit codes and errors of two processes; the second kills itself before step `end`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [json.dumps(settings.to_dict()), str(out), str(end), *(str(dataset.folder) for dataset in datasets)]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    env = {**os.environ, **world, "PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, *words],
            env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120)[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, told, strict=True)]


def close(first: Path, second: Path) -> bool:
    a, b = (Checkpoint.load(path).weights for path in (first, second))
    return a.keys() == b.keys() and all(torch.allclose(a[n].double(), b[n].double(), atol=TOLERANCE) for n in a)


def test_a_batch_is_dealt_out_and_nothing_else_changes(settings: TrainingSettings, datasets: list[Dataset]) -> None:

    settings = replace(settings, batch_size=5)
    source = VolumeSampler.from_volumes(load_training_data(settings, datasets, PreprocessingSpec()).train, ())
    whole = make_batch(source, settings, 3)
    for rank in range(2):
        part = ProcessGroup(rank, 2).sample_slice
        own = make_batch(source, settings, 3, part)
        assert torch.equal(own[0], whole[0][part]) and torch.equal(own[1], whole[1][part])


@pytest.mark.parametrize("batch", [pytest.param(4, marks=pytest.mark.slow), 3])
def test_two_processes_train_what_one_does(
    batch: int, settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    settings = replace(settings, batch_size=batch)
    alone = train(settings, datasets, tmp_path / "alone")
    told = two(settings, tmp_path / "two", datasets)
    assert [code for code, _ in told] == [0, 0], told
    assert close(alone, tmp_path / "two" / alone.name)
    losses = [[row["loss"] for row in History.read(tmp_path / n / "history.csv").rows] for n in ("alone", "two")]
    assert losses[0] and losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert (tmp_path / "two" / BEST_FILE).exists() == (tmp_path / "alone" / BEST_FILE).exists()


@pytest.mark.slow
def test_when_one_dies_the_other_says_so_and_both_go_on(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    (code, told), (other, _) = two(settings, tmp_path / "two", datasets, end=5)
    assert (code, other) == (1, -signal.SIGKILL)
    lines = [line for line in told.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "another process of this run has ended" in lines[0] and "--resume" in lines[0]
    assert Checkpoint.load(tmp_path / "two" / "checkpoint.pt").step == 5
    assert [code for code, _ in two(settings, tmp_path / "two", datasets)] == [0, 0]
    alone = train(settings, datasets, tmp_path / "alone")
    assert close(alone, tmp_path / "two" / alone.name)


@pytest.mark.slow
def test_a_batch_too_small_to_share_is_refused(
    settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path
) -> None:
    for code, told in two(replace(settings, batch_size=1, crop_size=64), tmp_path / "two", datasets):
        assert code == 1 and "a batch of 1 for 2 processes" in told
    assert not (tmp_path / "two").exists()


def test_one_process_alone_needs_no_other() -> None:
    value = torch.tensor(3.0)
    assert ProcessGroup().sum_over_processes(value) is value
    assert ProcessGroup().broadcast(1.0, 2.0) == [1.0, 2.0]
