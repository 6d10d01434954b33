"""The models that the server offers: the shipped one, and whatever lies in the app's folder.

A model file is `model/NAME.onnx`; a run of `lumbarseg train` is `model/NAME/`, and is exported the first time. A file
that does not load is offered to nobody, and asking for it tells why.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.inference import Model, default_model_path

AUTOMATIC_MODEL, CLICK_MODEL = "lumbar_spine", "lumbar_deepedit"
"""Names of the automatic model, and of the one that reads clicks."""
_CHECKPOINT_NAMES = ("best.pt", "checkpoint.pt")
_MODEL_FOLDER = "model"


@dataclass(frozen=True)
class ModelEntry:
    """A model by name. path: its file, which may not be there yet; run: the folder that it is exported from."""

    name: str
    path: Path
    run_folder: Path | None = None

    @property
    def fingerprint(self) -> tuple[str, int, int]:
        """Changes when the file does."""
        about = self.path.stat()
        return str(self.path), about.st_mtime_ns, about.st_size


class ModelFolder:
    """The models of one app folder, each loaded once."""

    def __init__(self, app: Path) -> None:
        self.folder = app / _MODEL_FOLDER
        self._loaded: dict[tuple[str, int, int], Model | LumbarsegError] = {}
        self._lock = threading.Lock()

    def entries(self) -> dict[str, ModelEntry]:
        """Every model by name, as the folder is now; the two of this app first."""
        shipped = {name: ModelEntry(name, default_model_path()) for name in (AUTOMATIC_MODEL, CLICK_MODEL)}
        return shipped | {offer.name: offer for offer in self._entries_in_folder()}

    def _entries_in_folder(self) -> Iterator[ModelEntry]:
        if not self.folder.is_dir():
            return
        for entry in sorted(self.folder.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.suffix.lower() == ".onnx" and entry.is_file():
                yield ModelEntry(entry.stem, entry)
            elif entry.is_dir() and any((entry / name).is_file() for name in _CHECKPOINT_NAMES):
                yield ModelEntry(entry.name, entry / f"{entry.name}.onnx", entry)

    def load_all(self) -> dict[str, tuple[ModelEntry, Model]]:
        """The models that load."""
        found = {}
        for name, offer in self.entries().items():
            try:
                found[name] = offer, self._load_entry(offer)
            except LumbarsegError:
                continue
        return found

    def load(self, name: str) -> Model:
        """A model by name; ServeError when there is none, or when it is no trained model."""
        offers = self.entries()
        if name not in offers:
            raise ServeError(f"there is no model {name!r}; these are offered: {', '.join(self.load_all())}", 404)
        try:
            return self._load_entry(offers[name])
        except LumbarsegError as error:
            raise ServeError(f"the model {name!r} cannot answer: {error}", 409) from error

    def model_path(self, name: str) -> Path | None:
        """Where a model's file lies, None when there is none of this name."""
        offer = self.entries().get(name)
        return offer.path if offer else None

    def upload_path(self, name: str) -> Path:
        """Where a new model of this name goes."""
        return self.folder / f"{name}.onnx"

    def _load_entry(self, offer: ModelEntry) -> Model:
        with self._lock:
            _export_run(offer)
            stamp = offer.fingerprint
            if stamp not in self._loaded:
                try:
                    self._loaded[stamp] = Model.load(offer.path)
                except LumbarsegError as error:
                    self._loaded[stamp] = error
            model = self._loaded[stamp]
        if isinstance(model, LumbarsegError):
            raise model
        return model


def _export_run(offer: ModelEntry) -> None:
    """A run as a model file, where there is none that is newer than its weights."""
    if offer.run_folder is None:
        return
    weights = next(offer.run_folder / name for name in _CHECKPOINT_NAMES if (offer.run_folder / name).is_file())
    if offer.path.is_file() and offer.path.stat().st_mtime_ns >= weights.stat().st_mtime_ns:
        return
    from lumbarseg.training.export import checkpoint_to_export, export_model

    export_model(checkpoint_to_export(offer.run_folder, False), offer.path)
