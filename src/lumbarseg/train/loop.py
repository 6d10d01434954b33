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
from lumbarseg.clicks import Blob
from lumbarseg.datasets.folder import Dataset
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.model import Card
from lumbarseg.prepare import Spec

from .batches import Batch, Source, make, stream
from .checkpoint import BEST, NAME, Average, Checkpoint, Weights
from .crew import Crew, cores, processes
from .data import Data, gather, remarks
from .deepedit import Simulator, about_clicks, fitted, unclicked
from .history import EVERY, HISTORY, RESULT, History, write_result
from .journal import Journal
from .losses import OFF, Sets, cross_entropy, distillation, loss
from .networks import build, inputs
from .outcome import outcome
from .precision import autocast, laid, moved, resolve
from .progress import Progress
from .schedule import done, rate_at
from .settings import Settings
from .sizes import lower
from .validate import Answering, Poor, validate
from .weights import Start, calibrate, known_of

__all__ = ["BEST", "NAME", "train"]

Watch = Callable[[Path, Sequence[Poor]], None]
_CALIBRATED_BY = 4  # batches


@dataclass(eq=False)
class Run:
    """The moving parts of a training run, after `step` steps and `elapsed` seconds of work.

    bias: (classes, 1, 1), with one 1 more for blocks, `OFF` for unknown classes; teacher: whose answers are kept where
    labels leave a choice.
    """

    settings: Settings
    spec: Spec
    network: nn.Module
    optimiser: torch.optim.AdamW
    scaler: torch.amp.GradScaler
    average: Average
    where: torch.device
    precision: str
    bias: torch.Tensor
    teacher: nn.Module | None = None
    team: Crew = field(default_factory=Crew)
    step: int = 0
    elapsed: float = 0.0
    best: Mapping[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def train(
    settings: Settings,
    datasets: Sequence[Dataset],
    out: Path | str,
    resume: bool = False,
    init: Path | str | None = None,
    about: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Path:
    """Train to the last step; gives the checkpoint's path.

    resume: go on with the run in `out`, which must have been started with the same settings and data (its length may
    change); init: what a new run begins with, see `Start`; about: for the model's card; watch: called after each
    validation and at the end with `out`, where history.csv and result.json are up to date, and the worst exams where
    the moment was the best so far.
    """
    out = Path(out)
    path = out / NAME
    if path.exists() and not resume:
        raise ModelError(f"{path}: a run is here already; continue it with --resume or choose another folder")
    with processes() as team:
        torch.set_num_threads(settings.threads or cores())
        run, data = _ready(settings, datasets, team, _before(path, settings) if resume else None, init)
        run.about |= about or {}
        if team.leads:
            out.mkdir(parents=True, exist_ok=True)
            (out / "settings.json").write_text(json.dumps(run.settings.to_dict(), indent=1), encoding="utf-8")
            _steps(run, data, path, watch)
        else:
            _follow(run, data)
    return path


def _ready(
    settings: Settings, datasets: Sequence[Dataset], team: Crew, before: Checkpoint | None, init: Path | str | None
) -> tuple[Run, Data]:
    """A run with its data, at its first step or where it was left."""
    if settings.batch < team.world:
        raise ModelError(f"settings: a batch of {settings.batch} for {team.world} processes; raise it")
    start = Start.of(init) if init is not None and before is None else None
    if start is not None and (start.network, start.channels) != (settings.network, settings.channels):
        raise ModelError(
            f"{start.path}: is a {start.network} network with channels {start.channels}, "
            f"the new run a {settings.network} one with {settings.channels}"
        )
    first = before or start
    known = known_of(before.known) if before else start.known if start else None
    data = gather(settings, datasets, first.spec if first else Spec(), known)
    if settings.epochs:
        settings = replace(settings, steps=math.ceil(settings.epochs * data.slices / settings.slices))
    return _begin(settings, data, start, before, team), data


def _before(path: Path, settings: Settings) -> Checkpoint:
    """The checkpoint that a resumed run goes on from."""
    before = Checkpoint.load(path)
    other = settings.differences(before.settings)
    if other:
        raise ModelError(f"{path}: this run was started with another {other[0]}; resume it with the same settings")
    return before


def _begin(
    settings: Settings,
    data: Data,
    start: Start | None = None,
    before: Checkpoint | None = None,
    team: Crew | None = None,
) -> Run:
    """A run at its first step, or where the checkpoint left it."""
    team = team or Crew()
    where = team.where
    torch.manual_seed(settings.seed)  # no network here draws; one with dropout would
    network = build(settings)
    teacher: Weights = {}
    if start is not None:
        weights = fitted(start.weights, inputs(settings))
        network.load_state_dict(weights)
        if start.folded:
            source = Source.of(data.train, settings.shares)
            batches = (make(source, settings, number)[0] for number in range(_CALIBRATED_BY))
            calibrate(network, (unclicked(images, inputs(settings)) for images in batches))
        teacher = weights if settings.distil else {}
    bias = torch.tensor([0.0 if kind in data.known else OFF for kind in CLASSES])
    if before is not None:
        network.load_state_dict(before.model)
        teacher = before.teacher
    network = moved(team.joined(network), where)
    precision = resolve(settings.precision, where)
    run = Run(
        settings,
        before.spec if before else _spec(settings, start),
        network,
        torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=settings.decay),
        torch.amp.GradScaler(where.type, enabled=precision == "float16"),
        Average(network, settings.average),
        where,
        precision,
        bias.to(where).reshape(-1, *(1,) * (3 if settings.depth else 2)),
        _frozen(settings, teacher, where) if teacher else None,
        team,
        about={"init": start.origin} if start else {},
    )
    if before is not None:
        _restore(run, data, before)
    return run


def _spec(settings: Settings, start: Start | None) -> Spec:
    """What a new run's network reads: what the one before did, with clicks or without as its method wants."""
    spec = start.spec if start else Spec()
    spec = replace(spec, clicks=(spec.clicks or Blob()) if settings.method == "deepedit" else None)
    tile = 0 if settings.network == "planar" else settings.crop  # instance norms see fields of one size
    return replace(spec, tile=tile, depth=settings.depth)


def _restore(run: Run, data: Data, before: Checkpoint) -> None:
    """Put a run where its checkpoint left it; its network is there already."""
    if before.data != data.names:
        raise DatasetError("the training data changed since this run was started; begin a new one with --init")
    run.optimiser.load_state_dict(before.optimiser)
    run.scaler.load_state_dict(before.scaler)
    run.average.weights = {name: value.to(run.where) for name, value in before.average.items()}
    torch.set_rng_state(before.random)
    run.step, run.elapsed, run.best = before.step, before.elapsed, before.best
    run.about = {name: value for name, value in before.about.items() if name not in _about(run, data)}


def _frozen(settings: Settings, weights: Weights, where: torch.device) -> nn.Module:
    """A network that only answers."""
    network = build(settings)
    network.load_state_dict(weights)
    return moved(network, where).eval()


def _steps(run: Run, data: Data, path: Path, watch: Watch | None) -> None:
    """All remaining steps, with checkpoints, validation and the journal beside them."""
    settings = run.settings
    sets = Sets.of(torch.from_numpy(data.codes.allowed)).to(run.where)
    progress = Progress(settings.steps, run.step)
    progress.note(f"{data.exams}; {run.precision} on {run.where}{run.team.told_of}")
    for line in remarks(data):
        progress.note(line)
    saved = time.monotonic()
    began = saved - run.elapsed
    history = History.read(path.parent / HISTORY, run.step)
    with Journal(path.parent / "log", run.step) as journal:
        for batch in _batches(run, data):
            value = step(run, batch, sets)
            run.elapsed = time.monotonic() - began
            progress.step(run.step, value)
            facts = {"loss": value, "rate": rate_at(settings, run.step - 1, run.elapsed)}
            journal.scalars(run.step, facts, EVERY)
            last = done(settings, run.step, run.elapsed) >= 1
            validates = bool(data.val) and (last or run.step % settings.validate_every == 0)
            if last or validates or run.step % EVERY == 0:
                history.add(run.step, {"seconds": run.elapsed, **facts})
            worst: tuple[Poor, ...] = ()
            if validates:
                worst = _measure(run, data, journal, history, progress, path.parent / BEST)
                last = last or 0 < settings.patience <= run.best.get("waited", 0)
            if last or run.step % settings.picture_every == 0:
                plain = unclicked(batch[0], run.spec.inputs)
                journal.picture(run.step, _averaged(run), (plain, batch[1]), data.codes)
            if last or validates:
                history.write(path.parent / HISTORY)
                write_result(path.parent / RESULT, outcome(run, data, history, last))
                if watch:
                    watch(path.parent, worst)
            if last or time.monotonic() - saved >= settings.checkpoint_every:
                history.write(path.parent / HISTORY)
                snapshot(run, data).save(path)
                saved = time.monotonic()
            run.team.told(run.elapsed, last)
            if last:
                break
    if not path.exists():
        snapshot(run, data).save(path)


def _follow(run: Run, data: Data) -> None:
    """The steps of a process that does not lead, which says how far they are."""
    sets = Sets.of(torch.from_numpy(data.codes.allowed)).to(run.where)
    for batch in _batches(run, data):
        step(run, batch, sets)
        run.elapsed, last = run.team.told(0.0, 0.0)
        if last:
            break


def _batches(run: Run, data: Data) -> Iterator[Batch]:
    """What this process sees of all remaining batches."""
    end = run.settings.steps if done(run.settings, run.step, run.elapsed) < 1 else run.step
    return stream(Source.of(data.train, run.settings.shares), run.settings, run.step, end, run.team.part)


def step(run: Run, batch: Batch, sets: Sets) -> float:
    """One step of the optimiser; gives the loss. ModelError, before anything changes, when it is no number."""
    settings = run.settings
    for group in run.optimiser.param_groups:
        group["lr"] = rate_at(settings, run.step, run.elapsed)
    try:
        value = _loss(run, batch, sets)
        run.optimiser.zero_grad(set_to_none=True)
        run.scaler.scale(value).backward()
        run.team.gradients(run.network)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise ModelError(f"not enough memory for a step; lower {lower(settings)}") from error
    run.scaler.unscale_(run.optimiser)
    norm = float(torch.nn.utils.clip_grad_norm_(run.network.parameters(), settings.clip))
    number = float(value.detach())
    if not math.isfinite(number) or not (run.scaler.is_enabled() or math.isfinite(norm)):
        raise ModelError(
            f"the loss is {number} at step {run.step + 1}; lower the rate, or use --precision float32; "
            "the last checkpoint is kept"
        )
    run.scaler.step(run.optimiser)
    run.scaler.update()
    run.step += 1
    run.average.update(run.network, run.step)
    return number


def _loss(run: Run, batch: Batch, sets: Sets) -> torch.Tensor:
    """The loss of a batch under the network as it is."""
    images = laid(batch[0].to(run.where, non_blocking=True))
    codes = batch[1].to(run.where, non_blocking=True).long()
    plain = unclicked(images, run.spec.inputs)
    if run.spec.clicks is not None:
        images = _clicked(run, images, codes, sets)
    run.network.train()
    with autocast(run.precision, run.where):
        logits = run.network(images)
    logits = logits.float() + run.bias
    total = run.team.total
    value = loss(logits, codes, sets, run.settings.dice, total)
    if run.spec.clicks is not None:
        value = value + cross_entropy(logits, about_clicks(images, codes), sets, total)
    if run.teacher is not None:
        with torch.no_grad(), autocast(run.precision, run.where):
            answers = run.teacher(plain)
        value = value + run.settings.distil * distillation(logits, answers.float() + run.bias, codes, sets, total)
    return value


def _clicked(run: Run, images: torch.Tensor, codes: torch.Tensor, sets: Sets) -> torch.Tensor:
    """images: (N, 5, A, S) to (N, inputs, A, S) with clicks on the errors of the network as it is."""
    assert run.spec.clicks is not None

    def answer(clicked: torch.Tensor) -> torch.Tensor:
        with autocast(run.precision, run.where):
            return run.network(clicked).float() + run.bias

    run.network.eval()
    simulator = Simulator(sets.allowed.cpu().numpy(), run.spec.clicks, run.spec.pixel, run.settings.seed)
    numbers = range(run.settings.batch)[run.team.part]
    return simulator(answer, images, codes, run.step, numbers).contiguous(memory_format=torch.channels_last)


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
        about={**run.about, **_about(run, data)},
        elapsed=run.elapsed,
        known=data.known_names,
        targets=data.targets.names,
        lowest=data.lowest,
        best=run.best,
        teacher=dict(run.teacher.state_dict()) if run.teacher is not None else {},
    )


def _about(run: Run, data: Data) -> dict[str, Any]:
    return {
        "sources": data.sources,
        "precision": run.precision,
        "device": run.where.type,
        "torch": str(torch.__version__),
    }


def _averaged(run: Run) -> nn.Module:
    """A network with the averaged weights, ready to answer."""
    return _frozen(run.settings, run.average.weights, run.where)


def _measure(
    run: Run, data: Data, journal: Journal, history: History, progress: Progress, best: Path
) -> tuple[Poor, ...]:
    """Scores on the held-out exams, per dataset, into the journal and onto the screen; the best moment is kept.

    Gives the worst exams of a moment that is the best so far, or the first; none of another.
    """
    card = Card(run.spec, bias=tuple(float(b) for b in run.bias.flatten()), known=data.known_names, lowest=data.lowest)
    report = validate(Answering(card, _averaged(run), run.precision), data.val, data.targets)
    for group, name in enumerate(data.names):
        for structure, (dice, ratio) in report.means(group).items():
            label = f"{name} {structure}"
            journal.scalars(run.step, {f"dice/{label}": dice, f"volume ratio/{label}": ratio})
    journal.scalars(run.step, {"score": report.score})
    first = not history.validations()
    history.add(run.step, {"score": report.score, "mixed": len(report.wrong), **report.dice()})
    progress.note(f"step {run.step}  {report.told}")
    if report.score > run.best.get("score", 0.0):
        facts = {"score": report.score, "step": run.step, "seconds": run.elapsed, "waited": 0}
        run.best = {**facts, "dice": report.dice(), "exams": report.exams()}
        snapshot(run, data).save(best)
        return report.worst
    run.best = {**run.best, "waited": run.best.get("waited", 0) + 1}
    return report.worst if first else ()
