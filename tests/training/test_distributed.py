"""Two processes on the loopback train what one does; when one of them dies the other stops, and both can resume."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.training.runs import train_in_two_processes

from lumbarseg.datasets import Dataset
from lumbarseg.errors import ModelError
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.checkpoint import BEST_FILE, Checkpoint
from lumbarseg.training.data import load_training_data
from lumbarseg.training.distributed import ProcessGroup
from lumbarseg.training.history import History
from lumbarseg.training.sampling import VolumeSampler, make_batch
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import _prepare_run, train

TOLERANCE = 1e-4  # of a weight after eight steps, because the sums are rounded in another order


def is_close(first: Path, second: Path) -> bool:
    a, b = (Checkpoint.load(path).weights for path in (first, second))
    return a.keys() == b.keys() and all(torch.allclose(a[n].double(), b[n].double(), atol=TOLERANCE) for n in a)


def test_a_batch_is_divided_and_nothing_else_changes(settings: TrainingSettings, datasets: list[Dataset]) -> None:
    settings = replace(settings, batch_size=5)
    sampler = VolumeSampler.from_volumes(load_training_data(settings, datasets, PreprocessingSpec()).train, ())
    batch = make_batch(sampler, settings, 3)
    for rank in range(2):
        samples = ProcessGroup(rank, 2).sample_slice
        images, codes = make_batch(sampler, settings, 3, samples)
        assert torch.equal(images, batch[0][samples]) and torch.equal(codes, batch[1][samples])


def test_two_processes_train_what_one_does(settings: TrainingSettings, datasets: list[Dataset], tmp_path: Path) -> None:
    settings = replace(settings, batch_size=3)  # two samples and one
    one = train(settings, datasets, tmp_path / "one")
    results = train_in_two_processes(settings, tmp_path / "two", datasets)
    assert [code for code, _ in results] == [0, 0], results
    assert is_close(one, tmp_path / "two" / one.name)
    losses = [[row["loss"] for row in History.read(tmp_path / n / "history.csv").rows] for n in ("one", "two")]
    assert losses[0] and losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert (tmp_path / "two" / BEST_FILE).exists() == (tmp_path / "one" / BEST_FILE).exists()


@pytest.mark.slow
def test_when_one_process_dies_the_other_stops_and_both_resume(
    settings: TrainingSettings, datasets: list[Dataset], checkpoint: Path, tmp_path: Path
) -> None:
    (code, error), (killed_code, _) = train_in_two_processes(settings, tmp_path / "two", datasets, last_step=5)
    assert (code, killed_code) == (1, -signal.SIGKILL)
    lines = [line for line in error.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "another process of this run has ended" in lines[0] and "--resume" in lines[0]
    assert Checkpoint.load(tmp_path / "two" / "checkpoint.pt").step == 5
    assert [code for code, _ in train_in_two_processes(settings, tmp_path / "two", datasets)] == [0, 0]
    assert is_close(checkpoint, tmp_path / "two" / checkpoint.name)


def test_a_batch_too_small_to_divide_is_refused(settings: TrainingSettings, datasets: list[Dataset]) -> None:
    small = replace(settings, batch_size=1, crop_size=64)
    with pytest.raises(ModelError, match="a batch of 1 for 2 processes"):
        _prepare_run(small, datasets, ProcessGroup(0, 2), None, None)


def test_a_single_process_does_not_communicate() -> None:
    value, network = torch.tensor(3.0), torch.nn.BatchNorm2d(2)
    group = ProcessGroup()
    assert group.sum_over_processes(value) is value
    assert group.broadcast(1.0, 2.0) == [1.0, 2.0]
    assert group.parallelise(group.synchronise_batch_norms(network)) is network
