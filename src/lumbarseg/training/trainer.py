"""The training loop: data, network, then step after step until the last.

A run that is killed at any moment and resumed ends in the same weights, because batches are a function of the seed and
the step alone, and a checkpoint holds everything else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lumbarseg.datasets.dataset import Dataset
from lumbarseg.errors import ModelError
from lumbarseg.preprocessing import PreprocessingSpec

from .checkpoint import CHECKPOINT_FILE, Checkpoint
from .data import TrainingData, load_training_data
from .distributed import ProcessGroup, cpu_threads, join_process_group
from .initial_weights import InitialWeights, parse_known_kinds
from .learning_rate import fraction_done
from .recorder import RunRecorder, ValidationCallback
from .sampling import Batch, VolumeSampler, stream_batches
from .settings import TrainingSettings
from .state import TrainingState, create_state
from .training_step import train_step

SETTINGS_FILE = "settings.json"


def train(
    settings: TrainingSettings,
    datasets: Sequence[Dataset],
    run_folder: Path | str,
    resume: bool = False,
    init: Path | str | None = None,
    details: Mapping[str, Any] | None = None,
    on_validation: ValidationCallback | None = None,
) -> Path:
    """Train a network to the last step; return the path of its checkpoint.

    Parameters
    ----------
    run_folder : where all files of the run are written
    resume : continue the run in `run_folder`, which must have the same settings and data; its length may change
    init : initial weights, see `InitialWeights.load`; None trains from scratch
    details : more for the model card
    on_validation : called after each validation and at the end, when history.csv and result.json are up to date
    """
    run_folder = Path(run_folder)
    path = run_folder / CHECKPOINT_FILE
    if path.exists() and not resume:
        raise ModelError(f"{path}: a run is here already; continue it with --resume or choose another folder")
    with join_process_group() as group:
        torch.set_num_threads(settings.threads or cpu_threads())
        checkpoint = _load_resumed_checkpoint(path, settings) if resume else None
        initial_weights = InitialWeights.load(init) if init is not None and not resume else None
        state, data = _prepare_run(settings, datasets, group, checkpoint, initial_weights)
        state.details |= details or {}
        if group.is_main:
            run_folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(state.settings.to_dict(), indent=1)
            (run_folder / SETTINGS_FILE).write_text(text, encoding="utf-8")
            _train_as_main_process(state, data, run_folder, on_validation)
        else:
            _train_as_follower(state, data)
    return path


def _load_resumed_checkpoint(path: Path, settings: TrainingSettings) -> Checkpoint:
    checkpoint = Checkpoint.load(path)
    different = settings.differences(checkpoint.settings)
    if different:
        raise ModelError(f"{path}: this run was started with another {different[0]}; resume it with the same settings")
    return checkpoint


def _prepare_run(
    settings: TrainingSettings,
    datasets: Sequence[Dataset],
    group: ProcessGroup,
    checkpoint: Checkpoint | None,
    initial_weights: InitialWeights | None,
) -> tuple[TrainingState, TrainingData]:
    """Load the data and return it with the state of a run at its first step, or where it was interrupted."""
    if settings.batch_size < group.world_size:
        raise ModelError(f"settings: a batch of {settings.batch_size} for {group.world_size} processes; raise it")
    if initial_weights is not None:
        initial_weights.check_network(settings)
    before = checkpoint or initial_weights
    known_kinds = parse_known_kinds(checkpoint.trained_names) if checkpoint else None
    known_kinds = initial_weights.known_kinds if initial_weights else known_kinds
    data = load_training_data(settings, datasets, before.spec if before else PreprocessingSpec(), known_kinds)
    if settings.epochs:
        settings = replace(settings, steps=math.ceil(settings.epochs * data.slice_count / settings.slices_per_step))
    return create_state(settings, data, initial_weights, checkpoint, group), data


def _train_as_main_process(
    state: TrainingState, data: TrainingData, run_folder: Path, on_validation: ValidationCallback | None
) -> None:
    """Take all remaining steps, and write checkpoints, validation scores and logs."""
    with RunRecorder(state, data, run_folder, on_validation) as recorder:
        for batch in _remaining_batches(state, data):
            last = recorder.record_step(train_step(state, batch), batch)
            state.process_group.broadcast(state.elapsed_seconds, last)
            if last:
                break
        if not (run_folder / CHECKPOINT_FILE).exists():
            recorder.save_checkpoint()


def _train_as_follower(state: TrainingState, data: TrainingData) -> None:
    """Take all remaining steps as a process that writes nothing, until the main process ends the run."""
    for batch in _remaining_batches(state, data):
        train_step(state, batch)
        state.elapsed_seconds, last = state.process_group.broadcast(0.0, 0.0)
        if last:
            break


def _remaining_batches(state: TrainingState, data: TrainingData) -> Iterator[Batch]:
    """Return this process's samples of all remaining batches."""
    settings = state.settings
    end = settings.steps if fraction_done(settings, state.step, state.elapsed_seconds) < 1 else state.step
    sampler = VolumeSampler.from_volumes(data.train, settings.sampling_weights)
    return stream_batches(sampler, settings, state.step, end, state.process_group.sample_slice)
