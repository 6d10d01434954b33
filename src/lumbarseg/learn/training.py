"""Training that goes on from a model with the exams that people corrected since."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lumbarseg.datasets import Dataset
from lumbarseg.errors import DatasetError
from lumbarseg.train.checkpoint import NAME
from lumbarseg.train.loop import Watch, train
from lumbarseg.train.presets import TABLE
from lumbarseg.train.settings import Settings
from lumbarseg.train.weights import Start

from .weights import shares, weighted

_FINE, _AFRESH = "fine", "chu-5"
_NOBODY = "train"


def continue_training(
    start: Path | str | None,
    corrected: Dataset,
    base: Sequence[Dataset],
    out: Path,
    seen: Collection[str] = (),
    changes: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Path:
    """Train on from a model with corrected exams beside older data; gives the checkpoint's path.

    start: a model file, a run's folder or the word "shipped"; None begins from nothing. corrected, base: their cases of
    the split "train" alone are used, so nothing is learned from exams that judge, not even which moment is best. seen:
    names of corrected exams that `start` was trained on. changes: settings other than the recipe's. A run that lies in
    `out` already goes on, with the same words. DatasetError when there is nothing to learn from.
    """
    taught = [_taught(weighted(corrected, seen)), *map(_taught, base)]
    if not taught[0].everything:
        raise DatasetError(f"{corrected.folder}: no corrected exam to learn from; the finished ones are held out")
    taught = [dataset for dataset in taught if dataset.everything]
    counts = [len(dataset.everything) for dataset in taught]
    resume = (out / NAME).exists()
    if resume:
        settings = Settings.from_dict(json.loads((out / "settings.json").read_text(encoding="utf-8")))
    else:
        settings = settings_for(start, {"shares": shares(counts[0], counts[1:]), **(changes or {})})
    return train(settings, taught, out, resume, None if resume else start, {"loop": _told(taught[0])}, watch)


def settings_for(start: Path | str | None, changes: Mapping[str, Any]) -> Settings:
    """The recipe "fine" from a model, its network kept; from nothing the one for few exams. changes: other settings."""
    if start is None:
        recipe = TABLE[_AFRESH].begun(with_weights=False)
        return replace(recipe, targets=(), **changes)
    begun = Start.of(start)
    method = {"method": "deepedit" if begun.spec.clicks else "segmentation"}
    kept = {"channels": begun.channels, "network": begun.network, "depth": begun.spec.depth}
    return replace(TABLE[_FINE].begun(with_weights=True), **{**method, **changes, **kept})


def _taught(dataset: Dataset) -> Dataset:
    return replace(dataset, everything=tuple(dataset.cases(_NOBODY)))


def _told(corrected: Dataset) -> dict[str, Any]:
    """Who drew what was learned from, for the model's card."""
    annotated = [case.about.get("annotated", {}) for case in corrected.everything]
    by = sorted({str(told["by"]) for told in annotated if told.get("by")})
    return {"corrected_exams": len(corrected.everything), "annotators": by}
