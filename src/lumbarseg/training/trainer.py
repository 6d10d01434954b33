"""The training loop: data, network, then step after step until the last; and what one step does.

A run that is killed at any moment and resumed ends in the same weights, because batches are a function of the seed and
the step alone, and a checkpoint holds everything else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lumbarseg.datasets.dataset import Dataset
from lumbarseg.errors import ModelError
from lumbarseg.preprocessing import PreprocessingSpec

from .checkpoint import CHECKPOINT_FILE, Checkpoint
from .data import TrainingData, load_training_data
from .deepedit import ClickSimulator, add_empty_click_channels, codes_near_clicks
from .distributed import ProcessGroup, cpu_threads, join_process_group
from .initial_weights import InitialWeights, parse_known_kinds
from .losses import distillation_loss, marginal_cross_entropy, segmentation_loss
from .memory_budget import memory_advice
from .precision import autocast, to_channels_last
from .recorder import RunRecorder, ValidationCallback
from .sampling import Batch, VolumeSampler, stream_batches
from .settings import TrainingSettings
from .state import TrainingState, create_state

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
    with closing(RunRecorder(state, data, run_folder, on_validation)) as recorder:
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
    end = settings.steps if settings.fraction_done(state.step, state.elapsed_seconds) < 1 else state.step
    sampler = VolumeSampler.from_volumes(data.train, settings.sampling_weights)
    return stream_batches(sampler, settings, state.step, end, state.process_group.sample_slice)


def train_step(state: TrainingState, batch: Batch) -> float:
    """Take one step and return the loss; raise ModelError, before anything changes, if it is not finite."""
    settings = state.settings
    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate_at(state.step, state.elapsed_seconds)
    try:
        loss = _batch_loss(state, batch)
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise ModelError(f"not enough memory for a step; lower {memory_advice(settings)}") from error
    state.scaler.unscale_(state.optimizer)
    norm = float(torch.nn.utils.clip_grad_norm_(state.network.parameters(), settings.max_gradient_norm))
    value = float(loss.detach())
    if not math.isfinite(value) or not (state.scaler.is_enabled() or math.isfinite(norm)):
        raise ModelError(
            f"the loss is {value} at step {state.step + 1}; lower --learning-rate, or use --precision float32; "
            "the last checkpoint is kept"
        )
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.step += 1
    state.ema.update(state.network, state.step)
    return value


def _batch_loss(state: TrainingState, batch: Batch) -> Tensor:
    """Return the loss of a batch.

    Of several processes each gets the loss of all samples, with gradients of its own samples.
    """
    images = to_channels_last(batch[0].to(state.device, non_blocking=True))
    codes = batch[1].to(state.device, non_blocking=True).long()
    images_without_clicks = add_empty_click_channels(images, state.spec.inputs)
    if state.spec.clicks is not None:
        images = _add_simulated_clicks(state, images, codes)
    state.network.train()
    with autocast(state.precision, state.device):
        logits = state.parallel_network(images)
    logits = logits.float() + state.logit_bias
    settings, sets, batch_sum = state.settings, state.label_sets, state.process_group.sum_over_processes
    loss = segmentation_loss(logits, codes, sets, settings.dice_weight, batch_sum)
    if state.spec.clicks is not None:
        loss = loss + marginal_cross_entropy(logits, codes_near_clicks(images, codes), sets, batch_sum)
    if state.teacher is not None:
        with torch.no_grad(), autocast(state.precision, state.device):
            teacher_logits = state.teacher(images_without_clicks)
        teacher_logits = teacher_logits.float() + state.logit_bias
        loss = loss + settings.distillation_weight * distillation_loss(logits, teacher_logits, codes, sets, batch_sum)
    return loss


def _add_simulated_clicks(state: TrainingState, images: Tensor, codes: Tensor) -> Tensor:
    """Return images (N, 5, A, S) as (N, inputs, A, S) with clicks on the errors of the network as it is now."""
    assert state.spec.clicks is not None

    def predict_logits(images_with_clicks: Tensor) -> Tensor:
        with autocast(state.precision, state.device):
            return state.network(images_with_clicks).float() + state.logit_bias

    state.network.eval()
    allowed = state.label_sets.allowed.cpu().numpy()
    simulator = ClickSimulator(allowed, state.spec.clicks, state.spec.pixel, state.settings.seed)
    sample_numbers = range(state.settings.batch_size)[state.process_group.sample_slice]
    return to_channels_last(simulator(predict_logits, images, codes, state.step, sample_numbers))
