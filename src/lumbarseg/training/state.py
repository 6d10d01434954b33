"""The state of a training run: made for its first step, restored from a checkpoint, and saved as one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import DatasetError
from lumbarseg.preprocessing import ClickGaussian, PreprocessingSpec

from .checkpoint import Checkpoint, ExponentialMovingAverage, Weights
from .data import TrainingData
from .deepedit import add_empty_click_channels, fit_input_channels
from .distributed import ProcessGroup
from .initial_weights import InitialWeights, calibrate_batch_norms
from .losses import EXCLUDED_CLASS_LOGIT, LabelSets
from .networks import build_network, input_channel_count, load_network
from .precision import resolve_precision, to_device
from .run_result import ValidationScores
from .sampling import VolumeSampler, make_batch
from .settings import TrainingSettings

_CALIBRATION_BATCHES = 4


@dataclass(eq=False)
class TrainingState:
    """A training run after `step` steps and `elapsed_seconds` of training.

    parallel_network : the network for the forward pass of a step, which averages gradients over the processes;
    logit_bias : (classes, 1, 1), for blocks (classes, 1, 1, 1), very low for classes that the network does not know;
    teacher : the network whose predictions are distilled, if any
    """

    settings: TrainingSettings
    spec: PreprocessingSpec
    network: nn.Module
    parallel_network: nn.Module
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    ema: ExponentialMovingAverage
    precision: str
    label_sets: LabelSets
    logit_bias: torch.Tensor
    teacher: nn.Module | None = None
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    step: int = 0
    elapsed_seconds: float = 0.0
    best_validation: ValidationScores = field(default_factory=ValidationScores)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Return the device of this process."""
        return self.process_group.device

    def ema_network(self) -> nn.Module:
        """Return a network with the averaged weights, in evaluation mode."""
        return load_network(self.settings, self.ema.weights, self.device)


def create_state(
    settings: TrainingSettings,
    data: TrainingData,
    initial_weights: InitialWeights | None = None,
    checkpoint: Checkpoint | None = None,
    process_group: ProcessGroup | None = None,
) -> TrainingState:
    """Return a run at its first step, or where a checkpoint left it."""
    group = process_group or ProcessGroup()
    device = group.device
    torch.manual_seed(settings.seed)  # no network here draws random numbers; one with dropout would
    network, teacher_weights = _initial_network(settings, data, initial_weights)
    if checkpoint is not None:
        network.load_state_dict(checkpoint.weights)
        teacher_weights = checkpoint.teacher_weights
    network = to_device(group.synchronise_batch_norms(network), device)
    precision = resolve_precision(settings.precision, device)
    bias = torch.tensor([0.0 if kind in data.known_kinds else EXCLUDED_CLASS_LOGIT for kind in CLASSES])
    state = TrainingState(
        settings,
        checkpoint.spec if checkpoint else _input_spec(settings, initial_weights),
        network,
        group.parallelise(network),
        torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay),
        torch.amp.GradScaler(device.type, enabled=precision == "float16"),
        ExponentialMovingAverage(network, settings.ema_decay),
        precision,
        LabelSets.from_allowed(torch.from_numpy(data.codec.allowed)).to(device),
        bias.to(device).reshape(-1, *(1,) * (3 if settings.depth else 2)),
        load_network(settings, teacher_weights, device) if teacher_weights else None,
        group,
        details={"init": initial_weights.provenance} if initial_weights else {},
    )
    if checkpoint is not None:
        _restore(state, data, checkpoint)
    return state


def _initial_network(
    settings: TrainingSettings, data: TrainingData, initial_weights: InitialWeights | None
) -> tuple[nn.Module, Weights]:
    """Return the network of a new run, and the weights of its teacher if it has one."""
    network = build_network(settings)
    if initial_weights is None:
        return network, {}
    inputs = input_channel_count(settings)
    weights = fit_input_channels(initial_weights.weights, inputs)
    network.load_state_dict(weights)
    if initial_weights.has_folded_norms:
        sampler = VolumeSampler.from_volumes(data.train, settings.sampling_weights)
        batches = (make_batch(sampler, settings, number)[0] for number in range(_CALIBRATION_BATCHES))
        calibrate_batch_norms(network, (add_empty_click_channels(images, inputs) for images in batches))
    return network, weights if settings.distillation_weight else {}


def _input_spec(settings: TrainingSettings, initial_weights: InitialWeights | None) -> PreprocessingSpec:
    """Return how a new run preprocesses exams: as its initial weights, with clicks or without as its method says."""
    spec = initial_weights.spec if initial_weights else PreprocessingSpec()
    spec = replace(spec, clicks=(spec.clicks or ClickGaussian()) if settings.method == "deepedit" else None)
    tile = 0 if settings.network == "planar" else settings.crop_size  # instance norms need fields of one size
    return replace(spec, tile=tile, depth=settings.depth)


def _restore(state: TrainingState, data: TrainingData, checkpoint: Checkpoint) -> None:
    """Restore everything except the network, which has its weights already."""
    if checkpoint.dataset_digests != data.dataset_digests:
        raise DatasetError("the training data changed since this run was started; start a new one with --init")
    state.optimizer.load_state_dict(checkpoint.optimizer)
    state.scaler.load_state_dict(checkpoint.scaler)
    state.ema.weights = {name: value.to(state.device) for name, value in checkpoint.ema_weights.items()}
    torch.set_rng_state(checkpoint.rng_state)
    state.step, state.elapsed_seconds = checkpoint.step, checkpoint.elapsed_seconds
    state.best_validation = checkpoint.best_validation
    current = _current_details(state, data)
    state.details = {name: value for name, value in checkpoint.details.items() if name not in current}


def create_checkpoint(state: TrainingState, data: TrainingData) -> Checkpoint:
    """Return the run as a checkpoint."""
    return Checkpoint(
        settings=state.settings,
        spec=state.spec,
        step=state.step,
        weights=state.network.state_dict(),
        ema_weights=state.ema.weights,
        optimizer=state.optimizer.state_dict(),
        scaler=state.scaler.state_dict(),
        rng_state=torch.get_rng_state(),
        dataset_digests=data.dataset_digests,
        details={**state.details, **_current_details(state, data)},
        elapsed_seconds=state.elapsed_seconds,
        trained_names=data.trained_names,
        targets=data.targets.names,
        lowest_structure=data.lowest_structure,
        best_validation=state.best_validation,
        teacher_weights=dict(state.teacher.state_dict()) if state.teacher is not None else {},
    )


def _current_details(state: TrainingState, data: TrainingData) -> dict[str, Any]:
    return {
        "sources": data.sources,
        "precision": state.precision,
        "device": state.device.type,
        "torch": str(torch.__version__),
    }
