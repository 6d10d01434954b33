"""MONAI's networks, configured for slices that are three to five times as thick as a pixel is wide.

The first two levels halve only the plane; the slices of a block are halved once a pixel of the level is as large as
they are thick. SwinUNETR halves every axis five times, too often for an exam of fifteen slices: it is used in 2-D and
reads a slice with its neighbours, as the planar network does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import ModelError

IN_PLANE_LEVELS = 2
"""Levels that halve only the plane."""
_INSTANCE_NORM = ("instance", {"affine": True})  # a batch holds one to four blocks: too few for batch norm
_SPACING_MM = (4.0, 1.0, 1.0)  # SegResNet derives its strides from it


class FastInstanceNorm(nn.InstanceNorm3d):
    """Instance norm that keeps channels last in memory; torch's own copies them to the front and back.

    Batch norm of one sample at a time is the same arithmetic, and saves a tenth to a quarter of a step on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each sample of x (N, C, D, A, S) to mean 0 and variance 1, then scale it."""
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        samples = x.split(1)
        norm = functional.batch_norm
        return torch.cat([norm(one, None, None, self.weight, self.bias, True, 0.0, self.eps) for one in samples])


def with_fast_instance_norm(network: nn.Module) -> nn.Module:
    """Return the network with its instance norms as above; their weights and names stay."""
    for module in network.modules():
        if type(module) is nn.InstanceNorm3d:
            module.__class__ = FastInstanceNorm
    return network


def build_unet(channels: tuple[int, ...]) -> nn.Module:
    """Build MONAI's U-Net with one residual unit per level."""
    from monai.networks.nets.unet import UNet

    strides, norm = _strides(channels), _INSTANCE_NORM
    return UNet(3, 1, len(CLASSES), channels, strides, num_res_units=1, norm=norm)  # type: ignore[arg-type]


def build_dynunet(channels: tuple[int, ...]) -> nn.Module:
    """Build the network of nnU-Net: flat kernels as long as only the plane is halved."""
    from monai.networks.nets.dynunet import DynUNet

    strides = _strides(channels)
    kernels = [(1, 3, 3) if level < IN_PLANE_LEVELS else (3, 3, 3) for level in range(len(channels))]
    all_strides = [(1, 1, 1), *strides]
    return DynUNet(3, 1, len(CLASSES), kernels, all_strides, strides, channels, norm_name=_INSTANCE_NORM)


def build_segresnet(channels: tuple[int, ...]) -> nn.Module:
    """Build the SegResNet whose strides follow the spacing; its channels double from level to level."""
    from monai.networks.nets.segresnet_ds import SegResNetDS

    blocks = (*(1 if level == 0 else 2 for level in range(len(channels) - 1)), 4)
    sizes: dict[str, Any] = {"init_filters": channels[0], "blocks_down": blocks, "resolution": _SPACING_MM}
    return SegResNetDS(3, in_channels=1, out_channels=len(CLASSES), norm=_INSTANCE_NORM, **sizes)


def build_swinunetr(channels: tuple[int, ...], inputs: int) -> nn.Module:
    """Build SwinUNETR in 2-D with five halvings; its one width, a multiple of 12, doubles with each."""
    from monai.networks.nets.swin_unetr import SwinUNETR
    from monai.utils.module import optional_import

    if not optional_import("einops")[1]:
        raise ModelError("swinunetr needs the library einops: pip install einops")
    return SwinUNETR(inputs, len(CLASSES), feature_size=channels[0], spatial_dims=2)


def _strides(channels: tuple[int, ...]) -> list[tuple[int, int, int]]:
    return [(1, 2, 2) if level < IN_PLANE_LEVELS else (2, 2, 2) for level in range(len(channels) - 1)]
