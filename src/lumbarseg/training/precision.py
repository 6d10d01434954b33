"""In which numbers the products of a step are computed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

_DTYPES = {"bf16": torch.bfloat16, "float16": torch.float16}


def default_device() -> torch.device:
    """The graphics card where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """ "auto" as one of the others: bf16 where the hardware multiplies it natively, else float16 or float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bf16" if has_native_bf16() else "float32"


def has_native_bf16() -> bool:
    """Whether this processor has bf16 products (AVX-512 BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which the network runs."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, _DTYPES[precision])


def to_channels_last(images: Tensor) -> Tensor:
    """Images, (N, C, ...), with their channels last in memory, as convolutions read them quickest."""
    return images.contiguous(memory_format=_memory_format(images.ndim))


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """A network on a device, its kernels laid out in the same way."""
    most = max(value.ndim for value in network.parameters())
    return network.to(device, memory_format=_memory_format(most))  # type: ignore[call-overload]


def _memory_format(dimensions: int) -> torch.memory_format:
    return {4: torch.channels_last, 5: torch.channels_last_3d}[dimensions]
