"""Training rounds: import corrected exams, train, compare with the current model, publish a model that is not worse.

A round is stored in APP/learn/rounds/NNNN. Each stage leaves a file when it is done, so an interrupted round continues
where it stopped, with the exams and options that it started with.
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
from lumbarseg.datasets.writing import exclusive_folder
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import Model, default_model_path
from lumbarseg.io import write_json

from .corrected_dataset import update_corrected_dataset
from .model_comparison import VALIDATION_SPLIT, ModelComparison, compare_models
from .model_registry import ModelRegistry
from .validation_patients import load_validation_patients

if TYPE_CHECKING:  # torch is optional
    from lumbarseg.training.recorder import ValidationCallback

PLAN_FILE, CANDIDATE_FILE, RUN_FOLDER = "round.json", "candidate.onnx", "run"
NO_MODEL = "none"
"""Value of `RoundOptions.initial_model` to train the first round from scratch."""
TRAINING, COMPARING, DONE, FAILED = "training", "comparing", "done", "failed"
"""Stages of a round. A failed round is left as it is; the next one starts anew."""
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class RoundOptions:
    """Options of a round.

    model: name of the app's model; initial_model: what the first round trains from: a model file, the folder of a run,
    "shipped", "none", or "" for the app's model, else the default one; base_datasets: prepared datasets that are
    trained on, too; val_datasets: prepared datasets whose split "val" validates instead of corrected exams;
    val_fraction, seed: of the patients for validation, when they are first chosen; patient_pattern: regular expression
    for the patient in an exam's name; training_settings: replace those of the preset.
    """

    model: str = "lumbar_spine"
    initial_model: str = ""
    base_datasets: tuple[str, ...] = ()
    val_datasets: tuple[str, ...] = ()
    val_fraction: float = 0.2
    seed: int = 0
    patient_pattern: str | None = None
    training_settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _MODEL_NAME.fullmatch(self.model):
            raise ModelError(f"{self.model!r} cannot name a model; use letters, digits, '.', '_' and '-'")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RoundOptions:
        """Create options from their JSON values."""
        lists = {name: tuple(values[name]) for name in ("base_datasets", "val_datasets")}
        return cls(**{**values, **lists})


@dataclass(frozen=True)
class TrainingRound:
    """A round and its state, as its round.json holds them.

    initial_model: what it trains from; trained_on: corrected cases that this was trained on before; splits: of each
    corrected case; exams: checksums of each corrected case; comparison: of the candidate with the model in use;
    version: under which the candidate was published.
    """

    folder: Path
    stage: str
    started: str
    options: RoundOptions
    initial_model: str
    trained_on: tuple[str, ...]
    splits: dict[str, str]
    exams: dict[str, dict[str, str]]
    finished: str = ""
    comparison: ModelComparison | None = None
    version: int | None = None
    error: str = ""

    @classmethod
    def load(cls, folder: Path) -> TrainingRound:
        """Read a round from its folder; DatasetError when its plan is missing or malformed."""
        path = folder / PLAN_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values["options"] = RoundOptions.from_dict(values["options"])
            comparison = values["comparison"] and ModelComparison.from_dict(values["comparison"])
            return cls(folder, **{**values, "trained_on": tuple(values["trained_on"]), "comparison": comparison})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path}: cannot be read: {error}; remove this round's folder") from error

    def updated(self, **changes: Any) -> TrainingRound:
        """Store the round with some fields changed, and return it."""
        changed = replace(self, **changes)
        write_json(self.folder / PLAN_FILE, {k: v for k, v in asdict(changed).items() if k != "folder"})
        return changed

    @property
    def number(self) -> int:
        """Number of the round, from 1."""
        return int(self.folder.name)

    def count(self, split: str) -> int:
        """Count the corrected cases of a split."""
        return sum(value == split for value in self.splits.values())

    def training_progress(self) -> float:
        """Return the finished fraction of the training, 0 to 1, from the history of its run."""
        run = self.folder / RUN_FOLDER
        try:
            settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
            with (run / "history.csv").open(encoding="utf-8", newline="") as file:
                *_, row = csv.DictReader(file)
            by_steps = float(row["step"]) / (settings["steps"] or math.inf)
            by_time = float(row["seconds"]) / (60 * settings["minutes"] or math.inf)
        except (OSError, ValueError, KeyError):  # it has just started
            return 0.0
        return min(1.0, max(by_steps, by_time))


@dataclass(frozen=True)
class RoundResult:
    """Result of a round. comparison: None where there was nothing new; model_path: the model in use, if any.

    training_exams, validation_exams: their numbers; version: of the new model, None where it was not published;
    rejected: exams that could not be imported, with reasons.
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
    options: RoundOptions = RoundOptions(),
    new_round: bool = False,
    on_validation: ValidationCallback | None = None,
    on_case_done: Callable[[str, int], None] | None = None,
) -> RoundResult:
    """Run a round, or continue the one that was interrupted; do nothing where no exam was finished since the last one.

    Parameters
    ----------
    studies, app : folder that MONAI Label serves, and folder of the app
    new_round : leave an unfinished round, and train even where nothing is new
    on_validation : as in `train`
    on_case_done : as in `import_source`

    Raises
    ------
    DatasetError : when another program is running a round, or there is nothing to train on or to validate with.
    ModelError : when the training fails.
    """
    with exclusive_folder(app / "learn"):
        current = None if new_round else find_unfinished_round(app, options.model)
        rejected: Mapping[str, str] = {}
        if current is None:
            folder = corrected_dataset_folder(app, options.model)
            imported = update_corrected_dataset(studies, folder, options.patient_pattern, on_case_done=on_case_done)
            rejected = imported.refused
            last = find_last_round(app, options.model)
            if last and not new_round and last.exams == _exam_checksums(imported.dataset):
                path = ModelRegistry(app, options.model).current_path
                counts = last.count("train"), last.count("val")
                return RoundResult(last.number, *counts, comparison=None, model_path=path, rejected=rejected)
            current = _plan_round(app, imported.dataset, options)
        try:
            return replace(_finish_round(app, current, on_validation), rejected=rejected)
        except (ModelError, DatasetError) as error:  # continuing would fail again
            TrainingRound.load(current.folder).updated(stage=FAILED, error=str(error))
            raise


def _plan_round(app: Path, dataset: Dataset, options: RoundOptions) -> TrainingRound:
    """Create the folder and plan of a new round."""
    split = _assign_splits(app, dataset, options)
    if not any(validation.cases(VALIDATION_SPLIT) for validation in _validation_datasets(options, split)):
        raise DatasetError(f"{', '.join(options.val_datasets)}: no case of the split val to validate with")
    initial_model, trained_on = _initial_weights(app, options)
    number = max((existing.number for existing in find_rounds(app)), default=0) + 1
    return TrainingRound(
        folder=app / "learn" / "rounds" / f"{number:04d}",
        stage=TRAINING,
        started=_timestamp(),
        options=options,
        initial_model=initial_model,
        trained_on=tuple(trained_on),
        splits={case.name: case.split for case in split.all_cases},
        exams=_exam_checksums(dataset),
    ).updated()


def _assign_splits(app: Path, dataset: Dataset, options: RoundOptions) -> Dataset:
    """Assign the corrected exams to training and validation; all to training where other datasets validate."""
    if options.val_datasets:
        return replace(dataset, all_cases=tuple(replace(case, split="train") for case in dataset.all_cases))
    patients = [patient_id(case) for case in dataset.all_cases]
    return load_validation_patients(app / "learn", options.val_fraction, options.seed, patients).assign_splits(dataset)


def _validation_datasets(options: RoundOptions, corrected: Dataset) -> list[Dataset]:
    return [*map(Dataset.open, options.val_datasets), corrected]


def _initial_weights(app: Path, options: RoundOptions) -> tuple[str, list[str]]:
    """Return what to train from, and the corrected cases that it was trained on.

    The run of the model in use is preferred to its model file, because not every network can be read from a file.
    """
    registry = ModelRegistry(app, options.model)
    current = registry.current()
    if current is not None and current.info.get("round"):
        folder = app / "learn" / str(current.info["round"])
        if (folder / RUN_FOLDER).is_dir():
            previous = TrainingRound.load(folder)
            trained_on = {name for name, split in previous.splits.items() if split == "train"}
            return str(folder / RUN_FOLDER), sorted(trained_on | set(previous.trained_on))
    return options.initial_model or str(registry.current_path or default_model_path()), []


def _finish_round(app: Path, current: TrainingRound, on_validation: ValidationCallback | None) -> RoundResult:
    """Run the stages of a round that are not done yet."""
    options, candidate = current.options, current.folder / CANDIDATE_FILE
    dataset = Dataset.open(corrected_dataset_folder(app, options.model))
    cases = tuple(replace(case, split=current.splits[case.name]) for case in dataset.all_cases)
    dataset = replace(dataset, all_cases=cases)
    if not candidate.exists():
        _train_and_export_candidate(current, dataset, on_validation)
        current = current.updated(stage=COMPARING)
    registry = ModelRegistry(app, options.model)
    comparison = current.comparison or _compare_with_current(registry, current, dataset)
    current = current.updated(comparison=comparison)
    version = None
    if comparison.accepted:
        name = current.folder.relative_to(app / "learn").as_posix()
        info = {"round": name, "published": _timestamp(), "comparison": asdict(comparison)}
        version = registry.publish(candidate, info).number
    current = current.updated(stage=DONE, finished=_timestamp(), version=version)
    counts = current.count("train"), len(comparison.exams)
    return RoundResult(current.number, *counts, comparison, registry.current_path, version)


def _train_and_export_candidate(
    current: TrainingRound, dataset: Dataset, on_validation: ValidationCallback | None
) -> None:
    """Train without the images of validation, whatever their cases are called; export the last checkpoint."""
    from .fine_tuning import export_run, fine_tune  # torch is optional

    options, run_folder = current.options, current.folder / RUN_FOLDER
    sources = _validation_datasets(options, dataset)
    validation = {case.checksums.get("image") for source in sources for case in source.cases(VALIDATION_SPLIT)}
    fine_tune(
        None if current.initial_model == NO_MODEL else current.initial_model,
        _exclude_images(dataset, validation),
        [_exclude_images(Dataset.open(folder), validation) for folder in options.base_datasets],
        run_folder,
        current.trained_on,
        options.training_settings,
        on_validation,
    )
    export_run(run_folder, current.folder / CANDIDATE_FILE, last=True)


def _exclude_images(dataset: Dataset, checksums: set[str | None]) -> Dataset:
    """Remove the cases whose images have one of these checksums."""
    cases = tuple(case for case in dataset.all_cases if case.checksums.get("image") not in checksums)
    return replace(dataset, all_cases=cases)


def _compare_with_current(registry: ModelRegistry, current: TrainingRound, dataset: Dataset) -> ModelComparison:
    """Compare the candidate with the model in use, or with the one that the round trained from."""
    datasets = _validation_datasets(current.options, dataset)
    exam_count = sum(len(validation.cases(VALIDATION_SPLIT)) for validation in datasets)
    candidate = Model.load(current.folder / CANDIDATE_FILE, exam_count=exam_count)
    previous = registry.current_path or _initial_model_file(current)
    return compare_models(candidate, Model.load(previous, exam_count=exam_count) if previous else None, datasets)


def _initial_model_file(current: TrainingRound) -> Path | None:
    """Return the model file that a round trained from, exported first where it is a run; None from scratch."""
    if current.initial_model == NO_MODEL:
        return None
    path = default_model_path() if current.initial_model == "shipped" else Path(current.initial_model)
    if path.suffix.lower() == ".onnx":
        return path
    from .fine_tuning import export_run  # torch is optional

    return export_run(path, current.folder / "before.onnx")


def corrected_dataset_folder(app: Path, model: str) -> Path:
    """Return the folder of the prepared dataset of corrected exams that rounds of a model train on."""
    return app / "learn" / "data" / model


def find_rounds(app: Path, model: str = "") -> list[TrainingRound]:
    """List the rounds of an app, the oldest first, of one model or of all."""
    folders = sorted(path.parent for path in (app / "learn" / "rounds").glob(f"[0-9]*/{PLAN_FILE}"))
    rounds = map(TrainingRound.load, folders)
    return [one for one in rounds if model in ("", one.options.model)]


def find_unfinished_round(app: Path, model: str = "") -> TrainingRound | None:
    """Return the last round of a model, or of all, if it can be continued."""
    last = next(reversed(find_rounds(app, model)), None)
    return last if last and last.stage not in (DONE, FAILED) else None


def find_last_round(app: Path, model: str) -> TrainingRound | None:
    """Return the last round of a model that is done."""
    return next((one for one in reversed(find_rounds(app, model)) if one.stage == DONE), None)


def _exam_checksums(dataset: Dataset) -> dict[str, dict[str, str]]:
    return {case.name: dict(case.checksums) for case in dataset.all_cases}


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
