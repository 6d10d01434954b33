"""Cross-validation: one run for each fold, split by patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .checkpoint import CHECKPOINT_FILE
from .history import RESULT_FILE, read_result
from .recorder import ValidationCallback
from .run_options import RunOptions, run_training


def cross_validate(
    options: RunOptions, fold_count: int, on_validation: ValidationCallback | None = None
) -> Iterator[Path]:
    """Train one run for each fold in RUN/fold-1, RUN/fold-2, ...; yield the folder of each when it has ended.

    Repeated, it goes on where it was interrupted: folds that have ended are kept, the one that was running is resumed.

    Raises
    ------
    DatasetError
        If there are fewer patients than folds.
    """
    for fold in range(1, fold_count + 1):
        folder = options.run_folder / f"fold-{fold}"
        has_ended = (folder / RESULT_FILE).exists() and read_result(folder)["finished"]
        if not has_ended:
            resume = (folder / CHECKPOINT_FILE).exists()
            changes = {**options.changes, "fold": f"{fold}/{fold_count}"}
            run_training(replace(options, run_folder=folder, resume=resume, changes=changes), on_validation)
        yield folder
