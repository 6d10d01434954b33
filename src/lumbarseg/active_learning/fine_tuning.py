"""Training that goes on from a model with the exams that people corrected since."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lumbarseg.datasets import Dataset
from lumbarseg.errors import DatasetError
from lumbarseg.training.checkpoint import CHECKPOINT_FILE
from lumbarseg.training.initial_weights import InitialWeights
from lumbarseg.training.presets import TABLE
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import ValidationCallback, train

from .sampling_weights import dataset_weights, with_case_weights

_FINE_TUNING_PRESET, _FROM_SCRATCH_PRESET = "fine", "chu-5"
_TRAIN_SPLIT = "train"


def fine_tune(
    initial_weights: Path | str | None,
    corrected: Dataset,
    base_datasets: Sequence[Dataset],
    run_folder: Path,
    trained_on: Collection[str] = (),
    overrides: Mapping[str, Any] | None = None,
    watch: ValidationCallback | None = None,
) -> Path:
    """Train on from a model with corrected exams beside older data; gives the checkpoint's path.

    start: a model file, a run's folder or the word "shipped"; None begins from nothing. corrected, base: their cases of
    the split "train" alone are used, so nothing is learned from exams that judge, not even which moment is best. seen:
    names of corrected exams that `start` was trained on. changes: settings other than the recipe's. A run that lies in
    `out` already goes on, with the same words. DatasetError when there is nothing to learn from.
    """
    taught = [_training_cases(with_case_weights(corrected, trained_on)), *map(_training_cases, base_datasets)]
    if not taught[0].all_cases:
        raise DatasetError(f"{corrected.folder}: no corrected exam to learn from; the finished ones are held out")
    taught = [dataset for dataset in taught if dataset.all_cases]
    counts = [len(dataset.all_cases) for dataset in taught]
    resume = (run_folder / CHECKPOINT_FILE).exists()
    if resume:
        settings = TrainingSettings.from_dict(json.loads((run_folder / "settings.json").read_text(encoding="utf-8")))
    else:
        settings = fine_tuning_settings(
            initial_weights, {"sampling_weights": dataset_weights(counts[0], counts[1:]), **(overrides or {})}
        )
    return train(
        settings,
        taught,
        run_folder,
        resume,
        None if resume else initial_weights,
        {"loop": _annotation_info(taught[0])},
        watch,
    )


def fine_tuning_settings(initial_weights: Path | str | None, overrides: Mapping[str, Any]) -> TrainingSettings:
    """The recipe "fine" from a model, its network kept; from nothing the one for few exams. changes: other settings."""
    if initial_weights is None:
        recipe = TABLE[_FROM_SCRATCH_PRESET].settings_for(with_weights=False)
        return replace(recipe, targets=(), **overrides)
    begun = InitialWeights.load(initial_weights)
    method = {"method": "deepedit" if begun.spec.clicks else "segmentation"}
    kept = {"channels": begun.channels, "network": begun.network, "depth": begun.spec.depth}
    return replace(TABLE[_FINE_TUNING_PRESET].settings_for(with_weights=True), **{**method, **overrides, **kept})


def _training_cases(dataset: Dataset) -> Dataset:
    return replace(dataset, all_cases=tuple(dataset.cases(_TRAIN_SPLIT)))


def _annotation_info(corrected: Dataset) -> dict[str, Any]:
    """Who drew what was learned from, for the model's card."""
    annotated = [case.metadata.get("annotated", {}) for case in corrected.all_cases]
    by = sorted({str(told["by"]) for told in annotated if told.get("by")})
    return {"corrected_exams": len(corrected.all_cases), "annotators": by}
