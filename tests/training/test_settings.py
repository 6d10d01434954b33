from __future__ import annotations

import json
from typing import Any

import pytest

from lumbarseg.cli.train import SETTING_OPTIONS
from lumbarseg.errors import ModelError
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.presets import PRESETS
from lumbarseg.training.settings import RESUMABLE_SETTINGS, TrainingSettings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_fit_the_specification(name: str) -> None:
    settings = PRESETS[name]
    assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert PreprocessingSpec().multiple % settings.in_plane_multiple == 0


def test_the_command_changes_only_real_settings() -> None:
    assert set(SETTING_OPTIONS) | set(RESUMABLE_SETTINGS) <= set(TrainingSettings().to_dict())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"crop_size": 100}, "crop must be a multiple of 32"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 1, "crop_size": 32}, "a batch of 1 needs a crop of 64"),
        ({"minutes": -1.0}, "must not be negative"),
        ({"network": "vnet"}, "network 'vnet' is none of planar"),
        ({"steps": 0}, "at least 1"),
        ({"sampling_weights": (0.5, -0.1)}, "shares must be positive"),
        ({"sampling_weights": (0.0, 0.0)}, "shares must be positive"),
        ({"precision": "int8"}, "precision 'int8'"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        TrainingSettings(**values)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ModelError, match="'momentum' is no setting"):
        TrainingSettings.from_dict({"momentum": 0.9})


def test_another_run_is_told_from_another_length() -> None:
    assert TrainingSettings().differences(TrainingSettings(steps=5, threads=3, loader_threads=7)) == []
    assert TrainingSettings().differences(TrainingSettings(seed=4, learning_rate=1.0)) == ["seed", "learning_rate"]
