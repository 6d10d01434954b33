"""A training run at one moment: everything needed to go on as if nothing had happened."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import FileError, ModelError
from lumbarseg.io import atomic_write
from lumbarseg.preprocessing import PreprocessingSpec

from .deepedit import fit_input_channels
from .networks import build_network
from .settings import TrainingSettings

FORMAT_VERSION = 1
CHECKPOINT_FILE = "checkpoint.pt"
BEST_FILE = "best.pt"
"""The last moment of a run in its folder, and the one that was best on held-out exams."""

Weights = dict[str, Tensor]

_READ_ERRORS = (EOFError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError)
"""What torch's reader runs into in bytes that are no checkpoint."""

_FORMER_KEYS = {
    "model": "weights",
    "average": "ema_weights",
    "teacher": "teacher_weights",
    "optimiser": "optimizer",
    "random": "rng_state",
    "data": "dataset_digests",
    "about": "details",
    "elapsed": "elapsed_seconds",
    "known": "trained_names",
    "lowest": "lowest_structure",
    "best": "best_validation",
}
"""Keys of checkpoints written before the names of today."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One moment of a run. data: names and checksums of the datasets; about: what is known of the run.

    elapsed: seconds of work; known: classes that the network was taught, none meaning all; targets, lowest: as in
    the card; best: score, step, how many validations ago, Dice by structure and by exam; teacher: weights that the run
    must not stray from, if any.
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
    best_validation: Mapping[str, Any] = field(default_factory=dict)
    teacher_weights: Weights = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the checkpoint atomically: after a kill or with a full disk, the previous one stays."""
        values = {**vars(self), "format": FORMAT_VERSION, "classes": [str(kind) for kind in CLASSES]}
        values |= {"settings": self.settings.to_dict(), "spec": self.spec.to_dict()}
        try:
            with atomic_write(path) as file:
                torch.save(values, file)
                file.flush()
                os.fsync(file.fileno())
        except (FileError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            previous = "the previous one is kept" if path.exists() else "there is none yet"
            cause = error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else "the disk may be full"
            raise FileError(
                f"{path}: the checkpoint cannot be written: {reason}; {previous}: make room, then --resume"
            ) from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a checkpoint, without running anything in it; ModelError when it is none."""
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise ModelError(f"{path}: not found; a run writes it a minute after its start") from None
        except (*_READ_ERRORS, OSError, RuntimeError) as error:
            raise ModelError(f"{path}: no checkpoint of a training run") from error
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT_VERSION:
            raise ModelError(f"{path}: no checkpoint of a training run, or of another version")
        values = {_FORMER_KEYS.get(name, name): value for name, value in values.items()}
        if values.pop("classes", None) != [str(kind) for kind in CLASSES]:
            raise ModelError(f"{path}: made for other tissue classes")
        try:
            values |= {
                "settings": TrainingSettings.from_dict(values["settings"]),
                "spec": PreprocessingSpec.from_dict(values["spec"]),
            }
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise ModelError(f"{path}: the checkpoint is incomplete: {error}") from error

    def ema_network(self) -> nn.Module:
        """The network with its averaged weights, ready to answer."""
        network = build_network(self.settings)
        network.load_state_dict(self.ema_weights)
        return network.eval()


def load_mean_checkpoint(paths: Path | Sequence[Path]) -> Checkpoint:
    """A checkpoint; of several the last one, with the mean of the averaged weights of all.

    Of runs that began with one another's weights the mean often serves exams of other scanners better than each of
    them (Wortsman et al., Model soups, ICML 2022); of strangers it is noise. Weights for clicks are the mean of the
    runs that read clicks. ModelError where they are not of one kind.
    """
    paths = [paths] if isinstance(paths, Path) else paths
    runs = [Checkpoint.load(path) for path in paths]
    last = runs[-1]
    for run, path in zip(runs, paths, strict=True):
        if _compatibility_key(run) != _compatibility_key(last):
            raise ModelError(f"{path}: another network than {paths[-1]}, or taught other structures: they have no mean")
    if len(runs) == 1:
        return last
    weights = [fit_input_channels(run.ema_weights, last.spec.inputs, fill=math.nan) for run in runs]
    average = {
        name: torch.stack([one[name].double() for one in weights]).nanmean(dim=0).to(value.dtype)
        for name, value in last.ema_weights.items()
    }
    data = {name: digest for run in runs for name, digest in run.dataset_digests.items()}
    return replace(
        last,
        ema_weights=average,
        dataset_digests=data,
        details={**last.details, "mean_of_steps": [run.step for run in runs]},
    )


def _compatibility_key(run: Checkpoint) -> tuple[Any, ...]:
    """What runs must share for their weights to mean the same; some may read clicks, and some not."""
    plain = replace(run.spec, clicks=None)
    shapes = {name: tuple(value.shape) for name, value in fit_input_channels(run.ema_weights, plain.inputs).items()}
    return run.settings.network, shapes, plain, run.trained_names, run.targets


class ExponentialMovingAverage:
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
