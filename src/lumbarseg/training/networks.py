"""The networks: from five neighbouring sagittal slices to the classes of the middle one, or from a block to its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lumbarseg.anatomy import CLASSES

from . import monai_networks
from .precision import to_device
from .settings import TrainingSettings

INPUT_SLICES = 5


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for width in (inputs, outputs):
            layers += [
                nn.Conv2d(width, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class PlanarUNet(nn.Module):
    """A U-Net at half resolution: pixels are folded into channels before it and unfolded after it.

    Ronneberger et al., U-Net, MICCAI 2015; Shi et al., pixel shuffle, CVPR 2016. The plane must be a multiple of
    2 ** len(channels).
    """

    def __init__(self, channels: tuple[int, ...], inputs: int = INPUT_SLICES) -> None:
        super().__init__()
        widths = (inputs * 4, *channels)
        self.down = nn.ModuleList(ConvBlock(a, b) for a, b in zip(widths, channels, strict=False))
        self.up = nn.ModuleList(ConvBlock(a + b, a) for a, b in pairwise(channels))
        self.head = nn.Conv2d(channels[0], len(CLASSES) * 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 6, A, S) of images (N, inputs, A, S) float32 at 1 mm: five slices, then clicks if any."""
        x = functional.pixel_unshuffle(images, 2)  # (N, 5, A, S) -> (N, 20, A/2, S/2)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        return functional.pixel_shuffle(self.head(x), 2)  # (N, 24, A/2, S/2) -> (N, 6, A, S)


_BLOCK_NETWORKS: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    "unet": monai_networks.build_unet,
    "dynunet": monai_networks.build_dynunet,
    "segresnet": monai_networks.build_segresnet,
}


def input_channel_count(settings: TrainingSettings) -> int:
    """Return the number of input channels: slices, and one per class for clicks; one for a block of slices."""
    if settings.depth:
        return 1
    return INPUT_SLICES + (len(CLASSES) if settings.method == "deepedit" else 0)


def load_network(
    settings: TrainingSettings, weights: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> nn.Module:
    """Return the network of these settings with these weights, in evaluation mode."""
    network = build_network(settings)
    network.load_state_dict(weights)
    return to_device(network, torch.device(device)).eval()


def build_network(settings: TrainingSettings) -> nn.Module:
    """Build the network of these settings with random weights of their seed.

    The planar network and MONAI's swinunetr map (N, inputs, A, S) to logits (N, 6, A, S), MONAI's other networks
    (N, 1, D, A, S) to (N, 6, D, A, S).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if settings.network == "planar":
            return PlanarUNet(settings.channels, input_channel_count(settings))
        if settings.network == "swinunetr":
            return monai_networks.build_swinunetr(settings.channels, input_channel_count(settings))
        return monai_networks.with_fast_instance_norm(_BLOCK_NETWORKS[settings.network](settings.channels))
