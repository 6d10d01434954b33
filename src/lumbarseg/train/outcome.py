"""What came of a run so far, as plain values for its folder, for its page and for `lumbarseg compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .history import History, dice_of

if TYPE_CHECKING:
    from .data import Data
    from .loop import Run


def outcome(run: Run, data: Data, history: History, finished: bool) -> dict[str, Any]:
    """What was asked, what it cost, and the best moment on held-out exams; `last` is the latest validation."""
    settings = run.settings
    names = [name.partition(" ")[2] for name in data.names]
    best = {key: value for key, value in run.best.items() if key != "waited"}
    return {
        "preset": run.about.get("preset", ""),
        "targets": list(data.targets.names),
        "method": settings.method,
        "network": settings.network,
        "init": run.about.get("init", {}).get("file", "none"),
        "fold": settings.fold,
        "seed": settings.seed,
        "datasets": names,
        "exams": {"train": len(data.train), "held_out": len(data.val), "left_out": data.left_out},
        "slices": data.slices,
        "step": run.step,
        "epochs": run.step * settings.batch / data.slices,
        "minutes": run.elapsed / 60,
        "finished": finished,
        "precision": run.precision,
        "device": str(run.where),
        "best": best,
        "last": _last(history),
        "settings": settings.to_dict(),
    }


def _last(history: History) -> dict[str, Any]:
    rows = history.validations()
    if not rows:
        return {}
    row = rows[-1]
    told: dict[str, Any] = {name: row[name] for name in ("score", "mixed", "seconds") if name in row}
    return {"step": int(row["step"]), **told, "dice": dice_of(row)}
