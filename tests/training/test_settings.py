from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from lumbarseg.cli.train import add_arguments
from lumbarseg.errors import ModelError
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.presets import PRESETS
from lumbarseg.training.settings import RESUMABLE_SETTINGS, TrainingSettings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_fit_the_specification(name: str) -> None:
    settings = PRESETS[name].settings
    assert TrainingSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert PreprocessingSpec().multiple % settings.in_plane_multiple == 0


def test_resumable_settings_and_options_are_settings() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = {action.dest for action in parser._actions if action.default is argparse.SUPPRESS} - {"help"}
    assert len(options) == 19
    assert options | set(RESUMABLE_SETTINGS) <= set(TrainingSettings().to_dict())


def test_former_names_are_read() -> None:
    former = {"rate": 0.1, "decay": 0.2, "average": 0.3, "distil": 0.4, "shares": [1.0], "batch": 4, "crop": 64}
    settings = TrainingSettings.from_dict({**former, "validate_every": 7, "contrast": ["T2"], "seed": 5})
    assert (settings.learning_rate, settings.weight_decay, settings.ema_decay) == (0.1, 0.2, 0.3)
    assert (settings.distillation_weight, settings.sampling_weights) == (0.4, (1.0,))
    assert (settings.batch_size, settings.crop_size, settings.validation_interval) == (4, 64, 7)
    assert (settings.contrasts, settings.seed) == (("T2",), 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop_size": 100}, "crop_size must be a multiple of 32"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 1, "crop_size": 32}, "a batch of 1 needs a crop_size of 64"),
        ({"minutes": -1.0}, "must not be negative"),
        ({"network": "vnet"}, "network 'vnet' is not one of planar"),
        ({"steps": 0}, "at least 1"),
        ({"sampling_weights": (0.5, -0.1)}, "sampling_weights must be positive"),
        ({"sampling_weights": (0.0, 0.0)}, "sampling_weights must be positive"),
        ({"precision": "int8"}, "precision 'int8'"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        TrainingSettings(**values)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ModelError, match="'momentum' is no setting"):
        TrainingSettings.from_dict({"momentum": 0.9})


def test_differences_do_not_include_the_length() -> None:
    assert TrainingSettings().differences(TrainingSettings(steps=5, threads=3, loader_threads=7)) == []
    assert TrainingSettings().differences(TrainingSettings(seed=4, learning_rate=1.0)) == ["seed", "learning_rate"]
