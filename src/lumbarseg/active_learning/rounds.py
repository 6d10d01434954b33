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
from lumbarseg.datasets.splits import patient_id
from lumbarseg.datasets.workers import exclusive_folder
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import Model, default_model_path
from lumbarseg.io import atomic_write

from .corrected_dataset import update_corrected_dataset
from .model_registry import ModelComparison, ModelRegistry, compare_models
from .validation_patients import load_validation_patients

if TYPE_CHECKING:
    from lumbarseg.training.trainer import ValidationCallback

PLAN_FILE, CANDIDATE_FILE, COMPARISON_FILE = "round.json", "candidate.onnx", "verdict.json"
RUN_FOLDER = "run"
NO_MODEL = "none"
"""The word for a first round that begins from no model."""
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
STAGES = ("training", "judging", "done")
FAILED = "failed"
"""Stages of a round, in their order, and that of one that could not end and is left; the next one begins anew."""
PlanDict = dict[str, Any]


@dataclass(frozen=True)
class RoundOptions:
    """What a round is to do. model: name of the app's model; init: what the first round begins with: a model file, a
    run's folder, "none", or "" for the app's model, else the default one.

    base: prepared datasets that are learned from, too; judge: prepared datasets whose cases of the split "val" judge
    instead of corrected exams; held_out, seed: of the corrected patients that judge, the first time; patient: regular
    expression for the patient in an exam's name; changes: settings of the training.
    """

    model: str = "lumbar_spine"
    initial_model: str = ""
    base: tuple[str, ...] = ()
    judge: tuple[str, ...] = ()
    val_fraction: float = 0.2
    seed: int = 0
    patient_pattern: str | None = None
    training_settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _MODEL_NAME.fullmatch(self.model):
            raise ModelError(f"{self.model!r} cannot name a model; use letters, digits, '.', '_' and '-'")


@dataclass(frozen=True)
class RoundResult:
    """What came of a round. verdict: None where there was nothing new; path: of the model in use, if any.

    exams, judges: how many were learned from and judged by; version: number under which the new model is kept.
    """

    number: int
    training_exams: int
    validation_exams: int
    comparison: ModelComparison | None
    model_path: Path | None
    version: int | None = None
    rejected: Mapping[str, str] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        """Whether the model in use is a new one."""
        return self.version is not None


def run_round(
    studies: Path,
    app: Path,
    options: RoundOptions | None = None,
    new_round: bool = False,
    watch: ValidationCallback | None = None,
    step: Callable[[str, int], None] | None = None,
) -> RoundResult:
    """Do one round, or finish the one that was interrupted; nothing where no exam was finished since the last one.

    anew: leave an unfinished round, and learn even where nothing is new; watch: as in `train`; step: as in
    `import_source`. DatasetError when another program is at it, or there is nothing to learn from or to judge by.
    """
    folder = app / "learn"
    with exclusive_folder(folder):
        options = options or RoundOptions()
        place = None if new_round else find_unfinished_round(folder, options.model)
        refused: Mapping[str, str] = {}
        if place is None:
            found = update_corrected_dataset(
                studies, corrected_dataset_folder(app, options.model), options.patient_pattern, step=step
            )
            refused = found.refused
            before = find_last_round(folder, options.model)
            if before and not new_round and read_plan(before)["exams"] == _exam_checksums(found.dataset):
                plan = read_plan(before)
                shelf = ModelRegistry(app, options.model)
                path = shelf.model_path if shelf.model_path.is_file() else None
                return RoundResult(
                    _round_number(before),
                    _count_split(plan, "train"),
                    _count_split(plan, "val"),
                    None,
                    path,
                    None,
                    refused,
                )
            place = _create_plan(app, found.dataset, options)
        try:
            return replace(_finish_round(app, place, watch), rejected=refused)
        except (ModelError, DatasetError) as error:  # of the kind that going on would not change
            _write_json(place / PLAN_FILE, {**read_plan(place), "stage": FAILED, "error": str(error)})
            raise


def _create_plan(app: Path, dataset: Dataset, options: RoundOptions) -> Path:
    """A new round's folder, with its plan in it."""
    folder = app / "learn"
    split = _assign_splits(folder, dataset, options)
    judges = [*map(Dataset.open, options.judge), split]
    if not any(d.cases("val") for d in judges):
        raise DatasetError(f"{', '.join(options.judge)}: no case of the split val to judge by")
    init, seen = _initial_weights(app, options)
    place = folder / "rounds" / f"{max(map(_round_number, find_rounds(folder)), default=0) + 1:04d}"
    plan = {
        "stage": STAGES[0],
        "began": _timestamp(),
        "wish": asdict(options),
        "init": init,
        "seen": seen,
        "splits": {case.name: case.split for case in split.all_cases},
        "exams": _exam_checksums(dataset),
    }
    return _write_json(place / PLAN_FILE, plan).parent


def _assign_splits(folder: Path, dataset: Dataset, options: RoundOptions) -> Dataset:
    """The corrected exams with their split; all are learned from where other datasets judge."""
    if options.judge:
        return replace(dataset, all_cases=tuple(replace(case, split="train") for case in dataset.all_cases))
    judges = load_validation_patients(
        folder, options.val_fraction, options.seed, [patient_id(case) for case in dataset.all_cases]
    )
    return judges.assign_splits(dataset)


def _initial_weights(app: Path, options: RoundOptions) -> tuple[str, list[str]]:
    """What to go on from, the model in use or its run, and the corrected exams that it was trained on.

    A run's folder rather than its model file, for not every network can be read back from a file.
    """
    shelf = ModelRegistry(app, options.model)
    current = shelf.current()
    if current is not None:
        place = app / "learn" / str(current.info.get("round", ""))
        run = place / RUN_FOLDER
        if current.info.get("round") and run.is_dir():
            plan = read_plan(place)
            seen = {*plan["seen"], *(name for name, split in plan["splits"].items() if split == "train")}
            return str(run), sorted(seen)
    return options.initial_model or str(shelf.model_path if shelf.model_path.is_file() else default_model_path()), []


def _finish_round(app: Path, round_folder: Path, watch: ValidationCallback | None) -> RoundResult:
    """The stages of a planned round that are not done yet."""
    plan = read_plan(round_folder)
    wish = RoundOptions(**{**plan["wish"], "base": tuple(plan["wish"]["base"]), "judge": tuple(plan["wish"]["judge"])})
    dataset = Dataset.open(corrected_dataset_folder(app, wish.model))
    dataset = replace(dataset, all_cases=tuple(replace(c, split=plan["splits"][c.name]) for c in dataset.all_cases))
    if not (round_folder / CANDIDATE_FILE).exists():
        _train_candidate(round_folder, plan, wish, dataset, watch)
        _write_json(round_folder / PLAN_FILE, {**plan, "stage": STAGES[1]})
    verdict = _compare_with_current(app, round_folder, plan, wish, dataset)
    shelf = ModelRegistry(app, wish.model)
    version = None
    if verdict.better:
        about = {
            "round": str(round_folder.relative_to(app / "learn")),
            "published": _timestamp(),
            "verdict": verdict.to_dict(),
        }
        version = shelf.publish(round_folder / CANDIDATE_FILE, about).number
    _write_json(round_folder / PLAN_FILE, {**plan, "stage": STAGES[2], "ended": _timestamp(), "version": version})
    path = shelf.model_path if shelf.model_path.is_file() else None
    return RoundResult(
        _round_number(round_folder), _count_split(plan, "train"), len(verdict.exams), verdict, path, version
    )


def _train_candidate(
    round_folder: Path, plan: PlanDict, options: RoundOptions, dataset: Dataset, watch: ValidationCallback | None
) -> None:
    from lumbarseg.training.export import checkpoint_to_export, export_model

    from .fine_tuning import fine_tune

    judges = {case.checksums.get("image") for case in dataset.cases("val")}
    judges |= {case.checksums.get("image") for judge in map(Dataset.open, options.judge) for case in judge.cases("val")}
    base = [_exclude_images(Dataset.open(folder), judges) for folder in options.base]
    start = None if plan["init"] == NO_MODEL else plan["init"]
    own = _exclude_images(dataset, judges)
    fine_tune(start, own, base, round_folder / RUN_FOLDER, plan["seen"], options.training_settings, watch)
    export_model(checkpoint_to_export(round_folder / RUN_FOLDER, last=True), round_folder / CANDIDATE_FILE)


def _exclude_images(dataset: Dataset, images: set[str | None]) -> Dataset:
    """A dataset without the exams that judge, wherever they came from."""
    cases = tuple(case for case in dataset.all_cases if case.checksums.get("image") not in images)
    return replace(dataset, all_cases=cases)


def _compare_with_current(
    app: Path, round_folder: Path, plan: PlanDict, options: RoundOptions, dataset: Dataset
) -> ModelComparison:
    path = round_folder / COMPARISON_FILE
    if path.exists():
        return ModelComparison.from_dict(json.loads(path.read_text(encoding="utf-8")))
    shelf = ModelRegistry(app, options.model)
    before = shelf.model_path if shelf.model_path.is_file() else _initial_model_file(plan["init"], round_folder)
    judges = [*map(Dataset.open, options.judge), dataset]
    count = sum(len(d.cases("val")) for d in judges)
    current = Model.load(before, exam_count=count) if before else None
    verdict = compare_models(Model.load(round_folder / CANDIDATE_FILE, exam_count=count), current, judges)
    _write_json(path, verdict.to_dict())
    return verdict


def _initial_model_file(init: str, round_folder: Path) -> Path | None:
    """The model file that a round began with, that of a run being written beside the plan; None for nothing."""
    if init == NO_MODEL:
        return None
    path = default_model_path() if init == "shipped" else Path(init)
    if path.suffix.lower() == ".onnx":
        return path
    from lumbarseg.training.export import checkpoint_to_export, export_model

    return export_model(checkpoint_to_export(path), round_folder / "before.onnx")


def corrected_dataset_folder(app: Path, model: str) -> Path:
    """The prepared dataset of corrected exams that rounds of a model learn from."""
    return app / "learn" / "data" / model


def find_rounds(folder: Path, model: str = "") -> list[Path]:
    """The rounds in APP/learn, the oldest first, of one model or of all."""
    found = sorted(path.parent for path in (folder / "rounds").glob(f"[0-9]*/{PLAN_FILE}"))
    return [place for place in found if not model or read_plan(place)["wish"]["model"] == model]


def find_unfinished_round(folder: Path, model: str = "") -> Path | None:
    """The last round of a model, or of all, where it is not done."""
    found = find_rounds(folder, model)
    return found[-1] if found and read_plan(found[-1])["stage"] in STAGES[:-1] else None


def find_last_round(folder: Path, model: str) -> Path | None:
    """The last round of a model that is done."""
    done = [place for place in find_rounds(folder, model) if read_plan(place)["stage"] == STAGES[-1]]
    return done[-1] if done else None


def read_plan(round_folder: Path) -> PlanDict:
    """A round's plan; DatasetError when it cannot be read."""
    try:
        values = json.loads((round_folder / PLAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{round_folder / PLAN_FILE}: cannot be read: {error}; remove this round's folder"
        ) from error
    if not isinstance(values, dict):
        raise DatasetError(f"{round_folder / PLAN_FILE}: no plan of a round; remove this round's folder")
    return values


def training_progress(round_folder: Path) -> float:
    """How much of a round's training is done, 0 to 1, by what its run has written."""
    run = round_folder / RUN_FOLDER
    try:
        settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
        with (run / "history.csv").open(encoding="utf-8", newline="") as file:
            *_, row = csv.DictReader(file)
        shares = [float(row["step"]) / (settings["steps"] or math.inf)]
        shares.append(float(row["seconds"]) / (60 * settings["minutes"] or math.inf))
    except (OSError, ValueError, KeyError):  # it has just begun
        return 0.0
    return min(1.0, max(shares))


def _write_json(path: Path, values: Mapping[str, Any]) -> Path:
    with atomic_write(path) as file:
        file.write(json.dumps(dict(values), indent=1, allow_nan=False).encode())
    return path


def _exam_checksums(dataset: Dataset) -> dict[str, dict[str, str]]:
    """What a round would learn from: names and checksums."""
    return {case.name: dict(case.checksums) for case in dataset.all_cases}


def _count_split(plan: PlanDict, split: str) -> int:
    return sum(one == split for one in plan["splits"].values())


def _round_number(round_folder: Path) -> int:
    return int(round_folder.name)


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
