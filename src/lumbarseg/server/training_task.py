"""Training on the labels of people, by `lumbarseg.active_learning`, as MONAI Label asks for it: in a process of its own.

One request is one round of the loop: finished exams in, training, judgement, and a new model where it is not worse. A
round that was stopped, or whose server was killed, goes on with the next request.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.train import TrainTask

from lumbarseg.active_learning.rounds import (
    COMPARISON_FILE,
    RoundOptions,
    find_last_round,
    find_unfinished_round,
    read_plan,
    run_round,
    training_progress,
)
from lumbarseg.active_learning.validation_patients import MIN_PATIENTS
from lumbarseg.errors import LumbarsegError, ServeError

from .models import CLICK_MODEL

_log = logging.getLogger(__name__)
_DEFAULT_MINUTES = 20.0
_MAX_MINUTES = 60 * 24 * 14
_ROUND_KEYS = ("stage", "began", "ended", "version")


class TrainingTask(TrainTask):
    """Goes on training one model with every exam that has a person's label."""

    def __init__(self, name: str, app: Path) -> None:
        super().__init__("trains on with the exams that have a final label; the new model is used unless it is worse")
        self.name, self.app = name, app

    def config(self) -> dict[str, Any]:
        """Options with their defaults: minutes of work; steps instead, 0 for none; whether to leave an open round."""
        return {"minutes": _DEFAULT_MINUTES, "steps": 0, "begin_anew": False}

    def stats(self) -> dict[str, Any]:
        """What became of the last round, {} before the first."""
        folder = self.app / "learn"
        place = find_unfinished_round(folder, self.name) or find_last_round(folder, self.name)
        if place is None:
            return {}
        told = {key: value for key, value in read_plan(place).items() if key in _ROUND_KEYS}
        path = place / COMPARISON_FILE
        if not path.is_file():
            return told | {"epoch": round(100 * training_progress(place)), "total_epochs": 100}  # its bar of progress
        verdict = json.loads(path.read_text(encoding="utf-8"))
        used = verdict["candidate"] if verdict["better"] else verdict["current"]
        return told | {"verdict": verdict, "best_metric": used or 0}  # that is what 3D Slicer shows as a bar

    def check(self, request: Mapping[str, Any], datastore: Datastore) -> None:
        """ServeError when there is nothing to learn from, or an option is wrong."""
        _parse_options(request)
        finished = len(datastore.get_labeled_images())
        if finished < MIN_PATIENTS:
            raise ServeError(
                f"{finished} exams have a final label: save those of {MIN_PATIENTS} patients, then train", 409
            )

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Do one round, or finish the one that was interrupted; gives what became of it."""
        self.check(request, datastore)
        exit_with_parent()
        options = _parse_options(request)
        changes = {"steps": options["steps"]} if options["steps"] else {"minutes": options["minutes"]}
        if self.name == CLICK_MODEL:
            changes["method"] = "deepedit"
        try:
            outcome = run_round(
                datastore.folder,
                self.app,
                RoundOptions(model=self.name, training_settings=changes),
                options["begin_anew"],
                step=_log_imported_exam,
            )
        except LumbarsegError as error:
            raise ServeError(str(error), 409) from error
        verdict = outcome.comparison
        _log.info("%s", verdict.reason if verdict else "nothing was finished since the last round")
        return {
            "round": outcome.number,
            "exams": outcome.training_exams,
            "judged_by": outcome.validation_exams,
            "published": outcome.published,
            "reason": verdict.reason if verdict else "nothing was finished since the last round",
            "refused": dict(outcome.rejected),
        }


def _log_imported_exam(name: str, total: int) -> None:
    _log.info("read %s, of %d finished exams", name, total)


def _parse_options(request: Mapping[str, Any]) -> dict[str, Any]:
    minutes, steps = request.get("minutes", _DEFAULT_MINUTES), request.get("steps", 0)
    if type(minutes) not in (int, float) or not 0 < minutes <= _MAX_MINUTES:
        raise ServeError(f"minutes: {minutes!r} is no length of a training", 422)
    if type(steps) is not int or not 0 <= steps <= 10**7:
        raise ServeError(f"steps: {steps!r} is no number of steps", 422)
    return {"minutes": float(minutes), "steps": steps, "begin_anew": bool(request.get("begin_anew"))}


def exit_with_parent() -> None:
    """End this process when the server that began it is gone; the last checkpoint is kept."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
