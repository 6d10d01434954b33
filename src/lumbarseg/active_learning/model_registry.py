"""A new model beside the one that is in use: judged on the same held-out exams, and put in its place if not worse.

The model in use is APP/model/NAME.onnx. Each one that ever was lies in APP/learn/versions/NAME, numbered, with what was
known of it; putting one in place is one renaming, so a reader sees the old one or the new one and never half of one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.datasets import Dataset
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.evaluation.evaluate import evaluate_case
from lumbarseg.evaluation.predictors import CasePredictor, predictor_from_model
from lumbarseg.inference import Model
from lumbarseg.io import atomic_write
from lumbarseg.metrics.bootstrap import bootstrap_mean
from lumbarseg.metrics.case_scores import Row, exam_rows

VALIDATION_SPLIT = "val"


@dataclass(frozen=True)
class ModelComparison:
    """What became of a comparison. candidate, current: mean Dice by name over the held-out exams, None without a model.

    difference: of the two, with low and high of its 95 % interval over patients, None where there is no such thing;
    exams: each with both figures; better: whether the candidate is not worse.
    """

    better: bool
    reason: str
    candidate: float
    current: float | None = None
    difference: tuple[float, float | None, float | None] | None = None
    exams: tuple[dict[str, Any], ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelComparison:
        """The inverse of `to_dict`."""
        difference = values["difference"]
        return cls(**{**values, "exams": tuple(values["exams"]), "difference": difference and tuple(difference)})


def compare_models(candidate: Model, current: Model | None, datasets: Sequence[Dataset]) -> ModelComparison:
    """Compare two models on the cases of the split "val"; DatasetError when there are none, or none can be scored."""
    cases = [(dataset.name, case) for dataset in datasets for case in dataset.cases(VALIDATION_SPLIT)]
    if not cases:
        raise DatasetError("no exam is held out to judge by; correct more exams, or give a dataset with some")
    answerers = [
        _expect_all_structures(predictor_from_model(model)) for model in (candidate, current) if model is not None
    ]
    columns: list[list[Row]] = [[] for _ in answerers]
    for name, case in cases:
        for column, row in zip(columns, evaluate_case(name, case, answerers, with_distances=False), strict=True):
            column.append(row)
    return compare_case_rows(columns[0], columns[1] if current is not None else None)


def _expect_all_structures(predictor: CasePredictor) -> CasePredictor:
    """The same answers, held to be of a model that may show everything: what it was not taught, it has missed."""
    return lambda case, image: replace(predictor(case, image), segmented_kinds=frozenset(CLASSES))


def compare_case_rows(candidate_rows: Sequence[Row], current_rows: Sequence[Row] | None) -> ModelComparison:
    """The verdict on two models by the same exams, as `examine` gives them; a structure not painted scores 0.

    Not worse is: mean Dice by name no lower, not more wrong names, not more exams without an answer.
    """
    mine = exam_rows(candidate_rows)
    scored = [i for i, row in enumerate(mine) if row["dice"] is not None]
    if not scored:
        raise DatasetError("no held-out exam shows a structure that is scored; give others to judge by")
    dice = float(np.mean([mine[i]["dice"] for i in scored]))
    if current_rows is None:
        exams = tuple({"exam": mine[i]["case"], "candidate": mine[i]["dice"]} for i in scored)
        return ModelComparison(dice > 0, "the first model" if dice > 0 else "it finds nothing", dice, exams=exams)
    theirs = exam_rows(current_rows)
    before = float(np.mean([theirs[i]["dice"] or 0.0 for i in scored]))
    gains = [mine[i]["dice"] - (theirs[i]["dice"] or 0.0) for i in scored]
    found = bootstrap_mean(gains, [mine[i]["patient"] for i in scored])
    wrong = [sum(row["wrong"] or 0 for row in rows) for rows in (mine, theirs)]
    silent = [sum(bool(row["error"]) for row in rows) for rows in (candidate_rows, current_rows)]
    better = dice >= before and wrong[0] <= wrong[1] and silent[0] <= silent[1]
    told = f"mean Dice {before:.4f} to {dice:.4f}, wrong names {wrong[1]:.0f} to {wrong[0]:.0f}"
    told += f", exams without an answer {silent[1]} to {silent[0]}" if any(silent) else ""
    exams = tuple(
        {"exam": mine[i]["case"], "candidate": mine[i]["dice"], "current": theirs[i]["dice"] or 0.0} for i in scored
    )
    return ModelComparison(better, told, dice, before, (float(found.mean or 0.0), found.low, found.high), exams)


@dataclass(frozen=True)
class ModelVersion:
    """A model that was published once. about: when, from what, with which figures."""

    number: int
    path: Path
    info: Mapping[str, Any]


@dataclass(frozen=True)
class ModelRegistry:
    """The versions of one model of an app."""

    app_folder: Path
    name: str

    @property
    def model_path(self) -> Path:
        """The one in use; it may not be there yet."""
        return self.app_folder / "model" / f"{self.name}.onnx"

    @property
    def folder(self) -> Path:
        """Where all of them lie."""
        return self.app_folder / "learn" / "versions" / self.name

    def versions(self) -> list[ModelVersion]:
        """Every version, the oldest first."""
        return [
            ModelVersion(int(path.stem), path, _read_info(path.with_suffix(".json")))
            for path in sorted(self.folder.glob("[0-9][0-9][0-9][0-9].onnx"))
        ]

    def current(self) -> ModelVersion | None:
        """The version in use; None where none is, or the model in use was put there by somebody else."""
        if not self.model_path.is_file():
            return None
        data = self.model_path.read_bytes()
        return next((one for one in reversed(self.versions()) if one.path.read_bytes() == data), None)

    def publish(self, model: Path, info: Mapping[str, Any]) -> ModelVersion:
        """Put a model file in use, as a new version unless it is one already.

        Done again after an interruption it ends the same. What was in use before stays as a version, also when somebody
        else had put it there. ModelError for a file that is no model.
        """
        Model.load(model, "cpu")
        if self.model_path.is_file() and self.current() is None:
            self._store(self.model_path.read_bytes(), {"origin": "was in use"})
        version = self._store(model.read_bytes(), info)
        with atomic_write(self.model_path) as file:
            file.write(version.path.read_bytes())
        return version

    def restore(self, number: int) -> Path:
        """Put an older version in use again; ModelError when there is none of this number."""
        version = next((one for one in self.versions() if one.number == number), None)
        if version is None:
            have = ", ".join(str(one.number) for one in self.versions()) or "none"
            raise ModelError(f"{self.folder}: no version {number} of {self.name}; there are: {have}")
        Model.load(version.path, "cpu")
        with atomic_write(self.model_path) as file:
            file.write(version.path.read_bytes())
        return self.model_path

    def _store(self, data: bytes, info: Mapping[str, Any]) -> ModelVersion:
        """The version that these bytes are, a new one where they are none yet."""
        have = self.versions()
        same = next((one for one in have if one.path.read_bytes() == data), None)
        if same is not None:
            return same
        number = have[-1].number + 1 if have else 1
        path = self.folder / f"{number:04d}.onnx"
        with atomic_write(path.with_suffix(".json")) as file:
            file.write(json.dumps(dict(info), indent=1, allow_nan=False).encode())
        with atomic_write(path) as file:
            file.write(data)
        return ModelVersion(number, path, info)


def _read_info(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
