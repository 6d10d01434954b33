"""What came of a run so far, as plain values for its folder, for its page and for `lumbarseg compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .history import History, dice_by_structure

if TYPE_CHECKING:
    from .data import TrainingData
    from .trainer import TrainingState


def summarize_run(run: TrainingState, data: TrainingData, history: History, finished: bool) -> dict[str, Any]:
    """What was asked, what it cost, and the best moment on held-out exams; `last` is the latest validation."""
    settings = run.settings
    names = [name.partition(" ")[2] for name in data.dataset_digests]
    best = {key: value for key, value in run.best_validation.items() if key != "waited"}
    return {
        "preset": run.details.get("preset", ""),
        "targets": list(data.targets.names),
        "method": settings.method,
        "network": settings.network,
        "init": run.details.get("init", {}).get("file", "none"),
        "fold": settings.fold,
        "seed": settings.seed,
        "datasets": names,
        "exams": {"train": len(data.train), "held_out": len(data.val), "left_out": data.excluded_count},
        "slices": data.slice_count,
        "step": run.step,
        "epochs": run.step * settings.batch_size / data.slice_count,
        "minutes": run.elapsed_seconds / 60,
        "finished": finished,
        "precision": run.precision,
        "device": str(run.device),
        "best": best,
        "last": _last_validation(history),
        "settings": settings.to_dict(),
    }


def _last_validation(history: History) -> dict[str, Any]:
    rows = history.validations()
    if not rows:
        return {}
    row = rows[-1]
    told: dict[str, Any] = {name: row[name] for name in ("score", "mixed", "seconds") if name in row}
    return {"step": int(row["step"]), **told, "dice": dice_by_structure(row)}
