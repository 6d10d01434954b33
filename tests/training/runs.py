"""Runs in processes of their own: killed while they save, resumed, and trained side by side."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch

from lumbarseg.datasets import Dataset
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import train

_KILLED_WHILE_SAVING = """
import json, os, signal, sys
from lumbarseg.datasets import Dataset
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import train

saves = 0
def kill_in_fourth(file):
    global saves
    saves += 1
    if saves == 4:
        os.kill(os.getpid(), signal.SIGKILL)

settings, init, folder, *datasets = sys.argv[1:]
os.fsync = kill_in_fourth
datasets = [Dataset.open(path) for path in datasets]
train(TrainingSettings.from_dict(json.loads(settings)), datasets, folder, init=init or None)
"""
_ONE_OF_TWO = """
import json, os, signal, sys
from lumbarseg.datasets import Dataset
from lumbarseg.errors import LumbarsegError
from lumbarseg.training import trainer
from lumbarseg.training.settings import TrainingSettings

settings, folder, last_step, *datasets = sys.argv[1:]
train_step = trainer.train_step
def killed_step(state, batch):
    if state.process_group.rank == 1 and state.step == int(last_step):
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(state, batch)

trainer.train_step = killed_step
try:
    datasets = [Dataset.open(path) for path in datasets]
    resume = os.path.exists(os.path.join(folder, "checkpoint.pt"))
    trainer.train(TrainingSettings.from_dict(json.loads(settings)), datasets, folder, resume=resume)
except LumbarsegError as error:
    sys.exit(f"error: {error}")
"""


def resume_after_kill(
    settings: TrainingSettings, folder: Path, datasets: list[Dataset], init: Path | str = ""
) -> tuple[Checkpoint, Checkpoint, Checkpoint]:
    """Return the last checkpoints of a run killed in its fourth save, of it resumed, and of an uninterrupted run."""
    arguments = [json.dumps(settings.to_dict()), str(init), str(folder), *(str(d.folder) for d in datasets)]
    command = [sys.executable, "-c", _KILLED_WHILE_SAVING, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env=_environment())
    assert process.returncode == -signal.SIGKILL, process.stderr
    killed = Checkpoint.load(folder / "checkpoint.pt")
    resumed = train(settings, datasets, folder, resume=True)
    uninterrupted = train(settings, datasets, f"{folder}-uninterrupted", init=init or None)
    return killed, Checkpoint.load(resumed), Checkpoint.load(uninterrupted)


def train_in_two_processes(
    settings: TrainingSettings, folder: Path, datasets: list[Dataset], last_step: int = -1
) -> list[tuple[int, str]]:
    """Return the exit codes and errors of two processes; the second kills itself before step `last_step`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [json.dumps(settings.to_dict()), str(folder), str(last_step), *(str(d.folder) for d in datasets)]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ONE_OF_TWO, *arguments],
            env=_environment() | group | {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def is_equal(a: object, b: object) -> bool:
    """Return whether two nested values are equal to the last bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(is_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(is_equal, a, b))
    return a == b
