"""The summary of a run (result.json) for its page and for `lumbarseg compare`: its settings, its cost, its scores."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import ModelError

from .history import History, dice_by_structure

if TYPE_CHECKING:
    from .data import TrainingData
    from .state import TrainingState

RESULT_FILE = "result.json"


def summarize_run(state: TrainingState, data: TrainingData, history: History, finished: bool) -> dict[str, Any]:
    """Return the content of result.json; `best` is the best validation, `last` the latest one."""
    settings, best = state.settings, asdict(state.best_validation)
    del best["waited"]
    return {
        "preset": state.details.get("preset", ""),
        "targets": list(data.targets.names),
        "method": settings.method,
        "network": settings.network,
        "init": state.details.get("init", {}).get("file", "none"),
        "fold": settings.fold,
        "seed": settings.seed,
        "datasets": [name.partition(" ")[2] for name in data.dataset_digests],
        "exams": {"train": len(data.train), "held_out": len(data.val), "left_out": data.excluded_count},
        "slices": data.slice_count,
        "step": state.step,
        "epochs": state.step * settings.batch_size / data.slice_count,
        "minutes": state.elapsed_seconds / 60,
        "finished": finished,
        "precision": state.precision,
        "device": str(state.device),
        "best": best if best["step"] else {},
        "last": _last_validation(history),
        "settings": settings.to_dict(),
    }


def _last_validation(history: History) -> dict[str, Any]:
    rows = history.validations()
    if not rows:
        return {}
    row = rows[-1]
    numbers: dict[str, Any] = {name: row[name] for name in ("score", "mixed", "seconds") if name in row}
    return {"step": int(row["step"]), **numbers, "dice": dice_by_structure(row)}


def read_result(run_folder: Path) -> dict[str, Any]:
    """Read the result.json of a run's folder; raise ModelError if there is none."""
    path = run_folder / RESULT_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: not found; give the folder of a run that was validated or has ended") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    missing = [name for name in ("targets", "settings", "best") if not isinstance(values, dict) or name not in values]
    if missing:
        raise ModelError(f"{path}: no result of a run: it has no {missing[0]!r}")
    return dict(values)
