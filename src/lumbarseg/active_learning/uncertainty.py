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

from lumbarseg.anatomy import CLASSES, Kind, structure_by_label
from lumbarseg.datasets.dataset import LabelTable
from lumbarseg.errors import LumbarsegError, SegmentError
from lumbarseg.inference import Model, predict
from lumbarseg.io import atomic_write, read_exam
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.preprocessing import refuse_ct
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import Segmentation, SegmentationState, segment
from lumbarseg.segmentation.orientation import flip_axes
from lumbarseg.volume import Array, Volume

from . import review

CACHE_VERSION = 1
_FOREGROUND_THRESHOLD = 0.05  # probability of anything but background, from which a voxel is looked at
_IMPLAUSIBILITY_WEIGHT = 0.3  # doubt that each thing which no person has brings
_MAX_CACHED_MODELS = 4  # of which doubts are kept
_MIN_REPORTED = 0.02  # of a part below which it is no reason worth telling
_BACKGROUND_CHANNEL = CLASSES.index(Kind.BACKGROUND)


@dataclass(frozen=True)
class UncertaintyScore:
    """How doubtful a model's answer to an exam is. value: 0..1; reasons: in words, the heaviest first.

    parts: what the value is made of; refused: the model gives no answer; unusable: the exam itself cannot be used.
    """

    name: str
    value: float
    reasons: tuple[str, ...] = ()
    components: Mapping[str, float] = field(default_factory=dict)
    not_segmented: bool = False
    unusable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def estimate_uncertainty(
    name: str, volume: Volume, model: Model, second_model: Model | None = None
) -> UncertaintyScore:
    """Doubt of a model's answer to an exam; other: a second model to compare with. Never a SegmentError."""
    try:
        refuse_ct(volume)
    except SegmentError as error:
        return UncertaintyScore(name, 0.0, (str(error),), unusable=True)
    try:
        found = segment(volume, model, keep_state=True)
    except SegmentError as error:
        return UncertaintyScore(name, 1.0, (f"no answer: {error}",), not_segmented=True)
    assert found.state is not None
    seen = found.state
    told = [
        _voxel_uncertainty(seen),
        _level_name_uncertainty(found, seen),
        _mirror_disagreement(seen, model),
        _anatomical_implausibility(found, model),
    ]
    if second_model is not None:
        told.append(_model_disagreement(found, volume, second_model))
    return combine_components(name, told)


ScoreComponent = tuple[str, float, str]
"""What doubt is made of: a word, how much, and why."""


def combine_components(name: str, components: Iterable[ScoreComponent]) -> UncertaintyScore:
    """Doubt from its parts."""
    rows = [(word, float(np.clip(value, 0, 1)), why) for word, value, why in components]
    value = 1 - float(np.prod([1 - share for _, share, _ in rows]))
    told = sorted((row for row in rows if row[1] >= _MIN_REPORTED), key=lambda row: -row[1])
    return UncertaintyScore(
        name, round(value, 4), tuple(why for _, _, why in told), {w: round(v, 4) for w, v, _ in rows}
    )


def _voxel_uncertainty(state: SegmentationState) -> ScoreComponent:
    """How near the second choice comes to the first, where anything may be."""
    top = np.sort(state.prediction.probabilities, axis=0)[-2:]
    here = state.prediction.probabilities[_BACKGROUND_CHANNEL] < 1 - _FOREGROUND_THRESHOLD
    share = 1 - float((top[1] - top[0])[here].mean()) if here.any() else 1.0
    return "unsure", share, f"the network is unsure of its voxels ({share:.2f})"


def _level_name_uncertainty(segmentation: Segmentation, state: SegmentationState) -> ScoreComponent:
    share = 1 - segmentation.confidence
    return "names", share, f"the names are uncertain ({share:.2f}: {'; '.join(state.assignment.reasons)})"


def _mirror_disagreement(state: SegmentationState, model: Model) -> ScoreComponent:
    """Left and right look the same, so an exam and its mirror image should be answered alike."""
    array = flip_axes(state.prediction.prepared.array, state.prediction.flips)
    scores = predict(model, np.ascontiguousarray(array[::-1]))[:, ::-1]
    share = 1 - _mean_dice(state.prediction.classes, scores.argmax(axis=0), range(1, len(CLASSES)))
    return "mirror", share, f"mirrored, the exam is answered otherwise ({share:.2f})"


def _mean_dice(first: Array, second: Array, channels: Iterable[int]) -> float:
    """Mean Dice of the tissues that either shows; 1 where neither shows any."""
    shown = [c for c in channels if (first == c).any() or (second == c).any()]
    return float(np.mean([compute_dice(first == c, second == c) for c in shown])) if shown else 1.0


def _model_disagreement(segmentation: Segmentation, volume: Volume, second_model: Model) -> ScoreComponent:
    """Mean Dice, by name, of the answers of two models in what both may paint."""
    try:
        found = segment(volume, second_model).labels.array
    except SegmentError:
        return "other", 1.0, "another model gives no answer"
    mine = segmentation.labels.array
    values = [int(v) for v in np.unique([*np.unique(mine), *np.unique(found)]) if v]
    shared = [v for v in values if structure_by_label(v).kind in second_model.card.output_kinds]
    dices = [compute_dice(mine == v, found == v) for v in shared]
    share = 1 - float(np.mean(dices)) if dices else 1.0
    return "other", share, f"another model answers otherwise ({share:.2f})"


def _anatomical_implausibility(segmentation: Segmentation, model: Model) -> ScoreComponent:
    """Gaps, wrong orders and sizes that no person has."""
    labels = reorient(segmentation.labels, "RAS")
    present = [int(v) for v in np.unique(labels.array) if v]
    table: LabelTable = {0: ("background",), **{v: (structure_by_label(v).name,) for v in present}}
    told = review.list_implausibilities(labels, table, Kind.DISC in model.card.output_kinds)
    return "anatomy", 1 - (1 - _IMPLAUSIBILITY_WEIGHT) ** len(told), "no person has this: " + "; ".join(told[:3])


def sort_by_uncertainty(scores: Iterable[UncertaintyScore]) -> list[UncertaintyScore]:
    """The most doubtful first; exams that cannot be used come last.

    Exams without an answer come first while they are the most, for the model has all to learn then; else they stand
    behind the others: among exams that a model can answer they are rather no lumbar exams.
    """
    held = list(scores)
    usable = [one for one in held if not one.unusable]
    strange = 2 * sum(one.not_segmented for one in usable) < len(usable)

    def place(one: UncertaintyScore) -> tuple[bool, bool, float, str]:
        return one.unusable, one.not_segmented and strange, -one.value, one.name

    return sorted(held, key=place)


@dataclass(frozen=True)
class RankedExams:
    """Exams in the order in which a person should see them. waiting: names not looked at yet, for lack of time."""

    scores: tuple[UncertaintyScore, ...]
    not_scored: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names, those that were not looked at behind."""
        return (*(one.name for one in self.scores), *self.not_scored)


def rank_exams(
    exams: Mapping[str, Path],
    model: Model,
    second_model: Model | None = None,
    cache_path: Path | None = None,
    time_limit: float | None = None,
    step: Callable[[str, int], None] | None = None,
) -> RankedExams:
    """Exams by doubt. exams: name to file or DICOM folder; other: a second model to compare with.

    memory: a JSON file in which doubts are kept, by file and models, for the next time; seconds: after which no
    further exam is looked at; step: told the name of each exam that is done, and how many there are.
    """
    known = ScoreCache(cache_path, [model.card.digest, second_model.card.digest if second_model else ""])
    began, doubts, waiting = time.monotonic(), [], []
    for name, path in exams.items():
        found = known.get(name, path)
        if found is None and time_limit is not None and time.monotonic() - began > time_limit:
            waiting.append(name)
            continue
        if found is None:
            found = _score_file(name, path, model, second_model)
            known.add(found, path)
        doubts.append(found)
        if step:
            step(name, len(exams))
    known.save()
    return RankedExams(tuple(sort_by_uncertainty(doubts)), tuple(waiting))


def _score_file(name: str, path: Path, model: Model, second_model: Model | None) -> UncertaintyScore:
    try:
        return estimate_uncertainty(name, read_exam(path).volume, model, second_model)
    except LumbarsegError as error:
        return UncertaintyScore(name, 0.0, (str(error),), unusable=True)


class ScoreCache:
    """Doubts of exams as they were, for some models; nothing is kept without a file.

    The last few models keep theirs, so that several may be asked in turn.
    """

    def __init__(self, path: Path | None, models: Sequence[str]) -> None:
        self.path, self.models = path, "+".join(models)
        self.stored = _read_cache(path) if path else {}
        self.rows = dict(self.stored.get(self.models, {}))
        self.changed = False

    def get(self, name: str, path: Path) -> UncertaintyScore | None:
        """The doubt of an exam whose file is as it was."""
        row = self.rows.get(name)
        try:
            if row is None or row["file"] != _file_fingerprint(path):
                return None
            return UncertaintyScore(**{**row["doubt"], "reasons": tuple(row["doubt"]["reasons"])})
        except (KeyError, TypeError):
            return None

    def add(self, one: UncertaintyScore, path: Path) -> None:
        """Remember it."""
        self.rows[one.name] = {"file": _file_fingerprint(path), "doubt": one.to_dict()}
        self.changed = True

    def save(self) -> None:
        """Write what is new."""
        if self.path is None or not self.changed:
            return
        others = [(key, rows) for key, rows in self.stored.items() if key != self.models]
        values = {
            "version": CACHE_VERSION,
            "models": {**dict(others[1 - _MAX_CACHED_MODELS :]), self.models: self.rows},
        }
        with atomic_write(self.path) as file:
            file.write(json.dumps(values, indent=1).encode())


def _read_cache(path: Path) -> dict[str, Any]:
    """Doubts by models; {} of a file that is not there or not ours, whose exams are looked at anew."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return dict(values["models"]) if values["version"] == CACHE_VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _file_fingerprint(path: Path) -> list[Any]:
    """Changes when the file does."""
    try:
        about = path.stat()
    except OSError:
        return []
    return [str(path), about.st_mtime_ns, about.st_size]
