from __future__ import annotations

import json
from typing import Any

import pytest

from lumbarseg.cli.train import CHANGES
from lumbarseg.errors import ModelError
from lumbarseg.prepare import Spec
from lumbarseg.train.presets import PRESETS
from lumbarseg.train.settings import RUNTIME, Settings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_fit_the_specification(name: str) -> None:
    settings = PRESETS[name]
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert Spec().multiple % settings.multiple == 0


def test_the_command_changes_only_real_settings() -> None:
    assert set(CHANGES) | set(RUNTIME) <= set(Settings().to_dict())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"crop": 100}, "crop must be a multiple of 32"),
        ({"batch": 0}, "at least 1"),
        ({"batch": 1, "crop": 32}, "a batch of 1 needs a crop of 64"),
        ({"minutes": -1.0}, "must not be negative"),
        ({"network": "vnet"}, "network 'vnet' is none of planar"),
        ({"steps": 0}, "at least 1"),
        ({"shares": (0.5, -0.1)}, "shares must be positive"),
        ({"shares": (0.0, 0.0)}, "shares must be positive"),
        ({"precision": "int8"}, "precision 'int8'"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        Settings(**values)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ModelError, match="'momentum' is no setting"):
        Settings.from_dict({"momentum": 0.9})


def test_another_run_is_told_from_another_length() -> None:
    assert Settings().differences(Settings(steps=5, threads=3, loaders=7)) == []
    assert Settings().differences(Settings(seed=4, rate=1.0)) == ["seed", "rate"]
