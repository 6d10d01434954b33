"""The device of a run, and the number format of its matrix products."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

_DTYPES = {"bf16": torch.bfloat16, "float16": torch.float16}


def default_device() -> torch.device:
    """Return the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """Replace "auto" by bf16 where `device` multiplies it natively, else by float16 (CUDA) or float32 (CPU)."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if native else "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which the network runs in `precision`."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, _DTYPES[precision])


def to_channels_last(images: Tensor) -> Tensor:
    """Return images (N, C, ...) with the channels last in memory, the layout that convolutions read fastest."""
    return images.contiguous(memory_format=_memory_format(images.ndim))


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network on a device, its kernels with the channels last in memory."""
    dimensions = max(value.ndim for value in network.parameters())
    return network.to(device, memory_format=_memory_format(dimensions))  # type: ignore[call-overload]


def _memory_format(dimensions: int) -> torch.memory_format:
    return {4: torch.channels_last, 5: torch.channels_last_3d}[dimensions]
