"""The largest network, crop and batch that a memory budget allows.

A step in float32 needs the activations that are saved for the gradient, which grow with the voxels of a batch; three
times the largest of them while a gradient passes; 24 bytes per parameter (weight, gradient, two of the optimizer, the
average and its copy for validation); and about 1 GB for the program and its data. The activations are counted on a
small sample. The peaks of real steps were 0 to 12 % below this sum for unet, dynunet and segresnet. Half precision
needs less: the estimate is that of float32, so a budget means the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import ModelError

from .losses import LabelSets, segmentation_loss
from .networks import build_network, input_channel_count
from .settings import TrainingSettings, depth_multiple

DEFAULT_BUDGET_GB = 8.0  # a common graphics card
_PROGRAM_BYTES = 1.0e9
_BYTES_PER_PARAMETER = 24
_GRADIENT_COPIES = 3  # of the largest activation
_ATTENTION_FACTOR = 1.8  # of a step of swinunetr to its saved activations, because of temporary attention weights
_LEARNING_RATES = {"unet": 1e-3, "dynunet": 1e-3, "segresnet": 5e-4, "swinunetr": 3e-4}  # defaults


_SIZE_NAMES = ("channels", "batch_size", "crop_size")
_LARGEST = ((2, 160), (2, 192), *((batch_size, 192) for batch_size in (4, 6, 8, 12, 16, 24)))
_UNET_SIZES = (
    *(((8, 16, 32, 64, 96), 2, crop_size) for crop_size in (96, 128)),
    *(((16, 32, 64, 128, 160), 2, crop_size) for crop_size in (96, 128, 160)),
    *(((24, 48, 96, 160, 224), 2, crop_size) for crop_size in (128, 160, 192)),
    *(((32, 64, 128, 256, 320), *largest) for largest in _LARGEST),
)
_SEGRESNET_SIZES = (
    *(((8, 16, 32, 64), 2, crop_size) for crop_size in (96, 128)),
    *(((16, 32, 64, 128), 2, crop_size) for crop_size in (96, 128, 160, 192)),
    *(((24, 48, 96, 192), 2, crop_size) for crop_size in (160, 192)),
    *(((32, 64, 128, 256), *largest) for largest in _LARGEST),
)
_SWINUNETR_SIZES = (
    *(((12,), batch_size, 128) for batch_size in (4, 8)),
    *(((24,), 8, 128), ((24,), 8, 192), ((36,), 8, 192), ((48,), 12, 192)),
)
_SIZES = {"unet": _UNET_SIZES, "dynunet": _UNET_SIZES, "segresnet": _SEGRESNET_SIZES, "swinunetr": _SWINUNETR_SIZES}
"""Channels, batch size and crop size that are chosen together, from the smallest to the largest."""


def settings_for_budget(settings: TrainingSettings, changes: Mapping[str, Any]) -> TrainingSettings:
    """Return `settings` with `changes`, and with the largest of `_SIZES` that the memory budget allows.

    Settings in `changes` are not replaced. A planar network keeps its channels and crop size, so that it can begin with
    given weights: only its batch shrinks. Raise ModelError if the smallest size needs more than the budget.
    """
    network = changes.get("network", settings.network)
    budget = changes.get("memory_gb") or settings.memory_gb or DEFAULT_BUDGET_GB
    batch_sizes = range(2, max(3, settings.batch_size + 1))
    sizes = _SIZES.get(network) or [(settings.channels, batch_size, settings.crop_size) for batch_size in batch_sizes]
    learning_rate = settings.learning_rate
    if learning_rate == TrainingSettings.learning_rate:
        learning_rate = _LEARNING_RATES.get(network, learning_rate)
    for size in reversed(sizes):
        values = {
            "learning_rate": learning_rate,
            **dict(zip(_SIZE_NAMES, size, strict=True)),
            **changes,
            "memory_gb": budget,
        }
        candidate = replace(settings, **values)
        needed = estimate_step_bytes(candidate)
        if needed <= budget * 1e9:
            return candidate
    raise ModelError(
        f"--memory {budget:g}GB: training {network} needs about {needed / 1e9:.1f} GB at least; give more, "
        "take another --network, or a smaller --batch-size or --crop-size"
    )


def estimate_step_bytes(settings: TrainingSettings) -> float:
    """Return the bytes that a training step of these settings needs."""
    crop_size = 2 * settings.in_plane_multiple
    sample = replace(settings, batch_size=2, crop_size=crop_size, steps=1, targets=())
    parameters, voxel_bytes = _count_parameters_and_bytes(sample)
    voxels = settings.slices_per_step * settings.crop_size**2
    return _PROGRAM_BYTES + _BYTES_PER_PARAMETER * parameters + voxel_bytes * voxels


@cache
def _count_parameters_and_bytes(settings: TrainingSettings) -> tuple[int, float]:
    """Return the number of parameters, and the bytes per voxel of activations and of gradients that pass."""
    network = build_network(settings).train()
    parameters = {value.data_ptr() for value in network.parameters()}
    saved: dict[int, Tensor] = {}  # holds the tensors, or the memory of a freed one would be counted as the next one

    def save(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in parameters and tensor.numel():
            saved.setdefault(address, tensor)
        return tensor

    slices = (depth_multiple(settings.channels),) if settings.depth else ()
    shape = (2, *slices, settings.crop_size, settings.crop_size)
    label_sets = LabelSets.from_allowed(torch.eye(len(CLASSES), dtype=torch.bool))
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        logits = network(torch.zeros(shape).unsqueeze(1).expand(2, input_channel_count(settings), *shape[1:]))
        segmentation_loss(logits, torch.zeros(shape, dtype=torch.long), label_sets, settings.dice_weight)
    sizes = [tensor.untyped_storage().nbytes() for tensor in saved.values()]
    factor = _ATTENTION_FACTOR if settings.network == "swinunetr" else 1.0
    voxel_bytes = factor * (sum(sizes) + _GRADIENT_COPIES * max(sizes)) / math.prod(shape)
    return sum(value.numel() for value in network.parameters()), voxel_bytes


def memory_advice(settings: TrainingSettings) -> str:
    """Return which options to lower when memory was not enough."""
    sizes = f"--batch-size (now {settings.batch_size}) or --crop-size (now {settings.crop_size})"
    if settings.network == "planar":
        return sizes
    return f"--memory (now {settings.memory_gb or DEFAULT_BUDGET_GB:g}GB) in a new run, {sizes}"
