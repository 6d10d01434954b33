"""Every published model is stored as a version, and can be restored."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")

from tests import tiny

from lumbarseg.active_learning.model_registry import ModelRegistry
from lumbarseg.errors import ModelError


def test_versions_are_numbered_stored_and_restored(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path / "app", "mine")
    files = [tiny.write(tmp_path / f"{seed}.onnx", seed=seed) for seed in range(3)]
    assert registry.current() is None
    assert registry.publish(files[0], {"round": "rounds/0001"}).number == 1
    assert registry.publish(files[1], {"round": "rounds/0002"}).number == 2
    assert registry.publish(files[1], {"round": "rounds/0002"}).number == 2  # repeated after an interruption
    assert registry.model_path.read_bytes() == files[1].read_bytes()
    current = registry.current()
    assert current is not None
    assert current.info == {"round": "rounds/0002"}
    registry.restore(1)
    assert registry.model_path.read_bytes() == files[0].read_bytes()
    assert [version.number for version in registry.versions()] == [1, 2]
    with pytest.raises(ModelError, match="no version 9 of mine; existing versions: 1, 2"):
        registry.restore(9)
    registry.model_path.write_bytes(files[2].read_bytes())  # a model of another origin
    assert registry.current() is None
    assert registry.publish(files[1], {}).number == 2
    assert [version.path.read_bytes() for version in registry.versions()] == [files[n].read_bytes() for n in range(3)]


def test_file_that_is_no_model_is_not_published(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path / "app", "mine")
    registry.publish(tiny.write(tmp_path / "good.onnx"), {})
    before = registry.model_path.read_bytes()
    (tmp_path / "bad.onnx").write_bytes(before[:-10])
    with pytest.raises(ModelError):
        registry.publish(tmp_path / "bad.onnx", {})
    assert registry.model_path.read_bytes() == before
    assert len(registry.versions()) == 1
