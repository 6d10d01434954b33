"""The result of a run, result.json: what it was trained on, what it cost, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lumbarseg.errors import ModelError

from .settings import TrainingSettings

RESULT_FILE = "result.json"
_REPEATED_SETTINGS = ("method", "network", "fold", "seed")
"""Settings that result.json has beside `settings` too, for readers who look for what distinguishes runs."""
_VALIDATIONS = ("before", "best", "last")


@dataclass(frozen=True)
class ExamScore:
    """One validation exam. group: index of its dataset; dice: mean of its structures; wrong: names, "L4 as L5"."""

    exam: str
    patient: str
    group: int
    dice: float
    wrong: list[str]


@dataclass(frozen=True)
class ValidationScores:
    """The scores of the validation after `step` steps and `seconds` of training.

    score : mean Dice; mixed : exams with wrong level names; dice : of each structure;
    exams : empty where only history.csv is left; waited : validations since without a better score
    """

    step: int = 0
    seconds: float = 0.0
    score: float = 0.0
    mixed: int = 0
    dice: dict[str, float] = field(default_factory=dict)
    exams: list[ExamScore] = field(default_factory=list)
    waited: int = 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ValidationScores:
        """Return the scores of `asdict`, also of version 0.1, which counted no patients."""
        exams = [ExamScore(**{"patient": exam["exam"], **exam}) for exam in values.get("exams", ())]
        mixed = int(values.get("mixed", sum(bool(exam.wrong) for exam in exams)))
        return cls(**{**values, "exams": exams, "mixed": mixed})


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    init : file of the initial weights, or "none"; exams : numbers of exams, "train", "held_out" for validation,
    "left_out" without a target; slices : for training; before, best, last : validations of the initial weights, with
    the best score, and the latest one
    """

    targets: list[str]
    preset: str
    init: str
    datasets: list[str]
    exams: dict[str, int]
    epochs: float
    minutes: float
    finished: bool
    settings: TrainingSettings
    best: ValidationScores | None
    last: ValidationScores | None
    before: ValidationScores | None = None
    slices: int = 0
    step: int = 0
    precision: str = ""
    device: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of result.json."""
        values = asdict(self) | {name: getattr(self.settings, name) for name in _REPEATED_SETTINGS}
        return values | {name: values[name] or {} for name in _VALIDATIONS} | {"settings": self.settings.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunResult:
        """Return the result of `to_dict`; raise KeyError, TypeError or ValueError if it is none."""
        content = {f.name: values[f.name] for f in fields(cls) if f.name in values or f.default is MISSING}
        for name in _VALIDATIONS:
            content[name] = ValidationScores.from_dict(values[name]) if values.get(name) else None
        return cls(**content | {"settings": TrainingSettings.from_dict(values["settings"])})

    @classmethod
    def read(cls, run_folder: Path) -> RunResult:
        """Read the result.json of a run's folder; raise ModelError if there is none."""
        path = run_folder / RESULT_FILE
        try:
            return cls.from_dict(dict(json.loads(path.read_text(encoding="utf-8"))))
        except FileNotFoundError:
            raise ModelError(f"{path}: not found; give the folder of a run that was validated or has ended") from None
        except KeyError as error:
            raise ModelError(f"{path}: no result of a run: it has no {error}") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: cannot be read: {error}") from error
