"""The settings of a training run, each with its reason. Saved whole in every checkpoint and in the model card."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from lumbarseg.errors import ModelError

NETWORKS = ("planar", "unet", "dynunet", "segresnet", "swinunetr")
BLOCK_NETWORKS = ("unet", "dynunet", "segresnet")
"""3-D networks, which read blocks of slices; the others read a slice with its neighbours."""
METHODS = ("segmentation", "deepedit")
PRECISIONS = ("auto", "bf16", "float16", "float32")
DEFAULT_DEPTH = 16  # slices: most routine exams fit into one block
RESUMABLE_SETTINGS = (
    *("steps", "epochs", "minutes", "patience", "threads", "loader_threads"),
    *("checkpoint_seconds", "validation_interval", "validation_cases", "image_interval"),
)
"""Settings that may differ when a run is resumed; of these, only its length (the cosine's) changes the weights."""

_FORMER = """
batch=batch_size crop=crop_size memory=memory_gb rate=learning_rate rate_end=final_learning_rate_fraction
warmup=warmup_steps decay=weight_decay clip=max_gradient_norm average=ema_decay dice=dice_weight
distil=distillation_weight shares=sampling_weights contrast=contrasts loaders=loader_threads
checkpoint_every=checkpoint_seconds validate_every=validation_interval validate_cases=validation_cases
picture_every=image_interval
"""
_FORMER_NAMES = dict(pair.split("=") for pair in _FORMER.split())
"""Names in checkpoints, settings.json and model cards from before the rename, and the names of today."""


def depth_multiple(channels: tuple[int, ...]) -> int:
    """Return the number that a block's depth must be a multiple of: each level halves it, except the first two."""
    return int(2 ** max(0, len(channels) - 3))


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of one training run. One pixel of a crop is 1 mm; times are in seconds unless the name says so."""

    seed: int = 0
    steps: int = 20_000
    epochs: int = 0  # instead of steps: how often each training slice is used, on average
    minutes: float = 0.0  # time limit; the cosine then ends with it; 0: none
    patience: int = 0  # stop after so many validations without a better score; 0: never
    targets: tuple[str, ...] = ()  # structures, kinds or keywords; (): everything that the datasets annotate
    contrasts: tuple[str, ...] = ()  # train only on cases of these
    fold: str = ""  # "1/5": fold held out for validation; "": as the datasets say
    network: str = "planar"
    method: str = "segmentation"  # "deepedit": the network also reads the user's clicks
    batch_size: int = 10  # a step of half a second on two cores
    crop_size: int = 192  # four to five vertebrae with the sacrum: enough to tell a body from an arch, small enough
    channels: tuple[int, ...] = (32, 48, 80, 112, 128)  # 1.3 M parameters: 5 MB in the package, 0.2 s per exam
    depth: int = 0  # slices per block, for networks that read blocks
    memory_gb: float = 0.0  # budget that channels, batch and crop size were chosen for; 0: none

    learning_rate: float = 2e-3  # the highest that stayed stable with AdamW and batch norm
    warmup_steps: int = 100
    final_learning_rate_fraction: float = 0.01  # of `learning_rate`, at the end of the cosine
    weight_decay: float = 1e-4
    max_gradient_norm: float = 3.0  # a batch of unusual contrasts sometimes reaches ten times the common norm
    ema_decay: float = 0.998  # exponential moving average of the weights over about 500 steps

    dice_weight: float = 0.5  # relative to cross-entropy; more moves boundaries outwards where a voxel is uncertain
    distillation_weight: float = 0.0  # keeps predictions of the initial network where labels leave the class open
    sampling_weights: tuple[float, ...] = ()  # share of the samples of each dataset; (): equal shares

    precision: str = "auto"  # bf16 where the processor multiplies it natively, else float32
    threads: int = 0  # for arithmetic; 0: one per core
    loader_threads: int = 2  # threads that prepare batches; their number does not change the batches
    checkpoint_seconds: float = 60.0
    validation_interval: int = 1000  # steps
    validation_cases: int = 12  # per dataset: a few seconds each time
    image_interval: int = 1000  # steps between images in the TensorBoard log

    def __post_init__(self) -> None:
        for name, convert in (("channels", int), ("contrasts", str), ("targets", str), ("sampling_weights", float)):
            object.__setattr__(self, name, tuple(convert(value) for value in getattr(self, name)))
        if self.network in BLOCK_NETWORKS and not self.depth:
            object.__setattr__(self, "depth", DEFAULT_DEPTH)
        for is_wrong, message in self._errors():
            if is_wrong:
                raise ModelError(f"settings: {message}")

    def _errors(self) -> Iterator[tuple[bool, str]]:
        """Yield what may be wrong, as a condition and its message."""
        network, crop_size, depth, channels = self.network, self.crop_size, self.depth, self.channels
        for name, choices in (("network", NETWORKS), ("method", METHODS), ("precision", PRECISIONS)):
            value = getattr(self, name)
            yield value not in choices, f"{name} {value!r} is not one of {', '.join(choices)}"
        multiple, thick, is_block = self.in_plane_multiple, depth_multiple(channels), network in BLOCK_NETWORKS
        tiles, planar = (crop_size // multiple) ** 2, network == "planar"
        counts = (self.batch_size, self.steps, self.loader_threads, self.validation_interval, self.image_interval)
        amounts = (self.epochs, self.minutes, self.patience, self.distillation_weight)
        weights, doubling = self.sampling_weights, tuple(channels[0] * 2**level for level in range(len(channels)))
        yield min(counts) < 1, "batch_size, steps, loader_threads and the intervals must be at least 1"
        yield min(amounts) < 0, "epochs, minutes, patience and distillation_weight must not be negative"
        yield not tiles or crop_size % multiple > 0, f"crop_size must be a multiple of {multiple}, not {crop_size}"
        yield (
            min(weights, default=0) < 0 or sum(weights or (1,)) == 0,
            f"sampling_weights must be positive, not {weights}",
        )
        yield planar and self.batch_size * tiles < 2, f"a batch of 1 needs a crop_size of {2 * multiple} or more"
        yield not planar and self.method == "deepedit", f"{network} reads no clicks; deepedit needs the network planar"
        yield depth > 0 and not is_block, f"{network} reads no blocks, so depth must be 0, not {depth}"
        yield not 0 <= depth <= 64 or depth % thick > 0, f"depth must be a multiple of {thick} up to 64, not {depth}"
        yield is_block and len(channels) < 3, f"{network} needs three levels of channels or more, not {channels}"
        yield is_block and depth // thick * tiles < 2, f"{network} needs a crop_size of {2 * multiple} or more"
        unequal = network == "segresnet" and channels != doubling
        yield unequal, f"segresnet's channels double from level to level, unlike {channels}"
        uneven = network == "swinunetr" and (len(channels) != 1 or channels[0] % 12 > 0)
        yield uneven, f"swinunetr has one width, a multiple of 12, not {channels}"

    @property
    def in_plane_multiple(self) -> int:
        """Return the number that the in-plane size must be a multiple of.

        Each level halves the plane, except the first of a 3-D network; the planar network's first level works at half
        resolution; swinunetr always halves it five times.
        """
        if self.network == "swinunetr":
            return 64  # 32, and the instance norm of the last level needs more than one pixel
        return int(2 ** (len(self.channels) - (self.network in BLOCK_NETWORKS)))

    @property
    def slices_per_step(self) -> int:
        """Return the number of slices in one batch."""
        return self.batch_size * (self.depth or 1)

    def learning_rate_at(self, step: int, elapsed_seconds: float = 0.0) -> float:
        """Return the learning rate of a step: a linear warm-up, then half a cosine, which ends with the time limit."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * self.fraction_done(step, elapsed_seconds)))
        final = self.final_learning_rate_fraction
        return self.learning_rate * warmup * (final + (1 - final) * cosine)

    def fraction_done(self, step: int, elapsed_seconds: float) -> float:
        """Return the fraction of a run that is over, 0..1: by steps or by time, whichever is larger."""
        by_time = elapsed_seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(step / self.steps, by_time))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingSettings:
        """Return the settings of `to_dict`, also under their former names; raise ModelError for an unknown name."""
        values = {_FORMER_NAMES.get(name, name): value for name, value in values.items()}
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ModelError(f"settings: {unknown[0]!r} is no setting of a training run")
        return cls(**values)

    def differences(self, other: TrainingSettings) -> list[str]:
        """Return the names of the settings that differ and must not differ when a run is resumed."""
        names = [f.name for f in fields(self) if f.name not in RESUMABLE_SETTINGS]
        return [name for name in names if getattr(self, name) != getattr(other, name)]
