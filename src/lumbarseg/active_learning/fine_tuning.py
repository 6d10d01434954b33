"""Fine-tune a model on corrected exams."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lumbarseg.datasets import Dataset
from lumbarseg.errors import DatasetError
from lumbarseg.training.checkpoint import CHECKPOINT_FILE
from lumbarseg.training.export import checkpoint_to_export, export_model
from lumbarseg.training.initial_weights import InitialWeights
from lumbarseg.training.presets import PRESETS
from lumbarseg.training.recorder import ValidationCallback
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.trainer import train

from .sampling_weights import dataset_weights, with_case_weights

_FINE_TUNING_PRESET, _FROM_SCRATCH_PRESET = "fine", "few-exams"


def fine_tune(
    initial_weights: Path | str | None,
    corrected: Dataset,
    base_datasets: Sequence[Dataset],
    run_folder: Path,
    trained_on: Collection[str] = (),
    overrides: Mapping[str, Any] | None = None,
    on_validation: ValidationCallback | None = None,
) -> Path:
    """Train a model further on corrected exams and base datasets; return the path of the checkpoint.

    Only cases of the split "train" are used, so validation exams do not even choose the best checkpoint. An interrupted
    run in `run_folder` is resumed with its own settings.

    Parameters
    ----------
    initial_weights : model file, folder of a run, or "shipped"; None to train from scratch
    trained_on : names of the corrected cases that `initial_weights` was trained on
    overrides : settings that replace those of the preset

    Raises
    ------
    DatasetError : when there is no corrected exam to train on.
    """
    corrected = _training_cases(with_case_weights(corrected, trained_on))
    if not corrected.all_cases:
        raise DatasetError(f"{corrected.folder}: no corrected exam to train on; all finished ones are for validation")
    datasets = [corrected, *(base for base in map(_training_cases, base_datasets) if base.all_cases)]
    resume = (run_folder / CHECKPOINT_FILE).exists()
    if resume:
        settings = TrainingSettings.from_dict(json.loads((run_folder / "settings.json").read_text(encoding="utf-8")))
    else:
        counts = [len(dataset.all_cases) for dataset in datasets]
        weights = {"sampling_weights": dataset_weights(counts[0], counts[1:])}
        settings = fine_tuning_settings(initial_weights, {**weights, **(overrides or {})})
    details = {"loop": _annotation_info(corrected)}
    return train(settings, datasets, run_folder, resume, None if resume else initial_weights, details, on_validation)


def fine_tuning_settings(initial_weights: Path | str | None, overrides: Mapping[str, Any]) -> TrainingSettings:
    """Return the settings of the preset "fine", for the network of the initial weights, with overrides.

    From scratch, the preset for few exams is used.
    """
    if initial_weights is None:
        return replace(PRESETS[_FROM_SCRATCH_PRESET].settings, **overrides)
    weights = InitialWeights.load(initial_weights)
    method = {"method": "deepedit" if weights.spec.clicks else "segmentation"}
    network = {"channels": weights.channels, "network": weights.network, "depth": weights.spec.depth}
    settings = PRESETS[_FINE_TUNING_PRESET].settings
    return replace(settings, **{**method, **overrides, **network})


def export_run(run_folder: Path, target: Path, last: bool = False) -> Path:
    """Export a run's best checkpoint, or its last one, as a model file."""
    return export_model(checkpoint_to_export(run_folder, last), target)


def _training_cases(dataset: Dataset) -> Dataset:
    return replace(dataset, all_cases=tuple(dataset.cases("train")))


def _annotation_info(corrected: Dataset) -> dict[str, Any]:
    """Summarise the corrected exams and their annotators for the model card."""
    names = {case.metadata.get("annotated", {}).get("by") for case in corrected.all_cases}
    return {"corrected_exams": len(corrected.all_cases), "annotators": sorted(str(name) for name in names if name)}
