from __future__ import annotations

import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.runs import is_equal
from torch import nn

from lumbarseg.errors import FileError, ModelError
from lumbarseg.training.checkpoint import _FORMER_KEYS, Checkpoint, ExponentialMovingAverage
from lumbarseg.training.settings import _FORMER_NAMES


class TouchWhenUnpickled:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_it_survives_saving(checkpoint: Path, tmp_path: Path) -> None:
    before = Checkpoint.load(checkpoint)
    before.save(tmp_path / "again.pt")
    after = Checkpoint.load(tmp_path / "again.pt")
    assert (after.settings, after.spec, after.step, after.details) == (
        before.settings,
        before.spec,
        before.step,
        before.details,
    )
    assert all(torch.equal(after.weights[name], value) for name, value in before.weights.items())
    assert [path.name for path in tmp_path.iterdir()] == ["again.pt"]


def test_its_network_has_the_averaged_weights(checkpoint: Path) -> None:
    loaded = Checkpoint.load(checkpoint)
    network = loaded.ema_network()
    assert not network.training
    assert all(torch.equal(value, loaded.ema_weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_half_a_checkpoint_is_refused(share: float, checkpoint: Path, tmp_path: Path) -> None:
    data = checkpoint.read_bytes()
    path = tmp_path / "half.pt"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"half\.pt: no checkpoint"):
        Checkpoint.load(path)


def test_code_inside_is_never_executed(tmp_path: Path) -> None:
    touched_file = tmp_path / "sprung"
    values = {"format": 1, "model": TouchWhenUnpickled(touched_file)}
    torch.save(values, tmp_path / "torch.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(values, protocol=2))
    for name in ("torch.pt", "plain.pt"):
        with pytest.raises(ModelError, match="no checkpoint"):
            Checkpoint.load(tmp_path / name)
    assert not touched_file.exists()


def test_missing_or_other_content_is_reported(checkpoint: Path, tmp_path: Path) -> None:
    values = torch.load(checkpoint, weights_only=True)
    for changes, message in (
        ({"format": 2}, "of another version"),
        ({"classes": ["background"]}, "other tissue classes"),
        ({"step": None, "more": 1}, "incomplete"),
        ({"settings": {"momentum": 1}}, "no setting"),
    ):
        torch.save({**values, **changes}, tmp_path / "odd.pt")
        with pytest.raises(ModelError, match=message):
            Checkpoint.load(tmp_path / "odd.pt")
    del values["optimizer"]
    torch.save(values, tmp_path / "less.pt")
    with pytest.raises(ModelError, match="incomplete"):
        Checkpoint.load(tmp_path / "less.pt")


def test_the_average_by_hand() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = ExponentialMovingAverage(network, ema_decay=0.5)
    nn.init.constant_(network.weight, 1.0)
    average.update(network, 1)  # 1 / 11 of the old
    assert average.weights["weight"].item() == pytest.approx(10 / 11)
    nn.init.constant_(network.weight, 3.0)
    average.update(network, 1000)
    assert average.weights["weight"].item() == pytest.approx((10 / 11 + 3) / 2)
    assert network.weight.item() == 3.0


@contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Let writes beyond `size` bytes of a file fail, as on a full disk."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_keeps_the_checkpoint_before(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(checkpoint.read_bytes())
    before = Checkpoint.load(path)
    with limited_file_size(10_000), pytest.raises(FileError) as error:
        before.save(path)
    assert str(error.value).startswith(f"{path}: the checkpoint cannot be written: ")
    assert str(error.value).endswith("the previous one is kept: make room, then --resume")
    assert Checkpoint.load(path).step == before.step
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_from_before_targets_is_still_read(checkpoint: Path, tmp_path: Path) -> None:
    values = torch.load(checkpoint, weights_only=True)
    for name in (
        "elapsed_seconds",
        "trained_names",
        "targets",
        "lowest_structure",
        "best_validation",
        "teacher_weights",
    ):
        del values[name]
    for name in ("epochs", "minutes", "patience", "targets", "contrasts", "fold", "network", "distillation_weight"):
        del values["settings"][name]
    torch.save(values, tmp_path / "old.pt")
    loaded, now = Checkpoint.load(tmp_path / "old.pt"), Checkpoint.load(checkpoint)
    assert loaded.settings == now.settings
    assert (loaded.trained_names, loaded.targets, loaded.lowest_structure, loaded.teacher_weights) == ((), (), None, {})


def test_a_checkpoint_with_former_names_is_read(checkpoint: Path, tmp_path: Path) -> None:
    values = torch.load(checkpoint, weights_only=True)
    former = {new: old for old, new in _FORMER_KEYS.items()}
    values = {former.get(name, name): value for name, value in values.items()}
    former_settings = {new: old for old, new in _FORMER_NAMES.items()}
    values["settings"] = {former_settings.get(name, name): value for name, value in values["settings"].items()}
    assert {"model", "average", "optimiser", "best"} <= set(values) and "rate" in values["settings"]
    torch.save(values, tmp_path / "former.pt")
    loaded, expected = Checkpoint.load(tmp_path / "former.pt"), Checkpoint.load(checkpoint)
    for name in ("settings", "spec", "step", "weights", "ema_weights", "optimizer", "best_validation", "details"):
        assert is_equal(getattr(loaded, name), getattr(expected, name)), name
