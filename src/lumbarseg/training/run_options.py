"""From the options of `lumbarseg train` to a run: which initial weights, which settings, which cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lumbarseg.datasets.dataset import Dataset
from lumbarseg.datasets.selection import Selection, select_cases
from lumbarseg.datasets.splits import SplitSettings, patient_id
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import bundled_model_path

from .initial_weights import InitialWeights
from .memory_budget import settings_for_budget
from .presets import PRESETS, SMALL_DATASET_CASES
from .recorder import ValidationCallback
from .settings import TrainingSettings
from .trainer import SETTINGS_FILE, train

_MIN_PATIENTS = 5  # datasets with fewer hold none out by default


@dataclass(frozen=True)
class RunOptions:
    """The options of a run.

    preset : name of a preset, "" for the default; init : "shipped", "none", a run or a model file, "" for the default;
    changes : settings that are given, which replace those of the preset or of the resumed run
    """

    datasets: Sequence[Path]
    run_folder: Path
    resume: bool = False
    preset: str = ""
    init: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


def run_training(options: RunOptions, on_validation: ValidationCallback | None = None) -> Path:
    """Train to the last step; return the path of the checkpoint."""
    datasets = [Dataset.open(folder) for folder in options.datasets]
    init = None if options.resume else _choose_initial_weights(options, datasets)
    settings = _resumed_settings(options) if options.resume else _new_settings(options, init)
    details = {"fold": settings.fold, "preset": options.preset}
    return train(
        settings,
        select_and_split_cases(settings, datasets),
        options.run_folder,
        options.resume,
        init,
        {name: value for name, value in details.items() if value},
        on_validation,
    )


def _choose_initial_weights(options: RunOptions, datasets: Sequence[Dataset]) -> str | None:
    """Return the initial weights: those chosen, else the installed model for a small training set; None: scratch."""
    if options.init:
        return None if options.init == "none" else options.init
    if options.changes.get("network", "planar") != "planar":  # the installed model is planar
        return None
    cases = sum(len(dataset.cases("train")) for dataset in datasets)
    if PRESETS[options.preset].init == "none" if options.preset else cases >= SMALL_DATASET_CASES:
        return None
    try:
        return str(bundled_model_path())
    except ModelError:
        return None


def _resumed_settings(options: RunOptions) -> TrainingSettings:
    path = options.run_folder / SETTINGS_FILE
    try:
        settings = TrainingSettings.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read, so there is no run to resume: {error}") from error
    return replace(settings, **_length_changes(options.changes))


def _new_settings(options: RunOptions, init: str | None) -> TrainingSettings:
    """Return the settings of the preset, with the network of the initial weights, and with the changes."""
    preset = options.preset or ("fine" if init else "")
    settings = PRESETS[preset].settings if preset else TrainingSettings()
    changes = _length_changes(options.changes)
    if init:
        weights = InitialWeights.load(init)
        network = changes.get("network", weights.network)
        if network != weights.network:
            raise ModelError(f"{weights.path}: is a {weights.network} network, not {network}; use --init none")
        settings = replace(settings, channels=weights.channels, network=network, depth=weights.spec.depth)
        changes["channels"] = weights.channels
    if changes.get("memory_gb") or changes.get("network", settings.network) != "planar":
        return settings_for_budget(settings, changes)
    return replace(settings, **changes)


def _length_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes; steps that are given replace epochs."""
    return {"epochs": 0, **changes} if "steps" in changes else dict(changes)


def select_and_split_cases(settings: TrainingSettings, datasets: Sequence[Dataset]) -> list[Dataset]:
    """Return the datasets with the cases and splits of a run; raise DatasetError if no case is left.

    With `fold`, the patients of each dataset are split into folds; the split "test" stays. Without, the splits are
    those of the datasets; if none of them has validation cases, a fifth of the patients becomes the validation set.
    """
    selection = Selection(contrasts=settings.contrasts)
    if settings.fold:
        return select_cases(datasets, selection, SplitSettings(_parse_fold(settings.fold), settings.seed))
    selected = select_cases(datasets, selection)
    if any(dataset.cases("val") for dataset in selected):
        return selected
    split = SplitSettings((1, _MIN_PATIENTS), settings.seed)
    return [replace(d, all_cases=tuple(split.assign(d.all_cases))) if _has_enough_patients(d) else d for d in selected]


def _parse_fold(text: str) -> tuple[int, int]:
    """Parse "1/5"."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise DatasetError(f"fold {text!r}: write K/N, for example 1/5")
    return int(number), int(count)


def _has_enough_patients(dataset: Dataset) -> bool:
    return len({patient_id(case) for case in dataset.cases("train")}) >= _MIN_PATIENTS
