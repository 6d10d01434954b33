"""One short run, shared by the tests of what comes after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests import sets

from lumbarseg.datasets import Dataset
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import train

SETTINGS = TrainingSettings(
    seed=3,
    steps=8,
    batch_size=2,
    crop_size=32,
    channels=(4, 6),
    warmup_steps=2,
    ema_decay=0.5,
    precision="float32",
    threads=1,
    checkpoint_seconds=0.0,
    validation_interval=4,
    image_interval=4,
)


@pytest.fixture(scope="session")
def settings() -> TrainingSettings:
    return SETTINGS


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    folder = tmp_path_factory.mktemp("sets")
    return [sets.write(folder / "a"), sets.write(folder / "b", val=0, table=sets.COMPLETE_VERTEBRAE, seed=9)]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, datasets: list[Dataset]) -> Path:
    """The checkpoint of an uninterrupted run; its second dataset has no validation exam."""
    return train(SETTINGS, datasets, tmp_path_factory.mktemp("runs") / "uninterrupted")
