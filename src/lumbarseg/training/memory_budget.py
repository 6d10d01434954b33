"""How large a network, a sample and a batch a memory budget allows.

A step needs, in float32, what the network keeps for its gradient, which grows with the voxels of a batch; three times
the largest of that while a gradient passes; 24 bytes per parameter (weight, gradient, two of the optimiser, the average
and its copy while it answers); and about 1 GB for the program and its data. What is kept is not guessed but counted, on
a small sample. The peaks of real steps lay 0 to 12 % under this sum for unet, dynunet and segresnet. Half precision
needs less: the estimate is the larger one, so that a budget means the same everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import ModelError

from .losses import LabelSets, segmentation_loss
from .networks import build_network, input_channel_count
from .settings import TrainingSettings, depth_multiple

DEFAULT_BUDGET_GB = 8.0  # GB, of a common graphics card
_PROGRAM_BYTES = 1.0e9
_BYTES_PER_PARAMETER = 24
_GRADIENT_COPIES = 3  # of the largest that is kept
_ATTENTION_FACTOR = 1.8  # of a step of swinunetr to what it keeps: the weights of its windows come and go
_LEARNING_RATES = {"unet": 1e-3, "dynunet": 1e-3, "segresnet": 5e-4, "swinunetr": 3e-4}  # unless told otherwise


@dataclass(frozen=True)
class TrainingSize:
    """What is chosen together."""

    channels: tuple[int, ...]
    batch_size: int
    crop_size: int


def _doubling_channels(first: int, levels: int) -> tuple[int, ...]:
    return tuple(first * 2**level for level in range(levels))


_LARGEST_BATCHES = ((2, 160), (2, 192), *((batch, 192) for batch in (4, 6, 8, 12, 16, 24)))
"""Batch and crop of the widest networks."""
_UNET_SIZES = (
    *(TrainingSize((8, 16, 32, 64, 96), 2, crop) for crop in (96, 128)),
    *(TrainingSize((16, 32, 64, 128, 160), 2, crop) for crop in (96, 128, 160)),
    *(TrainingSize((24, 48, 96, 160, 224), 2, crop) for crop in (128, 160, 192)),
    *(TrainingSize((32, 64, 128, 256, 320), batch, crop) for batch, crop in _LARGEST_BATCHES),
)
_SIZES = {
    "unet": _UNET_SIZES,
    "dynunet": _UNET_SIZES,
    "segresnet": (
        *(TrainingSize(_doubling_channels(8, 4), 2, crop) for crop in (96, 128)),
        *(TrainingSize(_doubling_channels(16, 4), 2, crop) for crop in (96, 128, 160, 192)),
        *(TrainingSize(_doubling_channels(24, 4), 2, crop) for crop in (160, 192)),
        *(TrainingSize(_doubling_channels(32, 4), batch, crop) for batch, crop in _LARGEST_BATCHES),
    ),
    "swinunetr": tuple(
        TrainingSize((width,), batch, crop)
        for width, batch, crop in ((12, 4, 128), (12, 8, 128), (24, 8, 128), (24, 8, 192), (36, 8, 192), (48, 12, 192))
    ),
}


def settings_for_budget(settings: TrainingSettings, changes: Mapping[str, Any]) -> TrainingSettings:
    """`base` with `changes`, and with the largest sizes of the table that its budget allows, by `estimate`.

    What `changes` name stays. A planar network keeps its channels and crop, so that it may begin with other weights:
    only its batch shrinks. ModelError when the smallest is too large.
    """
    network = changes.get("network", settings.network)
    budget = changes.get("memory_gb") or settings.memory_gb or DEFAULT_BUDGET_GB
    if network == "planar":
        options = [
            TrainingSize(settings.channels, batch, settings.crop_size)
            for batch in range(2, max(3, settings.batch_size + 1))
        ]
    else:
        options = list(_SIZES[network])
    rate = (
        _LEARNING_RATES.get(network, settings.learning_rate)
        if settings.learning_rate == TrainingSettings.learning_rate
        else settings.learning_rate
    )
    for size in reversed(options):
        candidate = replace(settings, **{"learning_rate": rate, **vars(size), **changes, "memory_gb": budget})
        needed = estimate_step_bytes(candidate)
        if needed <= budget * 1e9:
            return candidate
    raise ModelError(
        f"--memory {budget:g}GB: training {network} needs about {needed / 1e9:.1f} GB at least; give more, "
        "take another --network, or a smaller --batch-size or --crop-size"
    )


def estimate_step_bytes(settings: TrainingSettings) -> float:
    """Bytes that a training step of these settings needs."""
    parameters, voxel = _count_parameters_and_bytes(
        replace(settings, batch_size=2, crop_size=2 * settings.in_plane_multiple, steps=1, targets=())
    )
    return _PROGRAM_BYTES + _BYTES_PER_PARAMETER * parameters + voxel * settings.slices_per_step * settings.crop_size**2


@cache
def _count_parameters_and_bytes(settings: TrainingSettings) -> tuple[int, float]:
    """Parameters of the network, and bytes that a step keeps and passes on per voxel."""
    network = build_network(settings).train()
    own = {value.data_ptr() for value in network.parameters()}
    kept: dict[int, Tensor] = {}  # held, or a freed tensor's place would be taken for that of the next

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own and tensor.numel():
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    slices = (depth_multiple(settings.channels),) if settings.depth else ()
    shape = (2, *slices, settings.crop_size, settings.crop_size)
    sets = LabelSets.of(torch.eye(len(CLASSES), dtype=torch.bool))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(torch.zeros(shape).unsqueeze(1).expand(2, input_channel_count(settings), *shape[1:]))
        segmentation_loss(logits, torch.zeros(shape, dtype=torch.long), sets, settings.dice_weight)
    sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values()]
    parameters = sum(value.numel() for value in network.parameters())
    more = _ATTENTION_FACTOR if settings.network == "swinunetr" else 1.0
    return parameters, more * (sum(sizes) + _GRADIENT_COPIES * max(sizes)) / math.prod(shape)


def memory_advice(settings: TrainingSettings) -> str:
    """What a person may lower when memory was not enough."""
    one = f"--batch-size (now {settings.batch_size}) or --crop-size (now {settings.crop_size})"
    return (
        one
        if settings.network == "planar"
        else f"--memory (now {settings.memory_gb or DEFAULT_BUDGET_GB:g}GB) in a new run, {one}"
    )
