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
from lumbarseg.evaluate import Answerer, Row, examine, modelled
from lumbarseg.files import replacing
from lumbarseg.model import Model
from lumbarseg.score import estimate, exam_rows

SPLIT = "val"


@dataclass(frozen=True)
class Verdict:
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
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The inverse of `to_dict`."""
        difference = values["difference"]
        return cls(**{**values, "exams": tuple(values["exams"]), "difference": difference and tuple(difference)})


def judged(candidate: Model, current: Model | None, datasets: Sequence[Dataset]) -> Verdict:
    """Compare two models on the cases of the split "val"; DatasetError when there are none, or none can be scored."""
    cases = [(dataset.name, case) for dataset in datasets for case in dataset.cases(SPLIT)]
    if not cases:
        raise DatasetError("no exam is held out to judge by; correct more exams, or give a dataset with some")
    answerers = [_asked_for_all(modelled(model)) for model in (candidate, current) if model is not None]
    columns: list[list[Row]] = [[] for _ in answerers]
    for name, case in cases:
        for column, row in zip(columns, examine(name, case, answerers, distances=False), strict=True):
            column.append(row)
    return compared(columns[0], columns[1] if current is not None else None)


def _asked_for_all(answer: Answerer) -> Answerer:
    """The same answers, held to be of a model that may show everything: what it was not taught, it has missed."""
    return lambda case, image: replace(answer(case, image), painted=frozenset(CLASSES))


def compared(new: Sequence[Row], old: Sequence[Row] | None) -> Verdict:
    """The verdict on two models by the same exams, as `examine` gives them; a structure not painted scores 0.

    Not worse is: mean Dice by name no lower, not more wrong names, not more exams without an answer.
    """
    mine = exam_rows(new)
    scored = [i for i, row in enumerate(mine) if row["dice"] is not None]
    if not scored:
        raise DatasetError("no held-out exam shows a structure that is scored; give others to judge by")
    dice = float(np.mean([mine[i]["dice"] for i in scored]))
    if old is None:
        exams = tuple({"exam": mine[i]["case"], "candidate": mine[i]["dice"]} for i in scored)
        return Verdict(dice > 0, "the first model" if dice > 0 else "it finds nothing", dice, exams=exams)
    theirs = exam_rows(old)
    before = float(np.mean([theirs[i]["dice"] or 0.0 for i in scored]))
    gains = [mine[i]["dice"] - (theirs[i]["dice"] or 0.0) for i in scored]
    found = estimate(gains, [mine[i]["patient"] for i in scored])
    wrong = [sum(row["wrong"] or 0 for row in rows) for rows in (mine, theirs)]
    silent = [sum(bool(row["error"]) for row in rows) for rows in (new, old)]
    better = dice >= before and wrong[0] <= wrong[1] and silent[0] <= silent[1]
    told = f"mean Dice {before:.4f} to {dice:.4f}, wrong names {wrong[1]:.0f} to {wrong[0]:.0f}"
    told += f", exams without an answer {silent[1]} to {silent[0]}" if any(silent) else ""
    exams = tuple(
        {"exam": mine[i]["case"], "candidate": mine[i]["dice"], "current": theirs[i]["dice"] or 0.0} for i in scored
    )
    return Verdict(better, told, dice, before, (float(found.mean or 0.0), found.low, found.high), exams)


@dataclass(frozen=True)
class Version:
    """A model that was published once. about: when, from what, with which figures."""

    number: int
    path: Path
    about: Mapping[str, Any]


@dataclass(frozen=True)
class Shelf:
    """The versions of one model of an app."""

    app: Path
    name: str

    @property
    def model(self) -> Path:
        """The one in use; it may not be there yet."""
        return self.app / "model" / f"{self.name}.onnx"

    @property
    def folder(self) -> Path:
        """Where all of them lie."""
        return self.app / "learn" / "versions" / self.name

    def versions(self) -> list[Version]:
        """Every version, the oldest first."""
        return [
            Version(int(path.stem), path, _about(path.with_suffix(".json")))
            for path in sorted(self.folder.glob("[0-9][0-9][0-9][0-9].onnx"))
        ]

    def current(self) -> Version | None:
        """The version in use; None where none is, or the model in use was put there by somebody else."""
        if not self.model.is_file():
            return None
        data = self.model.read_bytes()
        return next((one for one in reversed(self.versions()) if one.path.read_bytes() == data), None)

    def publish(self, model: Path, about: Mapping[str, Any]) -> Version:
        """Put a model file in use, as a new version unless it is one already.

        Done again after an interruption it ends the same. What was in use before stays as a version, also when somebody
        else had put it there. ModelError for a file that is no model.
        """
        Model.load(model, "cpu")
        if self.model.is_file() and self.current() is None:
            self._keep(self.model.read_bytes(), {"origin": "was in use"})
        version = self._keep(model.read_bytes(), about)
        with replacing(self.model) as file:
            file.write(version.path.read_bytes())
        return version

    def back(self, number: int) -> Path:
        """Put an older version in use again; ModelError when there is none of this number."""
        version = next((one for one in self.versions() if one.number == number), None)
        if version is None:
            have = ", ".join(str(one.number) for one in self.versions()) or "none"
            raise ModelError(f"{self.folder}: no version {number} of {self.name}; there are: {have}")
        Model.load(version.path, "cpu")
        with replacing(self.model) as file:
            file.write(version.path.read_bytes())
        return self.model

    def _keep(self, data: bytes, about: Mapping[str, Any]) -> Version:
        """The version that these bytes are, a new one where they are none yet."""
        have = self.versions()
        same = next((one for one in have if one.path.read_bytes() == data), None)
        if same is not None:
            return same
        number = have[-1].number + 1 if have else 1
        path = self.folder / f"{number:04d}.onnx"
        with replacing(path.with_suffix(".json")) as file:
            file.write(json.dumps(dict(about), indent=1, allow_nan=False).encode())
        with replacing(path) as file:
            file.write(data)
        return Version(number, path, about)


def _about(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
