"""Every number of a training run, with its reason. Saved whole in each checkpoint and in the model's card."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from lumbarseg.errors import ModelError

NETWORKS = ("planar", "unet", "dynunet", "segresnet", "swinunetr")
BLOCK_NETWORKS = ("unet", "dynunet", "segresnet")
"""Networks that read blocks of slices; the others read a slice with its neighbours."""
DEFAULT_DEPTH = 16  # slices: most routine exams are one block
METHODS = ("segmentation", "deepedit")
RESUMABLE_SETTINGS = (
    *("steps", "epochs", "minutes", "patience", "threads", "loader_threads"),
    *("checkpoint_seconds", "validation_interval", "validation_cases", "image_interval"),
)
"""Settings that a resumed run may change; of these only its length touches the weights (it is the cosine's)."""

_FORMER_NAMES = {
    "batch": "batch_size",
    "crop": "crop_size",
    "memory": "memory_gb",
    "rate": "learning_rate",
    "warmup": "warmup_steps",
    "rate_end": "final_learning_rate_fraction",
    "decay": "weight_decay",
    "clip": "max_gradient_norm",
    "average": "ema_decay",
    "dice": "dice_weight",
    "distil": "distillation_weight",
    "shares": "sampling_weights",
    "contrast": "contrasts",
    "loaders": "loader_threads",
    "checkpoint_every": "checkpoint_seconds",
    "validate_every": "validation_interval",
    "validate_cases": "validation_cases",
    "picture_every": "image_interval",
}
"""Names of settings in checkpoints, settings.json and model cards written before the names of today."""


def depth_multiple(channels: tuple[int, ...]) -> int:
    """Of how many slices a block's depth is a multiple: one halving per level, but for the first two, in plane."""
    return int(2 ** max(0, len(channels) - 3))


@dataclass(frozen=True)
class TrainingSettings:
    """One training run. crop: mm = pixels; rate: per step; times in seconds."""

    seed: int = 0
    steps: int = 20_000
    epochs: int = 0  # instead of steps: how often each slice of the training exams is seen, on average
    minutes: float = 0.0  # of work, at most; the cosine ends then; 0: no limit
    patience: int = 0  # validations without a better score after which the run stops; 0: never
    targets: tuple[str, ...] = ()  # structures, kinds or keywords; () is everything that the data annotate
    contrasts: tuple[str, ...] = ()  # cases of these alone
    fold: str = ""  # "1/5": which patients are held out; "" as the datasets say
    network: str = "planar"
    method: str = "segmentation"  # "deepedit": reads a person's clicks, too
    batch_size: int = 10  # what a step of half a second on two cores holds
    crop_size: int = (
        192  # four to five vertebrae with the sacrum: enough to tell a body from an arch, small enough to be quick
    )
    channels: tuple[int, ...] = (32, 48, 80, 112, 128)  # 1.3 M parameters: 5 MB in the package, 0.2 s for an exam
    depth: int = 0  # slices of a block, for networks that read blocks
    memory_gb: float = 0.0  # GB; the budget from which channels, batch and crop were taken, 0: from none

    learning_rate: float = 2e-3  # highest that stayed calm with AdamW and batch norm
    warmup_steps: int = 100
    final_learning_rate_fraction: float = 0.01  # of `rate`, at the end of the cosine
    weight_decay: float = 1e-4
    max_gradient_norm: float = 3.0  # gradient norm; a batch of odd contrasts now and then jumps to ten times the usual
    ema_decay: float = 0.998  # of the weights, over about 500 steps: smooths the last of the noise

    dice_weight: float = 0.5  # beside cross-entropy; more of it draws boundaries outwards where a voxel is uncertain
    distillation_weight: float = (
        0.0  # of the first network's answers where labels leave a choice: what nobody drew is not forgotten
    )
    sampling_weights: tuple[float, ...] = ()  # of the samples, per dataset; () is one share each

    precision: str = "auto"  # bf16 where the processor multiplies it natively, else float32
    threads: int = 0  # 0: one per core
    loader_threads: int = 2  # threads that prepare batches; the stream is the same for any number
    checkpoint_seconds: float = 60.0
    validation_interval: int = 1000
    validation_cases: int = 12  # per dataset: a few seconds each time
    image_interval: int = 1000

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(int(c) for c in self.channels))
        object.__setattr__(self, "contrasts", tuple(str(c) for c in self.contrasts))
        object.__setattr__(self, "targets", tuple(str(t) for t in self.targets))
        object.__setattr__(self, "sampling_weights", tuple(float(s) for s in self.sampling_weights))
        if self.network in BLOCK_NETWORKS and not self.depth:
            object.__setattr__(self, "depth", DEFAULT_DEPTH)
        self._check_network()
        multiple = self.in_plane_multiple
        if self.crop_size < multiple or self.crop_size % multiple:
            raise ModelError(f"settings: crop must be a multiple of {multiple}, not {self.crop_size}")
        if self.network == "planar" and 0 < self.batch_size * (self.crop_size // multiple) ** 2 < 2:
            raise ModelError(f"settings: a batch of 1 needs a crop of {2 * multiple} or more")
        if min(self.batch_size, self.steps, self.loader_threads, self.validation_interval, self.image_interval) < 1:
            raise ModelError("settings: batch, steps, loaders and the intervals must be at least 1")
        if min(self.epochs, self.minutes, self.patience, self.distillation_weight) < 0:
            raise ModelError("settings: epochs, minutes, patience and distil must not be negative")
        if self.method not in METHODS:
            raise ModelError(f"settings: method {self.method!r} is none of {', '.join(METHODS)}")
        if any(s < 0 for s in self.sampling_weights) or (self.sampling_weights and not sum(self.sampling_weights)):
            raise ModelError(f"settings: shares must be positive, not {self.sampling_weights}")
        if self.precision not in ("auto", "bf16", "float16", "float32"):
            raise ModelError(f"settings: precision {self.precision!r} is none of auto, bf16, float16, float32")

    def _check_network(self) -> None:
        """ModelError where the network cannot be built so, or not trained that way."""
        if self.network not in NETWORKS:
            raise ModelError(f"settings: network {self.network!r} is none of {', '.join(NETWORKS)}")
        if self.network != "planar" and self.method == "deepedit":
            raise ModelError(f"settings: {self.network} reads no clicks; deepedit needs the network planar")
        if self.depth and self.network not in BLOCK_NETWORKS:
            raise ModelError(f"settings: {self.network} reads no blocks, so depth must be 0, not {self.depth}")
        thick = depth_multiple(self.channels)
        if self.depth < 0 or self.depth % thick or self.depth > 64:
            raise ModelError(f"settings: depth must be a multiple of {thick} up to 64, not {self.depth}")
        if self.network in BLOCK_NETWORKS and len(self.channels) < 3:
            raise ModelError(f"settings: {self.network} needs three levels of channels or more, not {self.channels}")
        if self.network in BLOCK_NETWORKS and self.depth // thick * (self.crop_size // self.in_plane_multiple) ** 2 < 2:
            raise ModelError(f"settings: {self.network} needs a crop of {2 * self.in_plane_multiple} or more")
        doubling = tuple(self.channels[0] * 2**level for level in range(len(self.channels)))
        if self.network == "segresnet" and self.channels != doubling:
            raise ModelError(f"settings: segresnet's channels double from level to level, unlike {self.channels}")
        if self.network == "swinunetr" and (len(self.channels) != 1 or self.channels[0] % 12):
            raise ModelError(f"settings: swinunetr has one width, a multiple of 12, not {self.channels}")

    @property
    def in_plane_multiple(self) -> int:
        """Of the in-plane size, that the network needs: one halving per level, but for the first of a 3-D network.

        The planar one's first level is at half resolution; swinunetr always has five, with one more in its last norm.
        """
        if self.network == "swinunetr":
            return 64  # 32, and the instance norm of the last level needs more than one place
        return int(2 ** (len(self.channels) - (self.network in BLOCK_NETWORKS)))

    @property
    def slices_per_step(self) -> int:
        """That a step sees in all."""
        return self.batch_size * (self.depth or 1)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingSettings:
        """The inverse of `to_dict`; ModelError on an unknown name."""
        values = {_FORMER_NAMES.get(name, name): value for name, value in values.items()}
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ModelError(f"settings: {unknown[0]!r} is no setting of a training run")
        return cls(**values)

    def differences(self, other: TrainingSettings) -> list[str]:
        """Names of the settings that differ and would make it another run."""
        return [
            f.name
            for f in fields(self)
            if f.name not in RESUMABLE_SETTINGS and getattr(self, f.name) != getattr(other, f.name)
        ]
