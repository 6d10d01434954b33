"""One training step: loss, gradient, optimizer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lumbarseg.errors import ModelError

from .deepedit import ClickSimulator, add_empty_click_channels, codes_near_clicks
from .learning_rate import learning_rate_at
from .losses import distillation_loss, marginal_cross_entropy, segmentation_loss
from .memory_budget import memory_advice
from .precision import autocast, to_channels_last
from .sampling import Batch
from .state import TrainingState


def train_step(state: TrainingState, batch: Batch) -> float:
    """Take one step and return the loss; raise ModelError, before anything changes, if it is not finite."""
    settings = state.settings
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(settings, state.step, state.elapsed_seconds)
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
    """Return the loss of a batch: of the whole batch in value, of this process's samples in gradient."""
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
