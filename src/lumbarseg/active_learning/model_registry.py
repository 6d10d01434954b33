"""The versions of an app's model: which one is in use, all earlier ones, and how to restore one.

The model in use is APP/model/NAME.onnx; every published version is stored in APP/learn/versions/NAME as NNNN.onnx with
NNNN.json beside it. A version is put in use by one atomic replacement, so no reader ever sees half a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumbarseg.errors import ModelError
from lumbarseg.inference import Model
from lumbarseg.io import atomic_write, write_json


@dataclass(frozen=True)
class ModelVersion:
    """A published model. info: its round, when it was published, and its comparison with the model before."""

    number: int
    path: Path
    info: Mapping[str, Any]


@dataclass(frozen=True)
class ModelRegistry:
    """The versions of one model of an app."""

    app_folder: Path
    name: str

    @property
    def model_path(self) -> Path:
        """Path of the model in use; the file may not exist yet."""
        return self.app_folder / "model" / f"{self.name}.onnx"

    @property
    def current_path(self) -> Path | None:
        """Path of the model in use, None before there is one."""
        return self.model_path if self.model_path.is_file() else None

    @property
    def folder(self) -> Path:
        """Folder of the versions."""
        return self.app_folder / "learn" / "versions" / self.name

    def versions(self) -> list[ModelVersion]:
        """List all versions, the oldest first."""
        paths = sorted(self.folder.glob("[0-9][0-9][0-9][0-9].onnx"))
        return [ModelVersion(int(path.stem), path, _read_info(path.with_suffix(".json"))) for path in paths]

    def current(self) -> ModelVersion | None:
        """Return the version in use; None without a model, or where the model did not come from the registry."""
        return self._find(self.model_path.read_bytes()) if self.current_path else None

    def publish(self, model: Path, info: Mapping[str, Any]) -> ModelVersion:
        """Put a model file in use, as a new version unless its bytes are one already.

        A model in use that did not come from the registry is stored as a version first. Repeated after an interruption,
        the result is the same. Raises ModelError for a file that is not a model.
        """
        Model.load(model, "cpu")
        if self.current_path and self.current() is None:
            self._store(self.model_path.read_bytes(), {"origin": "was in use"})
        version = self._store(model.read_bytes(), info)
        self._put_in_use(version)
        return version

    def restore(self, number: int) -> Path:
        """Put an older version in use again; ModelError when there is no version of this number."""
        versions = {version.number: version for version in self.versions()}
        if number not in versions:
            existing = ", ".join(map(str, versions)) or "none"
            raise ModelError(f"{self.folder}: no version {number} of {self.name}; existing versions: {existing}")
        Model.load(versions[number].path, "cpu")
        self._put_in_use(versions[number])
        return self.model_path

    def _find(self, data: bytes) -> ModelVersion | None:
        return next((version for version in reversed(self.versions()) if version.path.read_bytes() == data), None)

    def _put_in_use(self, version: ModelVersion) -> None:
        with atomic_write(self.model_path) as file:
            file.write(version.path.read_bytes())

    def _store(self, data: bytes, info: Mapping[str, Any]) -> ModelVersion:
        """Return the version with these bytes, stored now if it is new."""
        existing = self._find(data)
        if existing is not None:
            return existing
        number = max((version.number for version in self.versions()), default=0) + 1
        path = self.folder / f"{number:04d}.onnx"
        write_json(path.with_suffix(".json"), dict(info))
        with atomic_write(path) as file:
            file.write(data)
        return ModelVersion(number, path, info)


def _read_info(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
