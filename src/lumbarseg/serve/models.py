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
from lumbarseg.model import Model, default

SPINE, CLICKS = "lumbar_spine", "lumbar_deepedit"
"""Names of the automatic model, and of the one that reads clicks."""
_RUN = ("best.pt", "checkpoint.pt")
_FOLDER = "model"


@dataclass(frozen=True)
class Offer:
    """A model by name. path: its file, which may not be there yet; run: the folder that it is exported from."""

    name: str
    path: Path
    run: Path | None = None

    @property
    def stamp(self) -> tuple[str, int, int]:
        """Changes when the file does."""
        about = self.path.stat()
        return str(self.path), about.st_mtime_ns, about.st_size


class Models:
    """The models of one app folder, each loaded once."""

    def __init__(self, app: Path) -> None:
        self.folder = app / _FOLDER
        self._loaded: dict[tuple[str, int, int], Model | LumbarsegError] = {}
        self._lock = threading.Lock()

    def offers(self) -> dict[str, Offer]:
        """Every model by name, as the folder is now; the two of this app first."""
        shipped = {name: Offer(name, default()) for name in (SPINE, CLICKS)}
        return shipped | {offer.name: offer for offer in self._own()}

    def _own(self) -> Iterator[Offer]:
        if not self.folder.is_dir():
            return
        for entry in sorted(self.folder.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.suffix.lower() == ".onnx" and entry.is_file():
                yield Offer(entry.stem, entry)
            elif entry.is_dir() and any((entry / name).is_file() for name in _RUN):
                yield Offer(entry.name, entry / f"{entry.name}.onnx", entry)

    def usable(self) -> dict[str, tuple[Offer, Model]]:
        """The models that load."""
        found = {}
        for name, offer in self.offers().items():
            try:
                found[name] = offer, self._load(offer)
            except LumbarsegError:
                continue
        return found

    def load(self, name: str) -> Model:
        """A model by name; ServeError when there is none, or when it is no trained model."""
        offers = self.offers()
        if name not in offers:
            raise ServeError(f"there is no model {name!r}; these are offered: {', '.join(self.usable())}", 404)
        try:
            return self._load(offers[name])
        except LumbarsegError as error:
            raise ServeError(f"the model {name!r} cannot answer: {error}", 409) from error

    def path(self, name: str) -> Path | None:
        """Where a model's file lies, None when there is none of this name."""
        offer = self.offers().get(name)
        return offer.path if offer else None

    def target(self, name: str) -> Path:
        """Where a new model of this name goes."""
        return self.folder / f"{name}.onnx"

    def _load(self, offer: Offer) -> Model:
        with self._lock:
            _export(offer)
            stamp = offer.stamp
            if stamp not in self._loaded:
                try:
                    self._loaded[stamp] = Model.load(offer.path)
                except LumbarsegError as error:
                    self._loaded[stamp] = error
            model = self._loaded[stamp]
        if isinstance(model, LumbarsegError):
            raise model
        return model


def _export(offer: Offer) -> None:
    """A run as a model file, where there is none that is newer than its weights."""
    if offer.run is None:
        return
    weights = next(offer.run / name for name in _RUN if (offer.run / name).is_file())
    if offer.path.is_file() and offer.path.stat().st_mtime_ns >= weights.stat().st_mtime_ns:
        return
    from lumbarseg.train.export import export, moment

    export(moment(offer.run, False), offer.path)
