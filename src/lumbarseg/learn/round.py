"""One round of the loop: finished exams in, training, judgement, and a new model in use where it is not worse.

A round lies in APP/learn/rounds/NNNN. Each of its stages leaves a file when it is done, so a round that was killed goes
on where it was, with the exams and words that it began with.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.datasets import Dataset
from lumbarseg.datasets.splits import patient_of
from lumbarseg.datasets.workers import alone
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.files import replacing
from lumbarseg.model import Model, default

from .corrected import corrected
from .held import held
from .publish import Shelf, Verdict, judged

if TYPE_CHECKING:
    from lumbarseg.train.loop import Watch

PLAN, CANDIDATE, VERDICT = "round.json", "candidate.onnx", "verdict.json"
RUN = "run"
NOTHING = "none"
"""The word for a first round that begins from no model."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
STAGES = ("training", "judging", "done")
FAILED = "failed"
"""Stages of a round, in their order, and that of one that could not end and is left; the next one begins anew."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Wish:
    """What a round is to do. model: name of the app's model; init: what the first round begins with: a model file, a
    run's folder, "none", or "" for the app's model, else the default one.

    base: prepared datasets that are learned from, too; judge: prepared datasets whose cases of the split "val" judge
    instead of corrected exams; held_out, seed: of the corrected patients that judge, the first time; patient: regular
    expression for the patient in an exam's name; changes: settings of the training.
    """

    model: str = "lumbar_spine"
    init: str = ""
    base: tuple[str, ...] = ()
    judge: tuple[str, ...] = ()
    held_out: float = 0.2
    seed: int = 0
    patient: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.model):
            raise ModelError(f"{self.model!r} cannot name a model; use letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class Outcome:
    """What came of a round. verdict: None where there was nothing new; path: of the model in use, if any.

    exams, judges: how many were learned from and judged by; version: number under which the new model is kept.
    """

    number: int
    exams: int
    judges: int
    verdict: Verdict | None
    path: Path | None
    version: int | None = None
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        """Whether the model in use is a new one."""
        return self.version is not None


def learn(
    studies: Path,
    app: Path,
    wish: Wish | None = None,
    anew: bool = False,
    watch: Watch | None = None,
    step: Callable[[str, int], None] | None = None,
) -> Outcome:
    """Do one round, or finish the one that was interrupted; nothing where no exam was finished since the last one.

    anew: leave an unfinished round, and learn even where nothing is new; watch: as in `train`; step: as in
    `import_source`. DatasetError when another program is at it, or there is nothing to learn from or to judge by.
    """
    folder = app / "learn"
    with alone(folder):
        wish = wish or Wish()
        place = None if anew else unfinished(folder, wish.model)
        refused: Mapping[str, str] = {}
        if place is None:
            found = corrected(studies, data_of(app, wish.model), wish.patient, step=step)
            refused = found.refused
            before = last(folder, wish.model)
            if before and not anew and read(before)["exams"] == _exams(found.dataset):
                plan = read(before)
                shelf = Shelf(app, wish.model)
                path = shelf.model if shelf.model.is_file() else None
                return Outcome(_number(before), _count(plan, "train"), _count(plan, "val"), None, path, None, refused)
            place = _planned(app, found.dataset, wish)
        try:
            return replace(_done(app, place, watch), refused=refused)
        except (ModelError, DatasetError) as error:  # of the kind that going on would not change
            _write(place / PLAN, {**read(place), "stage": FAILED, "error": str(error)})
            raise


def _planned(app: Path, dataset: Dataset, wish: Wish) -> Path:
    """A new round's folder, with its plan in it."""
    folder = app / "learn"
    split = _split(folder, dataset, wish)
    judges = [*map(Dataset.open, wish.judge), split]
    if not any(d.cases("val") for d in judges):
        raise DatasetError(f"{', '.join(wish.judge)}: no case of the split val to judge by")
    init, seen = _begun(app, wish)
    place = folder / "rounds" / f"{max(map(_number, rounds(folder)), default=0) + 1:04d}"
    plan = {
        "stage": STAGES[0],
        "began": _now(),
        "wish": asdict(wish),
        "init": init,
        "seen": seen,
        "splits": {case.name: case.split for case in split.everything},
        "exams": _exams(dataset),
    }
    return _write(place / PLAN, plan).parent


def _split(folder: Path, dataset: Dataset, wish: Wish) -> Dataset:
    """The corrected exams with their split; all are learned from where other datasets judge."""
    if wish.judge:
        return replace(dataset, everything=tuple(replace(case, split="train") for case in dataset.everything))
    judges = held(folder, wish.held_out, wish.seed, [patient_of(case) for case in dataset.everything])
    return judges.split(dataset)


def _begun(app: Path, wish: Wish) -> tuple[str, list[str]]:
    """What to go on from, the model in use or its run, and the corrected exams that it was trained on.

    A run's folder rather than its model file, for not every network can be read back from a file.
    """
    shelf = Shelf(app, wish.model)
    current = shelf.current()
    if current is not None:
        place = app / "learn" / str(current.about.get("round", ""))
        run = place / RUN
        if current.about.get("round") and run.is_dir():
            plan = read(place)
            seen = {*plan["seen"], *(name for name, split in plan["splits"].items() if split == "train")}
            return str(run), sorted(seen)
    return wish.init or str(shelf.model if shelf.model.is_file() else default()), []


def _done(app: Path, place: Path, watch: Watch | None) -> Outcome:
    """The stages of a planned round that are not done yet."""
    plan = read(place)
    wish = Wish(**{**plan["wish"], "base": tuple(plan["wish"]["base"]), "judge": tuple(plan["wish"]["judge"])})
    dataset = Dataset.open(data_of(app, wish.model))
    dataset = replace(dataset, everything=tuple(replace(c, split=plan["splits"][c.name]) for c in dataset.everything))
    if not (place / CANDIDATE).exists():
        _train(place, plan, wish, dataset, watch)
        _write(place / PLAN, {**plan, "stage": STAGES[1]})
    verdict = _verdict(app, place, plan, wish, dataset)
    shelf = Shelf(app, wish.model)
    version = None
    if verdict.better:
        about = {"round": str(place.relative_to(app / "learn")), "published": _now(), "verdict": verdict.to_dict()}
        version = shelf.publish(place / CANDIDATE, about).number
    _write(place / PLAN, {**plan, "stage": STAGES[2], "ended": _now(), "version": version})
    path = shelf.model if shelf.model.is_file() else None
    return Outcome(_number(place), _count(plan, "train"), len(verdict.exams), verdict, path, version)


def _train(place: Path, plan: Row, wish: Wish, dataset: Dataset, watch: Watch | None) -> None:
    from lumbarseg.train.export import export, moment

    from .training import continue_training

    judges = {case.checksums.get("image") for case in dataset.cases("val")}
    judges |= {case.checksums.get("image") for judge in map(Dataset.open, wish.judge) for case in judge.cases("val")}
    base = [_without(Dataset.open(folder), judges) for folder in wish.base]
    start = None if plan["init"] == NOTHING else plan["init"]
    own = _without(dataset, judges)
    continue_training(start, own, base, place / RUN, plan["seen"], wish.changes, watch)
    export(moment(place / RUN, last=True), place / CANDIDATE)


def _without(dataset: Dataset, images: set[str | None]) -> Dataset:
    """A dataset without the exams that judge, wherever they came from."""
    cases = tuple(case for case in dataset.everything if case.checksums.get("image") not in images)
    return replace(dataset, everything=cases)


def _verdict(app: Path, place: Path, plan: Row, wish: Wish, dataset: Dataset) -> Verdict:
    path = place / VERDICT
    if path.exists():
        return Verdict.from_dict(json.loads(path.read_text(encoding="utf-8")))
    shelf = Shelf(app, wish.model)
    before = shelf.model if shelf.model.is_file() else _model_of(plan["init"], place)
    judges = [*map(Dataset.open, wish.judge), dataset]
    count = sum(len(d.cases("val")) for d in judges)
    current = Model.load(before, exams=count) if before else None
    verdict = judged(Model.load(place / CANDIDATE, exams=count), current, judges)
    _write(path, verdict.to_dict())
    return verdict


def _model_of(init: str, place: Path) -> Path | None:
    """The model file that a round began with, that of a run being written beside the plan; None for nothing."""
    if init == NOTHING:
        return None
    path = default() if init == "shipped" else Path(init)
    if path.suffix.lower() == ".onnx":
        return path
    from lumbarseg.train.export import export, moment

    return export(moment(path), place / "before.onnx")


def data_of(app: Path, model: str) -> Path:
    """The prepared dataset of corrected exams that rounds of a model learn from."""
    return app / "learn" / "data" / model


def rounds(folder: Path, model: str = "") -> list[Path]:
    """The rounds in APP/learn, the oldest first, of one model or of all."""
    found = sorted(path.parent for path in (folder / "rounds").glob(f"[0-9]*/{PLAN}"))
    return [place for place in found if not model or read(place)["wish"]["model"] == model]


def unfinished(folder: Path, model: str = "") -> Path | None:
    """The last round of a model, or of all, where it is not done."""
    found = rounds(folder, model)
    return found[-1] if found and read(found[-1])["stage"] in STAGES[:-1] else None


def last(folder: Path, model: str) -> Path | None:
    """The last round of a model that is done."""
    done = [place for place in rounds(folder, model) if read(place)["stage"] == STAGES[-1]]
    return done[-1] if done else None


def read(place: Path) -> Row:
    """A round's plan; DatasetError when it cannot be read."""
    try:
        values = json.loads((place / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{place / PLAN}: cannot be read: {error}; remove this round's folder") from error
    if not isinstance(values, dict):
        raise DatasetError(f"{place / PLAN}: no plan of a round; remove this round's folder")
    return values


def progress(place: Path) -> float:
    """How much of a round's training is done, 0 to 1, by what its run has written."""
    run = place / RUN
    try:
        settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
        with (run / "history.csv").open(encoding="utf-8", newline="") as file:
            *_, row = csv.DictReader(file)
        shares = [float(row["step"]) / (settings["steps"] or math.inf)]
        shares.append(float(row["seconds"]) / (60 * settings["minutes"] or math.inf))
    except (OSError, ValueError, KeyError):  # it has just begun
        return 0.0
    return min(1.0, max(shares))


def _write(path: Path, values: Mapping[str, Any]) -> Path:
    with replacing(path) as file:
        file.write(json.dumps(dict(values), indent=1, allow_nan=False).encode())
    return path


def _exams(dataset: Dataset) -> dict[str, dict[str, str]]:
    """What a round would learn from: names and checksums."""
    return {case.name: dict(case.checksums) for case in dataset.everything}


def _count(plan: Row, split: str) -> int:
    return sum(one == split for one in plan["splits"].values())


def _number(place: Path) -> int:
    return int(place.name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
