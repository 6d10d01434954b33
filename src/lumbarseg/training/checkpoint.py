"""Checkpoints: everything that a training run needs to continue as if it had never stopped."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import FileError, ModelError
from lumbarseg.inference import ModelCard
from lumbarseg.io import atomic_write
from lumbarseg.preprocessing import PreprocessingSpec

from .deepedit import fit_input_channels
from .losses import EXCLUDED_CLASS_LOGIT
from .networks import load_network
from .run_result import ValidationScores
from .settings import TrainingSettings

FORMAT_VERSION = 1
CHECKPOINT_FILE, BEST_FILE = "checkpoint.pt", "best.pt"
"""Files of a run's folder: its last checkpoint, and the one with the best validation score."""

Weights = dict[str, Tensor]

_READ_ERRORS = (EOFError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError)
"""What torch's reader raises for bytes that are no checkpoint."""

_FORMER = """
model=weights average=ema_weights teacher=teacher_weights optimiser=optimizer random=rng_state data=dataset_digests
about=details elapsed=elapsed_seconds known=trained_names lowest=lowest_structure best=best_validation
"""
_FORMER_KEYS = dict(pair.split("=") for pair in _FORMER.split())
"""Keys in checkpoints from before the rename, and the keys of today."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run after `step` steps.

    ema_weights : exponential moving average of `weights`; dataset_digests : names and checksums of the datasets;
    details : more for the model card; elapsed_seconds : of training; trained_names, targets, lowest_structure : as in
    the model card; teacher_weights : of the network whose predictions are distilled, if any
    """

    settings: TrainingSettings
    spec: PreprocessingSpec
    step: int
    weights: Weights
    ema_weights: Weights
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    rng_state: Tensor
    dataset_digests: dict[str, str]
    details: dict[str, Any]
    elapsed_seconds: float = 0.0
    trained_names: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    lowest_structure: tuple[str, float] | None = None
    best_validation: ValidationScores = field(default_factory=ValidationScores)
    teacher_weights: Weights = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the checkpoint; if the process is killed or the disk is full, the file from before stays."""
        values = {**vars(self), "format": FORMAT_VERSION, "classes": [str(kind) for kind in CLASSES]}
        values |= {"settings": self.settings.to_dict(), "spec": self.spec.to_dict()}
        values |= {"best_validation": asdict(self.best_validation)}
        try:
            with atomic_write(path) as file:
                torch.save(values, file)
                file.flush()
                os.fsync(file.fileno())
        except (FileError, RuntimeError) as error:  # torch raises RuntimeError when it cannot write
            previous = "the previous one is kept" if path.exists() else "there is none yet"
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else "the disk may be full"
            raise FileError(
                f"{path}: the checkpoint cannot be written: {reason}; {previous}: make room, then --resume"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint without executing code in it; raise ModelError if it is none."""
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise ModelError(f"{path}: not found; a run writes it a minute after its start") from None
        except (*_READ_ERRORS, OSError, RuntimeError) as error:
            raise ModelError(f"{path}: no checkpoint of a training run") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT_VERSION:
            raise ModelError(f"{path}: no checkpoint of a training run, or of another version")
        if values.pop("classes", None) != [str(kind) for kind in CLASSES]:
            raise ModelError(f"{path}: made for other tissue classes")
        values = {_FORMER_KEYS.get(name, name): value for name, value in values.items()}
        try:
            values["settings"] = TrainingSettings.from_dict(values["settings"])
            values["spec"] = PreprocessingSpec.from_dict(values["spec"])
            values["best_validation"] = ValidationScores.from_dict(values.get("best_validation", {}))
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ModelError(f"{path}: the checkpoint is incomplete: {error}") from error

    def ema_network(self) -> nn.Module:
        """Return the network with its averaged weights, in evaluation mode."""
        return load_network(self.settings, self.ema_weights)

    def card(self, details: Mapping[str, Any] | None = None, bias: Sequence[float] | None = None) -> ModelCard:
        """Return the model card of the network; `details` and `bias` as in `export_model`."""
        classes = self.trained_names or CLASSES
        excluded = [0.0 if kind in classes else EXCLUDED_CLASS_LOGIT for kind in CLASSES]
        facts = {"step": self.step, "settings": self.settings.to_dict(), "datasets": self.dataset_digests}
        return ModelCard(
            self.spec,
            bias=tuple(float(b) + e for b, e in zip(bias or (0.0,) * len(CLASSES), excluded, strict=False)),
            details={**facts, **self.details, **(details or {})},
            trained_names=self.trained_names,
            targets=self.targets,
            lowest_structure=self.lowest_structure,
        )


def load_mean_checkpoint(paths: Path | Sequence[Path]) -> Checkpoint:
    """Return a checkpoint; of several the last one, with the mean of their averaged weights.

    The mean of runs that were initialised from one another often segments exams of other scanners better than each of
    them (Wortsman et al., Model soups, ICML 2022); the mean of unrelated runs is noise. The weights for clicks are the
    mean of the runs that read clicks. Raise ModelError if the networks differ.
    """
    paths = [paths] if isinstance(paths, Path) else paths
    checkpoints = [Checkpoint.load(path) for path in paths]
    last = checkpoints[-1]
    for checkpoint, path in zip(checkpoints, paths, strict=True):
        if _compatibility_key(checkpoint) != _compatibility_key(last):
            raise ModelError(
                f"{path}: another network or other trained structures than {paths[-1]}: no mean is possible"
            )
    if len(checkpoints) == 1:
        return last
    weights = [fit_input_channels(one.ema_weights, last.spec.inputs, fill=math.nan) for one in checkpoints]
    mean_weights = {
        name: torch.stack([one[name].double() for one in weights]).nanmean(dim=0).to(value.dtype)
        for name, value in last.ema_weights.items()
    }
    return replace(
        last,
        ema_weights=mean_weights,
        dataset_digests={name: digest for one in checkpoints for name, digest in one.dataset_digests.items()},
        details={**last.details, "mean_of_steps": [one.step for one in checkpoints]},
    )


def _compatibility_key(checkpoint: Checkpoint) -> tuple[Any, ...]:
    """Return what must be equal for a mean of weights; some of the networks may read clicks, and some not."""
    spec = replace(checkpoint.spec, clicks=None)
    weights = fit_input_channels(checkpoint.ema_weights, spec.inputs)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    return checkpoint.settings.network, shapes, spec, checkpoint.trained_names, checkpoint.targets


class ExponentialMovingAverage:
    """The exponential moving average of a network's weights and of the buffers of its batch norms."""

    def __init__(self, network: nn.Module, ema_decay: float) -> None:
        self.weights: Weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.ema_decay = ema_decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Add the network's weights; the decay is lower in the first steps, to forget the initial weights soon."""
        weight = 1 - min(self.ema_decay, step / (step + 10))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, weight)
            else:
                self.weights[name].copy_(value)
