"""Which exam a person should correct next: the one about which the model is least certain, or whose answer cannot be.

Doubt is made of parts between 0 and 1, each told in words: the network's own uncertainty, the confidence of the names,
how far the mirrored exam is answered otherwise, how far another model answers otherwise, and anatomy that no person
has. A part that is 0 changes nothing; each other one raises the doubt (1 - the product of what is left of certainty).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES, Kind, by_label
from lumbarseg.datasets.folder import Table
from lumbarseg.errors import LumbarsegError, SegmentError
from lumbarseg.files import read_exam, replacing
from lumbarseg.model import Model, predict
from lumbarseg.pseudo import review
from lumbarseg.resample import reorient
from lumbarseg.score import dice
from lumbarseg.segment import Seen, look
from lumbarseg.segment.look import refuse_ct
from lumbarseg.volume import Array, Volume

VERSION = 1
_SEEN = 0.05  # probability of anything but background, from which a voxel is looked at
_ODD = 0.3  # doubt that each thing which no person has brings
_MODELS = 4  # of which doubts are kept
_LEAST = 0.02  # of a part below which it is no reason worth telling
_BACKGROUND = CLASSES.index(Kind.BACKGROUND)


@dataclass(frozen=True)
class Doubt:
    """How doubtful a model's answer to an exam is. value: 0..1; reasons: in words, the heaviest first.

    parts: what the value is made of; refused: the model gives no answer; unusable: the exam itself cannot be used.
    """

    name: str
    value: float
    reasons: tuple[str, ...] = ()
    parts: Mapping[str, float] = field(default_factory=dict)
    refused: bool = False
    unusable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def doubt(name: str, volume: Volume, model: Model, other: Model | None = None) -> Doubt:
    """Doubt of a model's answer to an exam; other: a second model to compare with. Never a SegmentError."""
    try:
        refuse_ct(volume)
    except SegmentError as error:
        return Doubt(name, 0.0, (str(error),), unusable=True)
    try:
        seen = look(volume, model)
    except SegmentError as error:
        return Doubt(name, 1.0, (f"no answer: {error}",), refused=True)
    classes = seen.scores.argmax(axis=0)
    told = [_unsure(seen), _names(seen), _mirrored(seen, classes, model), _odd(seen, model)]
    if other is not None:
        told.append(_otherwise(seen, volume, other))
    return made_of(name, told)


Part = tuple[str, float, str]
"""What doubt is made of: a word, how much, and why."""


def made_of(name: str, parts: Iterable[Part]) -> Doubt:
    """Doubt from its parts."""
    rows = [(word, float(np.clip(value, 0, 1)), why) for word, value, why in parts]
    value = 1 - float(np.prod([1 - share for _, share, _ in rows]))
    told = sorted((row for row in rows if row[1] >= _LEAST), key=lambda row: -row[1])
    return Doubt(name, round(value, 4), tuple(why for _, _, why in told), {w: round(v, 4) for w, v, _ in rows})


def _unsure(seen: Seen) -> Part:
    """How near the second choice comes to the first, where anything may be."""
    top = np.sort(seen.scores, axis=0)[-2:]
    here = seen.scores[_BACKGROUND] < 1 - _SEEN
    share = 1 - float((top[1] - top[0])[here].mean()) if here.any() else 1.0
    return "unsure", share, f"the network is unsure of its voxels ({share:.2f})"


def _names(seen: Seen) -> Part:
    share = 1 - seen.answer.confidence
    return "names", share, f"the names are uncertain ({share:.2f}: {'; '.join(seen.naming.reasons)})"


def _mirrored(seen: Seen, classes: Array, model: Model) -> Part:
    """Left and right look the same, so an exam and its mirror image should be answered alike."""
    scores = predict(model, np.ascontiguousarray(seen.array[::-1]))[:, ::-1]
    share = 1 - _alike(classes, scores.argmax(axis=0), range(1, len(CLASSES)))
    return "mirror", share, f"mirrored, the exam is answered otherwise ({share:.2f})"


def _alike(first: Array, second: Array, channels: Iterable[int]) -> float:
    """Mean Dice of the tissues that either shows; 1 where neither shows any."""
    shown = [c for c in channels if (first == c).any() or (second == c).any()]
    return float(np.mean([dice(first == c, second == c) for c in shown])) if shown else 1.0


def _otherwise(seen: Seen, volume: Volume, other: Model) -> Part:
    """Mean Dice, by name, of the answers of two models in what both may paint."""
    try:
        found = look(volume, other).answer.labels.array
    except SegmentError:
        return "other", 1.0, "another model gives no answer"
    mine = seen.answer.labels.array
    values = [int(v) for v in np.unique([*np.unique(mine), *np.unique(found)]) if v]
    shared = [v for v in values if by_label(v).kind in other.card.painted]
    dices = [dice(mine == v, found == v) for v in shared]
    share = 1 - float(np.mean(dices)) if dices else 1.0
    return "other", share, f"another model answers otherwise ({share:.2f})"


def _odd(seen: Seen, model: Model) -> Part:
    """Gaps, wrong orders and sizes that no person has."""
    labels = reorient(seen.answer.labels, "RAS")
    present = [int(v) for v in np.unique(labels.array) if v]
    table: Table = {0: ("background",), **{v: (by_label(v).name,) for v in present}}
    told = review.anatomy(labels, table, Kind.DISC in model.card.painted)
    return "anatomy", 1 - (1 - _ODD) ** len(told), "no person has this: " + "; ".join(told[:3])


def ordered(doubts: Iterable[Doubt]) -> list[Doubt]:
    """The most doubtful first; exams that cannot be used come last.

    Exams without an answer come first while they are the most, for the model has all to learn then; else they stand
    behind the others: among exams that a model can answer they are rather no lumbar exams.
    """
    held = list(doubts)
    usable = [one for one in held if not one.unusable]
    strange = 2 * sum(one.refused for one in usable) < len(usable)

    def place(one: Doubt) -> tuple[bool, bool, float, str]:
        return one.unusable, one.refused and strange, -one.value, one.name

    return sorted(held, key=place)


@dataclass(frozen=True)
class Order:
    """Exams in the order in which a person should see them. waiting: names not looked at yet, for lack of time."""

    doubts: tuple[Doubt, ...]
    waiting: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those that were not looked at behind."""
        return (*(one.name for one in self.doubts), *self.waiting)


def order(
    exams: Mapping[str, Path],
    model: Model,
    other: Model | None = None,
    memory: Path | None = None,
    seconds: float | None = None,
    step: Callable[[str, int], None] | None = None,
) -> Order:
    """Exams by doubt. exams: name to file or DICOM folder; other: a second model to compare with.

    memory: a JSON file in which doubts are kept, by file and models, for the next time; seconds: after which no
    further exam is looked at; step: told the name of each exam that is done, and how many there are.
    """
    known = Memory(memory, [model.card.digest, other.card.digest if other else ""])
    began, doubts, waiting = time.monotonic(), [], []
    for name, path in exams.items():
        found = known.get(name, path)
        if found is None and seconds is not None and time.monotonic() - began > seconds:
            waiting.append(name)
            continue
        if found is None:
            found = _looked(name, path, model, other)
            known.keep(found, path)
        doubts.append(found)
        if step:
            step(name, len(exams))
    known.save()
    return Order(tuple(ordered(doubts)), tuple(waiting))


def _looked(name: str, path: Path, model: Model, other: Model | None) -> Doubt:
    try:
        return doubt(name, read_exam(path).volume, model, other)
    except LumbarsegError as error:
        return Doubt(name, 0.0, (str(error),), unusable=True)


class Memory:
    """Doubts of exams as they were, for some models; nothing is kept without a file.

    The last few models keep theirs, so that several may be asked in turn.
    """

    def __init__(self, path: Path | None, models: Sequence[str]) -> None:
        self.path, self.models = path, "+".join(models)
        self.kept = _read(path) if path else {}
        self.rows = dict(self.kept.get(self.models, {}))
        self.changed = False

    def get(self, name: str, path: Path) -> Doubt | None:
        """The doubt of an exam whose file is as it was."""
        row = self.rows.get(name)
        try:
            if row is None or row["file"] != _stamp(path):
                return None
            return Doubt(**{**row["doubt"], "reasons": tuple(row["doubt"]["reasons"])})
        except (KeyError, TypeError):
            return None

    def keep(self, one: Doubt, path: Path) -> None:
        """Remember it."""
        self.rows[one.name] = {"file": _stamp(path), "doubt": one.to_dict()}
        self.changed = True

    def save(self) -> None:
        """Write what is new."""
        if self.path is None or not self.changed:
            return
        others = [(key, rows) for key, rows in self.kept.items() if key != self.models]
        values = {"version": VERSION, "models": {**dict(others[1 - _MODELS :]), self.models: self.rows}}
        with replacing(self.path) as file:
            file.write(json.dumps(values, indent=1).encode())


def _read(path: Path) -> dict[str, Any]:
    """Doubts by models; {} of a file that is not there or not ours, whose exams are looked at anew."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return dict(values["models"]) if values["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _stamp(path: Path) -> list[Any]:
    """Changes when the file does."""
    try:
        about = path.stat()
    except OSError:
        return []
    return [str(path), about.st_mtime_ns, about.st_size]
