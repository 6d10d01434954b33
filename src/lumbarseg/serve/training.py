"""Training on the labels of people, by `lumbarseg.train`, as MONAI Label asks for it: in a process of its own.

A run lies in runs/MODEL-N of the app's folder with the prepared dataset that it learns from. One that was stopped, or
whose server was killed, goes on with the next request; one that ended is published unless it is worse.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from lumbarseg.errors import ServeError
from lumbarseg.files import replacing

from .models import Models

_STATE = "state.json"
_MINUTES = 20.0


class Training(TrainTask):
    """Goes on training one model with every exam that has a person's label."""

    def __init__(self, name: str, models: Models, app: Path) -> None:
        super().__init__("trains on from the present weights with the exams that have a final label")
        self.name, self.models, self.runs = name, models, app / "runs"

    def config(self) -> dict[str, Any]:
        """Options with their defaults: minutes of work; steps instead, 0 for none; whether to begin anew."""
        return {"minutes": _MINUTES, "steps": 0, "begin_anew": False}

    def stats(self) -> dict[str, Any]:
        """What became of the last run."""
        folder = self._last()
        return state(folder) if folder else {}

    def check(self, request: Mapping[str, Any], datastore: Datastore) -> None:
        """ServeError when there is nothing to learn from, or an option is wrong."""
        _options(request)
        if not datastore.get_labeled_images():
            raise ServeError("no exam has a final label yet: save one, then train", 409)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, compare and publish; gives what became of it."""
        from lumbarseg.datasets.workers import alone

        self.check(request, datastore)
        end_with_parent()
        with alone(self.runs):
            return self._trained(_options(request), datastore)

    def _trained(self, options: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        from . import lessons

        last = self._last()
        resume = last is not None and state(last).get("state") == "training" and not options["begin_anew"]
        folder = last if resume and last else self.runs / f"{self.name}-{self._number() + 1}"
        if not resume:
            lessons.prepared(datastore, folder / "data")
            write_state(folder, {"state": "training", "model": self.name, "began": time.time(), **options})
        weights = self.models.path(self.name)
        assert weights is not None
        told = lessons.learnt(folder, weights, options, self.models.target(self.name))
        return write_state(folder, {**state(folder), **told, "ended": time.time()})

    def _number(self) -> int:
        numbers = [path.name.removeprefix(f"{self.name}-") for path in self.runs.glob(f"{self.name}-*")]
        return max((int(number) for number in numbers if number.isdecimal()), default=0)

    def _last(self) -> Path | None:
        folder = self.runs / f"{self.name}-{self._number()}"
        return folder if folder.is_dir() else None


def _options(request: Mapping[str, Any]) -> dict[str, Any]:
    minutes, steps = request.get("minutes", _MINUTES), request.get("steps", 0)
    if type(minutes) not in (int, float) or not 0 < minutes <= 60 * 24 * 14:
        raise ServeError(f"minutes: {minutes!r} is no length of a training", 422)
    if type(steps) is not int or not 0 <= steps <= 10**7:
        raise ServeError(f"steps: {steps!r} is no number of steps", 422)
    return {"minutes": float(minutes), "steps": steps, "begin_anew": bool(request.get("begin_anew"))}


def state(folder: Path) -> dict[str, Any]:
    """What is known of a run; nothing for a folder without one."""
    try:
        values = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_state(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Note what is known of a run, and give it back."""
    with replacing(folder / _STATE) as file:
        file.write(json.dumps(dict(values), indent=1).encode())
    return dict(values)


def end_with_parent() -> None:
    """End this process when the server that began it is gone; the last checkpoint is kept."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
