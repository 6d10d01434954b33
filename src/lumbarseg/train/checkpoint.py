"""A training run at one moment: everything needed to go on as if nothing had happened."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import ModelError
from lumbarseg.prepare import Spec

from .networks import PlanarUNet
from .settings import Settings

FORMAT = 1
Weights = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One moment of a run. data: names and checksums of the datasets; about: what is known of the run."""

    settings: Settings
    spec: Spec
    step: int
    model: Weights
    average: Weights
    optimiser: dict[str, Any]
    scaler: dict[str, Any]
    random: Tensor
    data: dict[str, str]
    about: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write beside the path, then move there: a kill at any moment leaves the old one or the new one."""
        values = {**vars(self), "format": FORMAT, "classes": [str(kind) for kind in CLASSES]}
        values |= {"settings": self.settings.to_dict(), "spec": self.spec.to_dict()}
        part = path.with_name(f".{path.name}.part")
        with open(part, "wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint, without running anything in it; ModelError when it is none."""
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise ModelError(f"{path}: not found; a run writes it a minute after its start") from None
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise ModelError(f"{path}: no checkpoint of a training run") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ModelError(f"{path}: no checkpoint of a training run, or of another version")
        if values.pop("classes", None) != [str(kind) for kind in CLASSES]:
            raise ModelError(f"{path}: made for other tissue classes")
        try:
            values |= {"settings": Settings.from_dict(values["settings"]), "spec": Spec.from_dict(values["spec"])}
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ModelError(f"{path}: the checkpoint is incomplete: {error}") from error

    def network(self) -> PlanarUNet:
        """The network with its averaged weights, ready to answer."""
        network = PlanarUNet(self.settings.channels)
        network.load_state_dict(self.average)
        return network.eval()


class Average:
    """Exponential average of a network's weights and of the buffers of its batch norms."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.weights: Weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take the network's weights in; the first steps count less, so that the start is soon forgotten."""
        decay = min(self.decay, step / (step + 10))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)
