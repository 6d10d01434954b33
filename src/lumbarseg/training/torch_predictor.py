"""A torch network with the interface of a model file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lumbarseg.inference.card import ModelCard
from lumbarseg.volume import Array

from .precision import autocast, to_channels_last


@dataclass(frozen=True, eq=False)
class TorchPredictor:
    """A network that predicts as a model file would."""

    card: ModelCard
    network: nn.Module
    precision: str = "float32"

    @torch.no_grad()
    def run(self, windows: Array) -> Array:
        """Return logits (N, classes, A, S) float32 of windows (N, inputs, A, S), or both with a depth as third axis."""
        device = next(self.network.parameters()).device
        images = to_channels_last(torch.from_numpy(np.ascontiguousarray(windows)).to(device))
        with autocast(self.precision, device):
            return self.network(images).float().cpu().numpy()
