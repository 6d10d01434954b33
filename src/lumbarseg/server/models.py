"""The models that the server offers: the default one, and those in the app's folder.

A model file is `model/NAME.onnx`; a run of `lumbarseg train` is `model/NAME/` and is exported when it is first used. A
file that does not load is not offered; a request for it gets the reason.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.inference import Model, default_model_path
from lumbarseg.io import file_fingerprint

AUTOMATIC_MODEL, CLICK_MODEL = "lumbar_spine", "lumbar_deepedit"
"""Names of the automatic model and of the model for clicks."""
_CHECKPOINT_NAMES = ("best.pt", "checkpoint.pt")


@dataclass(frozen=True)
class ModelEntry:
    """A model. path: its file, which may not exist yet; run_folder: of the run that it is exported from."""

    name: str
    path: Path
    run_folder: Path | None = None

    @property
    def fingerprint(self) -> tuple[str, int, int]:
        """Fingerprint of the file."""
        return file_fingerprint(self.path)


class ModelFolder:
    """The models of an app's folder, each loaded once."""

    def __init__(self, app: Path) -> None:
        self.folder = app / "model"
        self._loaded: dict[tuple[str, int, int], Model | LumbarsegError] = {}
        self._lock = threading.Lock()

    def entries(self) -> dict[str, ModelEntry]:
        """Return all models by name, as the folder is now; the two default names come first."""
        defaults = {name: ModelEntry(name, default_model_path()) for name in (AUTOMATIC_MODEL, CLICK_MODEL)}
        return defaults | {entry.name: entry for entry in self._entries_in_folder()}

    def _entries_in_folder(self) -> Iterator[ModelEntry]:
        for path in sorted(self.folder.glob("[!.]*")):
            if path.suffix.lower() == ".onnx" and path.is_file():
                yield ModelEntry(path.stem, path)
            elif any((path / name).is_file() for name in _CHECKPOINT_NAMES):
                yield ModelEntry(path.name, path / f"{path.name}.onnx", path)

    def load_all(self) -> dict[str, tuple[ModelEntry, Model]]:
        """Load all models; leave out those that do not load."""
        loaded = {}
        for name, entry in self.entries().items():
            try:
                loaded[name] = entry, self._load_entry(entry)
            except LumbarsegError:
                continue
        return loaded

    def load(self, name: str) -> Model:
        """Load a model by name; ServeError when it does not exist or does not load."""
        entries = self.entries()
        if name not in entries:
            raise ServeError(f"there is no model {name!r}; choose one of {', '.join(self.load_all())}", 404)
        try:
            return self._load_entry(entries[name])
        except LumbarsegError as error:
            raise ServeError(f"the model {name!r} cannot be used: {error}", 409) from error

    def model_path(self, name: str) -> Path | None:
        """Return the path of a model file, None when there is no model of this name."""
        entry = self.entries().get(name)
        return entry.path if entry else None

    def upload_path(self, name: str) -> Path:
        """Return the path for a new model file."""
        return self.folder / f"{name}.onnx"

    def _load_entry(self, entry: ModelEntry) -> Model:
        with self._lock:
            _export_run(entry)
            if entry.fingerprint not in self._loaded:
                try:
                    self._loaded[entry.fingerprint] = Model.load(entry.path)
                except LumbarsegError as error:
                    self._loaded[entry.fingerprint] = error
            model = self._loaded[entry.fingerprint]
        if isinstance(model, LumbarsegError):
            raise model
        return model


def _export_run(entry: ModelEntry) -> None:
    """Export the run of an entry as a model file, unless there is one that is newer than the checkpoint."""
    if entry.run_folder is None:
        return
    checkpoint = next(path for name in _CHECKPOINT_NAMES if (path := entry.run_folder / name).is_file())
    if not entry.path.is_file() or entry.path.stat().st_mtime_ns < checkpoint.stat().st_mtime_ns:
        from lumbarseg.active_learning.fine_tuning import export_run  # imports torch: about two seconds

        export_run(entry.run_folder, entry.path)
