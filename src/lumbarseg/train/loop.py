"""The training loop, read from top to bottom: data, network, then step after step until the last.

Killed at any moment and resumed, it ends in the same weights: batches depend on the seed and the step alone, and a
checkpoint holds everything else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lumbarseg.datasets.folder import Dataset
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.prepare import Spec

from .batches import Batch, Source, stream
from .checkpoint import Average, Checkpoint
from .journal import Journal
from .losses import Sets, loss
from .networks import build
from .precision import autocast, device, resolve
from .progress import Progress
from .settings import Settings
from .stacks import Codes, Stack, check, load
from .validate import validate

NAME = "checkpoint.pt"


@dataclass(frozen=True, eq=False)
class Data:
    """What a run learns from and is measured on. names: checksum per dataset; sources: (source, licence) of each."""

    codes: Codes
    train: list[Stack]
    val: list[Stack]
    names: dict[str, str]
    sources: dict[str, list[list[str]]]


@dataclass(eq=False)
class Run:
    """The moving parts of a training run, after `step` steps."""

    settings: Settings
    spec: Spec
    network: nn.Module
    optimiser: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    average: Average
    where: torch.device
    precision: str
    step: int = 0


def train(
    settings: Settings, datasets: Sequence[Dataset], out: Path | str, resume: bool = False, init: Path | None = None
) -> Path:
    """Train to the last step; gives the checkpoint's path.

    resume: go on with the run in `out`, which must have been started with the same settings and data (its length may
    change); init: a checkpoint whose averaged weights a new run begins with.
    """
    out = Path(out)
    path = out / NAME
    if path.exists() and not resume:
        raise ModelError(f"{path}: a run is here already; continue it with --resume or choose another folder")
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    before = _before(path if resume else init, settings, resume)
    data = gather(settings, datasets, before.spec if before else Spec())
    run = _begin(settings, before, data, resume)
    out.mkdir(parents=True, exist_ok=True)
    (out / "settings.json").write_text(json.dumps(settings.to_dict(), indent=1), encoding="utf-8")
    _steps(run, data, path)
    return path


def gather(settings: Settings, datasets: Sequence[Dataset], spec: Spec) -> Data:
    """Read the datasets into memory; DatasetError when one has nothing to train on."""
    if not datasets:
        raise DatasetError("no dataset to train on; give at least one folder")
    codes = Codes.of(case.table for dataset in datasets for case in dataset.cases())
    stacks = load(datasets, "train", codes, spec)
    check(stacks, datasets)
    names = {f"{i} {dataset.name}": _digest(dataset) for i, dataset in enumerate(datasets)}
    pairs = [{(case.source, case.licence) for case in dataset.cases("train")} for dataset in datasets]
    sources = {name: [list(pair) for pair in sorted(found)] for name, found in zip(names, pairs, strict=True)}
    return Data(codes, stacks, load(datasets, "val", codes, spec, settings.validate_cases), names, sources)


def _digest(dataset: Dataset) -> str:
    """Of what a run learns from a dataset: names, checksums and tables of its training cases."""
    facts = [(case.name, case.checksums, case.table) for case in dataset.cases("train")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _before(path: Path | None, settings: Settings, resume: bool) -> Checkpoint | None:
    """The checkpoint that a run begins with, if any."""
    if path is None:
        return None
    before = Checkpoint.load(path)
    other = settings.differences(before.settings) if resume else []
    if other:
        raise ModelError(f"{path}: this run was started with another {other[0]}; resume it with the same settings")
    if not resume and before.settings.channels != settings.channels:
        raise ModelError(f"{path}: has channels {before.settings.channels}, the new run {settings.channels}")
    return before


def _begin(settings: Settings, before: Checkpoint | None, data: Data, resume: bool) -> Run:
    """A run at its first step, or where the checkpoint left it."""
    where = device()
    network = build(settings)
    if before is not None:
        network.load_state_dict(before.model if resume else before.average)
    network = network.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    precision = resolve(settings.precision, where)
    optimiser = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=settings.decay)
    scaler = torch.amp.GradScaler(where.type, enabled=precision == "float16")
    run = Run(
        settings,
        before.spec if before else Spec(),
        network,
        optimiser,
        scaler,
        Average(network, settings.average),
        where,
        precision,
    )
    if before is not None and resume:
        if before.data != data.names:
            raise DatasetError("the training data changed since this run was started; begin a new one with --init")
        optimiser.load_state_dict(before.optimiser)
        scaler.load_state_dict(before.scaler)
        run.average.weights = {name: value.to(where) for name, value in before.average.items()}
        torch.set_rng_state(before.random)
        run.step = before.step
    return run


def rate_at(settings: Settings, step: int) -> float:
    """Learning rate of a step: a linear start, then half a cosine down to `rate_end` of it."""
    start = min(1.0, (step + 1) / max(1, settings.warmup))
    wave = 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return settings.rate * start * (settings.rate_end + (1 - settings.rate_end) * wave)


def _steps(run: Run, data: Data, path: Path) -> None:
    """All remaining steps, with checkpoints, validation and the journal beside them."""
    settings = run.settings
    sets = Sets.of(torch.from_numpy(data.codes.allowed)).to(run.where)
    progress = Progress(settings.steps, run.step)
    progress.note(f"{len(data.train)} exams to train on, {len(data.val)} held out; {run.precision} on {run.where}")
    saved = time.monotonic()
    with Journal(path.parent / "log", run.step) as journal:
        for batch in stream(Source.of(data.train, settings.shares), settings, run.step, settings.steps):
            value = step(run, batch, sets)
            progress.step(run.step, value)
            journal.scalars(run.step, {"loss": value, "rate": rate_at(settings, run.step - 1)}, every=20)
            last = run.step == settings.steps
            if data.val and (last or run.step % settings.validate_every == 0):
                _measure(run, data, journal, progress)
            if last or run.step % settings.picture_every == 0:
                journal.picture(run.step, _averaged(run), batch, data.codes)
            if last or time.monotonic() - saved >= settings.checkpoint_every:
                snapshot(run, data).save(path)
                saved = time.monotonic()
    if not path.exists():
        snapshot(run, data).save(path)


def step(run: Run, batch: Batch, sets: Sets) -> float:
    """One step of the optimiser; gives the loss."""
    settings = run.settings
    for group in run.optimiser.param_groups:
        group["lr"] = rate_at(settings, run.step)
    images = batch[0].to(run.where, non_blocking=True).contiguous(memory_format=torch.channels_last)
    codes = batch[1].to(run.where, non_blocking=True).long()
    run.network.train()
    with autocast(run.precision, run.where):
        logits = run.network(images)
    value = loss(logits.float(), codes, sets, settings.dice)
    run.optimiser.zero_grad(set_to_none=True)
    run.scaler.scale(value).backward()
    run.scaler.unscale_(run.optimiser)
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), settings.clip)
    run.scaler.step(run.optimiser)
    run.scaler.update()
    run.step += 1
    run.average.update(run.network, run.step)
    number = float(value.detach())
    if not math.isfinite(number):
        raise ModelError(f"the loss is {number} at step {run.step}; lower the rate, or use --precision float32")
    return number


def snapshot(run: Run, data: Data) -> Checkpoint:
    """The run as it stands."""
    return Checkpoint(
        settings=run.settings,
        spec=run.spec,
        step=run.step,
        model=run.network.state_dict(),
        average=run.average.weights,
        optimiser=run.optimiser.state_dict(),
        scaler=run.scaler.state_dict(),
        random=torch.get_rng_state(),
        data=data.names,
        about={
            "sources": data.sources,
            "precision": run.precision,
            "device": run.where.type,
            "torch": str(torch.__version__),
        },
    )


def _averaged(run: Run) -> nn.Module:
    """A network with the averaged weights, ready to answer."""
    network = build(replace(run.settings))
    network.load_state_dict(run.average.weights)
    return network.to(run.where, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def _measure(run: Run, data: Data, journal: Journal, progress: Progress) -> None:
    """Scores on the held-out exams, per dataset, into the journal and onto the screen."""
    network = _averaged(run)
    for group, name in enumerate(data.names):
        stacks = [stack for stack in data.val if stack.group == group]
        for result in validate(network, stacks, data.codes, run.spec, run.precision):
            label = f"{name} {result.name}"
            journal.scalars(run.step, {f"dice/{label}": result.dice, f"volume ratio/{label}": result.ratio})
            progress.note(f"step {run.step}  {label}: Dice {result.dice:.3f}, volume ratio {result.ratio:.2f}")
