"""MONAI Label training task: one round of `lumbarseg.active_learning` per request, in a process of its own.

A round that was stopped, or whose server was killed, is continued by the next request.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from lumbarseg.active_learning.rounds import RoundOptions, find_last_round, find_unfinished_round, run_round
from lumbarseg.active_learning.validation_patients import MIN_PATIENTS
from lumbarseg.errors import LumbarsegError, ServeError

from .models import CLICK_MODEL

_log = logging.getLogger(__name__)
_DEFAULT_MINUTES = 20.0
_MAX_MINUTES = 60 * 24 * 14


class TrainingTask(TrainTask):
    """Train one model further on every exam that has a final label."""

    def __init__(self, name: str, app: Path) -> None:
        super().__init__("trains on all exams with a final label; the new model is used unless it is worse")
        self.name, self.app = name, app

    def config(self) -> dict[str, Any]:
        """Return the options with their defaults: minutes of training; steps instead, if not 0; start a new round."""
        return {"minutes": _DEFAULT_MINUTES, "steps": 0, "new_round": False}

    def stats(self) -> dict[str, Any]:
        """Describe the state of the last round, {} before the first."""
        last = find_unfinished_round(self.app, self.name) or find_last_round(self.app, self.name)
        if last is None:
            return {}
        state = {"stage": last.stage, "started": last.started, "finished": last.finished, "version": last.version}
        if last.comparison is None:  # 3D Slicer shows epoch and best_metric as progress bars
            return state | {"epoch": round(100 * last.training_progress()), "total_epochs": 100}
        dice = last.comparison.candidate if last.comparison.accepted else last.comparison.current
        return state | {"comparison": asdict(last.comparison), "best_metric": dice or 0}

    def check(self, request: Mapping[str, Any], datastore: Datastore) -> None:
        """Raise ServeError when there is nothing to train on, or an option is invalid."""
        _training_settings(request)
        finished = len(datastore.get_labeled_images())
        if finished < MIN_PATIENTS:
            raise ServeError(f"{finished} exams have a final label, {MIN_PATIENTS} are needed: save more labels", 409)

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Run a round, or finish the interrupted one; return its result."""
        self.check(request, datastore)
        exit_with_parent()
        settings, new_round = _training_settings(request), bool(request.get("new_round"))
        if self.name == CLICK_MODEL:
            settings["method"] = "deepedit"
        round_options = RoundOptions(model=self.name, training_settings=settings)
        try:
            result = run_round(datastore.folder, self.app, round_options, new_round, None, _log_exam)
        except LumbarsegError as error:
            raise ServeError(str(error), 409) from error
        reason = result.comparison.reason if result.comparison else "no exam was finished since the last round"
        _log.info("%s", reason)
        return {
            "round": result.number,
            "training_exams": result.training_exams,
            "validation_exams": result.validation_exams,
            "published": result.published,
            "reason": reason,
            "rejected": dict(result.rejected),
        }


def _log_exam(name: str, total: int) -> None:
    _log.info("imported %s, one of %d finished exams", name, total)


def _training_settings(request: Mapping[str, Any]) -> dict[str, float | str]:
    """Return the training settings of a request; ServeError for an invalid one."""
    minutes, steps = request.get("minutes", _DEFAULT_MINUTES), request.get("steps", 0)
    if type(minutes) not in (int, float) or not 0 < minutes <= _MAX_MINUTES:
        raise ServeError(f"minutes: {minutes!r} is not a valid duration", 422)
    if type(steps) is not int or not 0 <= steps <= 10**7:
        raise ServeError(f"steps: {steps!r} is not a valid number of steps", 422)
    return {"steps": steps} if steps else {"minutes": float(minutes)}


def exit_with_parent() -> None:
    """End this process when the server that started it ends; the last checkpoint is kept."""
    parent = os.getppid()

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()
