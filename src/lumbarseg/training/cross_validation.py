"""Cross-validation: one run for each fold, split by patient."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lumbarseg.errors import ModelError
from lumbarseg.io import write_json

from .checkpoint import CHECKPOINT_FILE
from .recorder import ValidationCallback
from .run_options import RunOptions, run_training
from .run_result import RESULT_FILE, RunResult
from .settings import RESUMABLE_SETTINGS

OPTIONS_FILE = "cross-validation.json"
"""The options that all folds have in common."""


def cross_validate(
    options: RunOptions, fold_count: int, on_validation: ValidationCallback | None = None
) -> Iterator[Path]:
    """Train one run for each fold in RUN/fold-1, RUN/fold-2, ...; yield the folder of each when it has ended.

    Repeated, it goes on where it was interrupted: folds that have ended are kept, the one that was running is resumed.
    With another length (`RESUMABLE_SETTINGS`) each fold is resumed.

    Raises
    ------
    DatasetError
        If there are fewer patients than folds.
    ModelError
        If the folder holds a cross-validation with other options.
    """
    _require_same_options(options, fold_count)
    lengths = {name: value for name, value in options.changes.items() if name in RESUMABLE_SETTINGS}
    for fold in range(1, fold_count + 1):
        folder = options.run_folder / f"fold-{fold}"
        if not _has_ended(folder, lengths):
            resume = (folder / CHECKPOINT_FILE).exists()
            changes = {**options.changes, "fold": f"{fold}/{fold_count}"}
            run_training(replace(options, run_folder=folder, resume=resume, changes=changes), on_validation)
        yield folder


def _has_ended(folder: Path, lengths: dict[str, object]) -> bool:
    """Whether the run of a fold has ended, with these lengths of training."""
    if not (folder / RESULT_FILE).exists():
        return False
    result = RunResult.read(folder)
    return result.finished and all(getattr(result.settings, name) == value for name, value in lengths.items())


def _require_same_options(options: RunOptions, fold_count: int) -> None:
    """Write the options that the folds have in common; ModelError if others were written before."""
    changes = {name: value for name, value in options.changes.items() if name not in RESUMABLE_SETTINGS}
    datasets = [str(folder.resolve()) for folder in options.datasets]
    values = {
        "number of folds": fold_count,
        "datasets": datasets,
        "preset": options.preset,
        "init": options.init,
        **changes,
    }
    values = json.loads(json.dumps(values))  # as they are read
    path = options.run_folder / OPTIONS_FILE
    if not path.exists():
        write_json(path, values)
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}; choose another folder") from error
    different = [name for name in {**before, **values} if before.get(name) != values.get(name)]
    if different:
        folder = options.run_folder
        raise ModelError(f"{folder}: its folds were trained with another {different[0]}; choose another folder")
