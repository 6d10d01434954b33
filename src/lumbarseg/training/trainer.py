"""The training loop, read from top to bottom: data, network, then step after step until the last.

Killed at any moment and resumed, it ends in the same weights: batches depend on the seed and the step alone, and a
checkpoint holds everything else.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lumbarseg.anatomy import CLASSES
from lumbarseg.datasets.dataset import Dataset
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import ModelCard
from lumbarseg.preprocessing import ClickGaussian, PreprocessingSpec

from .checkpoint import BEST_FILE, CHECKPOINT_FILE, Checkpoint, ExponentialMovingAverage, Weights
from .data import TrainingData, describe_limits, load_training_data
from .deepedit import ClickSimulator, add_empty_click_channels, codes_near_clicks, fit_input_channels
from .distributed import ProcessGroup, cpu_threads, join_process_group
from .history import HISTORY_FILE, LOG_INTERVAL, RESULT_FILE, History, write_result
from .initial_weights import InitialWeights, calibrate_batch_norms, parse_known_kinds
from .learning_rate import fraction_done, learning_rate_at
from .losses import EXCLUDED_CLASS_LOGIT, LabelSets, distillation_loss, marginal_cross_entropy, segmentation_loss
from .memory_budget import memory_advice
from .networks import build_network, input_channel_count
from .precision import autocast, resolve_precision, to_channels_last, to_device
from .progress import Progress
from .run_summary import summarize_run
from .sampling import Batch, VolumeSampler, make_batch, stream_batches
from .settings import TrainingSettings
from .tensorboard_log import TensorBoardLog
from .validation import TorchPredictor, WorstCase, validate

__all__ = ["BEST_FILE", "CHECKPOINT_FILE", "train"]

ValidationCallback = Callable[[Path, Sequence[WorstCase]], None]
_CALIBRATION_BATCHES = 4  # batches


@dataclass(eq=False)
class TrainingState:
    """The moving parts of a training run, after `step` steps and `elapsed` seconds of work.

    bias: (classes, 1, 1), with one 1 more for blocks, `OFF` for unknown classes; teacher: whose answers are kept where
    labels leave a choice.
    """

    settings: TrainingSettings
    spec: PreprocessingSpec
    network: nn.Module
    optimizer: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    ema: ExponentialMovingAverage
    device: torch.device
    precision: str
    logit_bias: torch.Tensor
    teacher: nn.Module | None = None
    process_group: ProcessGroup = field(default_factory=ProcessGroup)
    step: int = 0
    elapsed_seconds: float = 0.0
    best_validation: Mapping[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def train(
    settings: TrainingSettings,
    datasets: Sequence[Dataset],
    run_folder: Path | str,
    resume: bool = False,
    init: Path | str | None = None,
    details: Mapping[str, Any] | None = None,
    on_validation: ValidationCallback | None = None,
) -> Path:
    """Train to the last step; gives the checkpoint's path.

    resume: go on with the run in `out`, which must have been started with the same settings and data (its length may
    change); init: what a new run begins with, see `Start`; about: for the model's card; watch: called after each
    validation and at the end with `out`, where history.csv and result.json are up to date, and the worst exams where
    the moment was the best so far.
    """
    run_folder = Path(run_folder)
    path = run_folder / CHECKPOINT_FILE
    if path.exists() and not resume:
        raise ModelError(f"{path}: a run is here already; continue it with --resume or choose another folder")
    with join_process_group() as team:
        torch.set_num_threads(settings.threads or cpu_threads())
        run, data = _prepare_training(
            settings, datasets, team, _load_resumed_checkpoint(path, settings) if resume else None, init
        )
        run.details |= details or {}
        if team.is_main:
            run_folder.mkdir(parents=True, exist_ok=True)
            (run_folder / "settings.json").write_text(json.dumps(run.settings.to_dict(), indent=1), encoding="utf-8")
            _train_as_main_process(run, data, path, on_validation)
        else:
            _train_as_follower(run, data)
    return path


def _prepare_training(
    settings: TrainingSettings,
    datasets: Sequence[Dataset],
    team: ProcessGroup,
    before: Checkpoint | None,
    init: Path | str | None,
) -> tuple[TrainingState, TrainingData]:
    """A run with its data, at its first step or where it was left."""
    if settings.batch_size < team.world_size:
        raise ModelError(f"settings: a batch of {settings.batch_size} for {team.world_size} processes; raise it")
    start = InitialWeights.load(init) if init is not None and before is None else None
    if start is not None and (start.network, start.channels) != (settings.network, settings.channels):
        raise ModelError(
            f"{start.path}: is a {start.network} network with channels {start.channels}, "
            f"the new run a {settings.network} one with {settings.channels}"
        )
    first = before or start
    known = parse_known_kinds(before.trained_names) if before else start.known_kinds if start else None
    data = load_training_data(settings, datasets, first.spec if first else PreprocessingSpec(), known)
    if settings.epochs:
        settings = replace(settings, steps=math.ceil(settings.epochs * data.slice_count / settings.slices_per_step))
    return _create_state(settings, data, start, before, team), data


def _load_resumed_checkpoint(path: Path, settings: TrainingSettings) -> Checkpoint:
    """The checkpoint that a resumed run goes on from."""
    before = Checkpoint.load(path)
    other = settings.differences(before.settings)
    if other:
        raise ModelError(f"{path}: this run was started with another {other[0]}; resume it with the same settings")
    return before


def _create_state(
    settings: TrainingSettings,
    data: TrainingData,
    start: InitialWeights | None = None,
    before: Checkpoint | None = None,
    team: ProcessGroup | None = None,
) -> TrainingState:
    """A run at its first step, or where the checkpoint left it."""
    team = team or ProcessGroup()
    where = team.device
    torch.manual_seed(settings.seed)  # no network here draws; one with dropout would
    network = build_network(settings)
    teacher: Weights = {}
    if start is not None:
        weights = fit_input_channels(start.weights, input_channel_count(settings))
        network.load_state_dict(weights)
        if start.has_folded_norms:
            source = VolumeSampler.from_volumes(data.train, settings.sampling_weights)
            batches = (make_batch(source, settings, number)[0] for number in range(_CALIBRATION_BATCHES))
            calibrate_batch_norms(
                network, (add_empty_click_channels(images, input_channel_count(settings)) for images in batches)
            )
        teacher = weights if settings.distillation_weight else {}
    bias = torch.tensor([0.0 if kind in data.known_kinds else EXCLUDED_CLASS_LOGIT for kind in CLASSES])
    if before is not None:
        network.load_state_dict(before.weights)
        teacher = before.teacher_weights
    network = to_device(team.joined(network), where)
    precision = resolve_precision(settings.precision, where)
    run = TrainingState(
        settings,
        before.spec if before else _input_spec(settings, start),
        network,
        torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay),
        torch.amp.GradScaler(where.type, enabled=precision == "float16"),
        ExponentialMovingAverage(network, settings.ema_decay),
        where,
        precision,
        bias.to(where).reshape(-1, *(1,) * (3 if settings.depth else 2)),
        _evaluation_network(settings, teacher, where) if teacher else None,
        team,
        details={"init": start.provenance} if start else {},
    )
    if before is not None:
        _restore_state(run, data, before)
    return run


def _input_spec(settings: TrainingSettings, start: InitialWeights | None) -> PreprocessingSpec:
    """What a new run's network reads: what the one before did, with clicks or without as its method wants."""
    spec = start.spec if start else PreprocessingSpec()
    spec = replace(spec, clicks=(spec.clicks or ClickGaussian()) if settings.method == "deepedit" else None)
    tile = 0 if settings.network == "planar" else settings.crop_size  # instance norms see fields of one size
    return replace(spec, tile=tile, depth=settings.depth)


def _restore_state(run: TrainingState, data: TrainingData, before: Checkpoint) -> None:
    """Put a run where its checkpoint left it; its network is there already."""
    if before.dataset_digests != data.dataset_digests:
        raise DatasetError("the training data changed since this run was started; begin a new one with --init")
    run.optimizer.load_state_dict(before.optimizer)
    run.scaler.load_state_dict(before.scaler)
    run.ema.weights = {name: value.to(run.device) for name, value in before.ema_weights.items()}
    torch.set_rng_state(before.rng_state)
    run.step, run.elapsed_seconds, run.best_validation = before.step, before.elapsed_seconds, before.best_validation
    run.details = {name: value for name, value in before.details.items() if name not in _card_metadata(run, data)}


def _evaluation_network(settings: TrainingSettings, weights: Weights, where: torch.device) -> nn.Module:
    """A network that only answers."""
    network = build_network(settings)
    network.load_state_dict(weights)
    return to_device(network, where).eval()


def _train_as_main_process(
    run: TrainingState, data: TrainingData, path: Path, watch: ValidationCallback | None
) -> None:
    """All remaining steps, with checkpoints, validation and the journal beside them."""
    settings = run.settings
    sets = LabelSets.of(torch.from_numpy(data.codec.allowed)).to(run.device)
    progress = Progress(settings.steps, run.step)
    progress.note(f"{data.exam_counts}; {run.precision} on {run.device}{run.process_group.description}")
    for line in describe_limits(data):
        progress.note(line)
    saved = time.monotonic()
    began = saved - run.elapsed_seconds
    history = History.read(path.parent / HISTORY_FILE, run.step)
    with TensorBoardLog(path.parent / "log", run.step) as journal:
        for batch in _remaining_batches(run, data):
            value = train_step(run, batch, sets)
            run.elapsed_seconds = time.monotonic() - began
            progress.step(run.step, value)
            facts = {"loss": value, "rate": learning_rate_at(settings, run.step - 1, run.elapsed_seconds)}
            journal.log_scalars(run.step, facts, LOG_INTERVAL)
            last = fraction_done(settings, run.step, run.elapsed_seconds) >= 1
            validates = bool(data.val) and (last or run.step % settings.validation_interval == 0)
            if last or validates or run.step % LOG_INTERVAL == 0:
                history.add(run.step, {"seconds": run.elapsed_seconds, **facts})
            worst: tuple[WorstCase, ...] = ()
            if validates:
                worst = _validate_and_log(run, data, journal, history, progress, path.parent / BEST_FILE)
                last = last or 0 < settings.patience <= run.best_validation.get("waited", 0)
            if last or run.step % settings.image_interval == 0:
                plain = add_empty_click_channels(batch[0], run.spec.inputs)
                journal.log_predictions(run.step, _ema_network(run), (plain, batch[1]), data.codec)
            if last or validates:
                history.write(path.parent / HISTORY_FILE)
                write_result(path.parent / RESULT_FILE, summarize_run(run, data, history, last))
                if watch:
                    watch(path.parent, worst)
            if last or time.monotonic() - saved >= settings.checkpoint_seconds:
                history.write(path.parent / HISTORY_FILE)
                create_checkpoint(run, data).save(path)
                saved = time.monotonic()
            run.process_group.broadcast(run.elapsed_seconds, last)
            if last:
                break
    if not path.exists():
        create_checkpoint(run, data).save(path)


def _train_as_follower(run: TrainingState, data: TrainingData) -> None:
    """The steps of a process that does not lead, which says how far they are."""
    sets = LabelSets.of(torch.from_numpy(data.codec.allowed)).to(run.device)
    for batch in _remaining_batches(run, data):
        train_step(run, batch, sets)
        run.elapsed_seconds, last = run.process_group.broadcast(0.0, 0.0)
        if last:
            break


def _remaining_batches(run: TrainingState, data: TrainingData) -> Iterator[Batch]:
    """What this process sees of all remaining batches."""
    end = run.settings.steps if fraction_done(run.settings, run.step, run.elapsed_seconds) < 1 else run.step
    return stream_batches(
        VolumeSampler.from_volumes(data.train, run.settings.sampling_weights),
        run.settings,
        run.step,
        end,
        run.process_group.sample_slice,
    )


def train_step(state: TrainingState, batch: Batch, label_sets: LabelSets) -> float:
    """One step of the optimiser; gives the loss. ModelError, before anything changes, when it is no number."""
    settings = state.settings
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(settings, state.step, state.elapsed_seconds)
    try:
        value = _batch_loss(state, batch, label_sets)
        state.optimizer.zero_grad(set_to_none=True)
        state.scaler.scale(value).backward()
        state.process_group.gradients(state.network)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise ModelError(f"not enough memory for a step; lower {memory_advice(settings)}") from error
    state.scaler.unscale_(state.optimizer)
    norm = float(torch.nn.utils.clip_grad_norm_(state.network.parameters(), settings.max_gradient_norm))
    number = float(value.detach())
    if not math.isfinite(number) or not (state.scaler.is_enabled() or math.isfinite(norm)):
        raise ModelError(
            f"the loss is {number} at step {state.step + 1}; lower the rate, or use --precision float32; "
            "the last checkpoint is kept"
        )
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.step += 1
    state.ema.update(state.network, state.step)
    return number


def _batch_loss(run: TrainingState, batch: Batch, sets: LabelSets) -> torch.Tensor:
    """The loss of a batch under the network as it is."""
    images = to_channels_last(batch[0].to(run.device, non_blocking=True))
    codes = batch[1].to(run.device, non_blocking=True).long()
    plain = add_empty_click_channels(images, run.spec.inputs)
    if run.spec.clicks is not None:
        images = _add_simulated_clicks(run, images, codes, sets)
    run.network.train()
    with autocast(run.precision, run.device):
        logits = run.network(images)
    logits = logits.float() + run.logit_bias
    total = run.process_group.sum_over_processes
    value = segmentation_loss(logits, codes, sets, run.settings.dice_weight, total)
    if run.spec.clicks is not None:
        value = value + marginal_cross_entropy(logits, codes_near_clicks(images, codes), sets, total)
    if run.teacher is not None:
        with torch.no_grad(), autocast(run.precision, run.device):
            answers = run.teacher(plain)
        value = value + run.settings.distillation_weight * distillation_loss(
            logits, answers.float() + run.logit_bias, codes, sets, total
        )
    return value


def _add_simulated_clicks(
    run: TrainingState, images: torch.Tensor, codes: torch.Tensor, sets: LabelSets
) -> torch.Tensor:
    """images: (N, 5, A, S) to (N, inputs, A, S) with clicks on the errors of the network as it is."""
    assert run.spec.clicks is not None

    def answer(clicked: torch.Tensor) -> torch.Tensor:
        with autocast(run.precision, run.device):
            return run.network(clicked).float() + run.logit_bias

    run.network.eval()
    simulator = ClickSimulator(sets.allowed.cpu().numpy(), run.spec.clicks, run.spec.pixel, run.settings.seed)
    numbers = range(run.settings.batch_size)[run.process_group.sample_slice]
    return simulator(answer, images, codes, run.step, numbers).contiguous(memory_format=torch.channels_last)


def create_checkpoint(run: TrainingState, data: TrainingData) -> Checkpoint:
    """The run as it stands."""
    return Checkpoint(
        settings=run.settings,
        spec=run.spec,
        step=run.step,
        weights=run.network.state_dict(),
        ema_weights=run.ema.weights,
        optimizer=run.optimizer.state_dict(),
        scaler=run.scaler.state_dict(),
        rng_state=torch.get_rng_state(),
        dataset_digests=data.dataset_digests,
        details={**run.details, **_card_metadata(run, data)},
        elapsed_seconds=run.elapsed_seconds,
        trained_names=data.trained_names,
        targets=data.targets.names,
        lowest_structure=data.lowest_structure,
        best_validation=run.best_validation,
        teacher_weights=dict(run.teacher.state_dict()) if run.teacher is not None else {},
    )


def _card_metadata(run: TrainingState, data: TrainingData) -> dict[str, Any]:
    return {
        "sources": data.sources,
        "precision": run.precision,
        "device": run.device.type,
        "torch": str(torch.__version__),
    }


def _ema_network(run: TrainingState) -> nn.Module:
    """A network with the averaged weights, ready to answer."""
    return _evaluation_network(run.settings, run.ema.weights, run.device)


def _validate_and_log(
    run: TrainingState, data: TrainingData, journal: TensorBoardLog, history: History, progress: Progress, best: Path
) -> tuple[WorstCase, ...]:
    """Scores on the held-out exams, per dataset, into the journal and onto the screen; the best moment is kept.

    Gives the worst exams of a moment that is the best so far, or the first; none of another.
    """
    card = ModelCard(
        run.spec,
        bias=tuple(float(b) for b in run.logit_bias.flatten()),
        trained_names=data.trained_names,
        lowest_structure=data.lowest_structure,
    )
    report = validate(TorchPredictor(card, _ema_network(run), run.precision), data.val, data.targets)
    for group, name in enumerate(data.dataset_digests):
        for structure, (dice, ratio) in report.dataset_means(group).items():
            label = f"{name} {structure}"
            journal.log_scalars(run.step, {f"dice/{label}": dice, f"volume ratio/{label}": ratio})
    journal.log_scalars(run.step, {"score": report.mean_dice})
    first = not history.validations()
    history.add(run.step, {"score": report.mean_dice, "mixed": len(report.name_errors), **report.dice_by_structure()})
    progress.note(f"step {run.step}  {report.summary_line}")
    if report.mean_dice > run.best_validation.get("score", 0.0):
        facts = {"score": report.mean_dice, "step": run.step, "seconds": run.elapsed_seconds, "waited": 0}
        run.best_validation = {**facts, "dice": report.dice_by_structure(), "exams": report.exam_rows()}
        create_checkpoint(run, data).save(best)
        return report.worst_cases
    run.best_validation = {**run.best_validation, "waited": run.best_validation.get("waited", 0) + 1}
    return report.worst_cases if first else ()
