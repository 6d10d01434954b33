"""Rank exams by how uncertain a model's segmentation is, to choose which one to correct next.

The score combines components between 0 and 1: the network's own uncertainty, the confidence of the level names, the
disagreement with the mirrored exam and with a second model, and implausible anatomy. Score = 1 - product of (1 - c).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES, Kind, structure_by_label
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.errors import LumbarsegError, SegmentError
from lumbarseg.inference import Model, predict
from lumbarseg.io import file_fingerprint, read_exam, write_json
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.preprocessing import refuse_ct
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import Segmentation, segment
from lumbarseg.segmentation.prediction import Prediction, flip_axes
from lumbarseg.volume import Array, Volume

from .review import list_implausibilities

CACHE_VERSION = 2
_FOREGROUND_THRESHOLD = 0.05  # probability of any foreground class from which a voxel counts
_IMPLAUSIBILITY_WEIGHT = 0.3  # score of each implausible finding
_MAX_CACHED_SCORES = 10_000  # the last used ones are kept
_MIN_REPORTED = 0.02  # component below which no reason is given


@dataclass(frozen=True)
class UncertaintyScore:
    """Uncertainty of the segmentation of an exam. value: 0..1; reasons: the largest component first.

    not_segmented: the model finds no lumbar spine; unusable: the exam cannot be read or is no MRI.
    """

    name: str
    value: float
    reasons: tuple[str, ...] = ()
    components: Mapping[str, float] = field(default_factory=dict)
    not_segmented: bool = False
    unusable: bool = False


@dataclass(frozen=True)
class ScoreComponent:
    """One component of an uncertainty score. value: clipped to 0..1."""

    name: str
    value: float
    reason: str


def estimate_uncertainty(
    name: str, volume: Volume, model: Model, second_model: Model | None = None
) -> UncertaintyScore:
    """Score the uncertainty of a model's segmentation of an exam; second_model: compared with, too.

    An exam that cannot be segmented has the score 1; one that is no MRI is marked unusable.
    """
    try:
        refuse_ct(volume)
    except SegmentError as error:
        return UncertaintyScore(name, 0.0, (str(error),), unusable=True)
    try:
        result = segment(volume, model, keep_state=True)
    except SegmentError as error:
        return UncertaintyScore(name, 1.0, (f"no segmentation: {error}",), not_segmented=True)
    assert result.state is not None
    prediction, reasons = result.state.prediction, result.state.assignment.reasons
    components = [
        _voxel_uncertainty(prediction),
        _level_name_uncertainty(result.confidence, reasons),
        _mirror_disagreement(prediction, model),
        _anatomical_implausibility(result, model),
    ]
    if second_model is not None:
        components.append(_model_disagreement(result, volume, second_model))
    return combine_components(name, components)


def combine_components(name: str, components: Iterable[ScoreComponent]) -> UncertaintyScore:
    """Combine components into a score, with the reasons of those that matter."""
    components = [replace(component, value=float(np.clip(component.value, 0, 1))) for component in components]
    value = 1 - float(np.prod([1 - component.value for component in components]))
    reported = sorted((c for c in components if c.value >= _MIN_REPORTED), key=lambda c: -c.value)
    rounded = {component.name: round(component.value, 4) for component in components}
    return UncertaintyScore(name, round(value, 4), tuple(component.reason for component in reported), rounded)


def _voxel_uncertainty(prediction: Prediction) -> ScoreComponent:
    """Mean margin between the two most probable classes, over voxels that may be foreground."""
    second, first = np.sort(prediction.probabilities, axis=0)[-2:]
    foreground = prediction.probabilities[CLASSES.index(Kind.BACKGROUND)] < 1 - _FOREGROUND_THRESHOLD
    value = 1 - float((first - second)[foreground].mean()) if foreground.any() else 1.0
    return ScoreComponent("voxels", value, f"the network is uncertain about its voxels ({value:.2f})")


def _level_name_uncertainty(confidence: float, reasons: Sequence[str]) -> ScoreComponent:
    value = 1 - confidence
    return ScoreComponent("names", value, f"the level names are uncertain ({value:.2f}: {'; '.join(reasons)})")


def _mirror_disagreement(prediction: Prediction, model: Model) -> ScoreComponent:
    """Mean Dice with the segmentation of the exam mirrored left to right, which should be the same."""
    image = flip_axes(prediction.prepared.array, prediction.flips)
    mirrored = predict(model, np.ascontiguousarray(image[::-1]))[:, ::-1].argmax(axis=0)
    value = 1 - _mean_dice(prediction.classes, mirrored, range(1, len(CLASSES)))
    return ScoreComponent("mirror", value, f"the mirrored exam is segmented differently ({value:.2f})")


def _model_disagreement(result: Segmentation, volume: Volume, second_model: Model) -> ScoreComponent:
    """Mean Dice by name with a second model's segmentation, of the structures that it segments."""
    try:
        other = segment(volume, second_model).labels.array
    except SegmentError:
        return ScoreComponent("second_model", 1.0, "the second model finds no lumbar spine")
    labels = result.labels.array
    present = (int(value) for value in np.union1d(labels, other) if value)
    shared = [value for value in present if structure_by_label(value).kind in second_model.card.output_kinds]
    value = 1 - _mean_dice(labels, other, shared)
    return ScoreComponent("second_model", value, f"the second model segments it differently ({value:.2f})")


def _mean_dice(first: Array, second: Array, values: Iterable[int]) -> float:
    """Mean Dice of the values that occur in either map; 1 where none does."""
    masks = [(first == value, second == value) for value in values]
    return float(np.mean([compute_dice(a, b) for a, b in masks if a.any() or b.any()] or [1.0]))


def _anatomical_implausibility(result: Segmentation, model: Model) -> ScoreComponent:
    labels = reorient(result.labels, "RAS")
    present = (int(value) for value in np.unique(labels.array) if value)
    table: LabelTable = {0: ("background",), **{value: (structure_by_label(value).name,) for value in present}}
    findings = list_implausibilities(labels, table, Kind.DISC in model.card.output_kinds)
    value = 1 - (1 - _IMPLAUSIBILITY_WEIGHT) ** len(findings)
    return ScoreComponent("anatomy", value, f"implausible anatomy: {'; '.join(findings[:3])}")


def sort_by_uncertainty(scores: Iterable[UncertaintyScore]) -> list[UncertaintyScore]:
    """Sort scores, the most uncertain first and unusable exams last.

    Exams that are not segmented come first while they are the majority, for the model has most to learn from them;
    else they come after the others: among exams that the model segments, they are probably not lumbar.
    """
    scores = list(scores)
    usable = [score for score in scores if not score.unusable]
    after_others = 2 * sum(score.not_segmented for score in usable) < len(usable)
    return sorted(scores, key=lambda s: (s.unusable, s.not_segmented and after_others, -s.value, s.name))


@dataclass(frozen=True)
class RankedExams:
    """Scores, the most uncertain first. not_scored: names of exams for which the time did not suffice."""

    scores: tuple[UncertaintyScore, ...]
    not_scored: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all exams, those without a score last."""
        return (*(score.name for score in self.scores), *self.not_scored)


def rank_exams(
    exams: Mapping[str, Path],
    model: Model,
    second_model: Model | None = None,
    cache_path: Path | None = None,
    time_limit: float | None = None,
    on_exam_done: Callable[[str, int], None] | None = None,
) -> RankedExams:
    """Score exams and rank them by uncertainty.

    Parameters
    ----------
    exams : name to file or DICOM folder
    second_model : compared with the model, too
    cache_path : JSON file that keeps scores by file and models
    time_limit : seconds after which no further exam is scored
    on_exam_done : called with the name of each scored exam and the number of exams
    """
    digests = [model.card.digest, second_model.card.digest if second_model else ""]
    cache = _read_cache(cache_path)
    start = time.monotonic()
    scores: list[UncertaintyScore] = []
    not_scored = []
    for name, path in exams.items():
        key = " ".join(map(str, (*digests, name, *(file_fingerprint(path) if path.exists() else ()))))
        if key not in cache and time_limit is not None and time.monotonic() - start > time_limit:
            not_scored.append(name)
            continue
        values = cache.pop(key, {}) or asdict(_score_file(name, path, model, second_model))
        cache[key] = values  # the last used scores are last
        scores.append(UncertaintyScore(**{**values, "reasons": tuple(values["reasons"])}))
        if on_exam_done:
            on_exam_done(name, len(exams))
    if cache_path is not None:
        write_json(cache_path, {"version": CACHE_VERSION, "scores": dict(list(cache.items())[-_MAX_CACHED_SCORES:])})
    return RankedExams(tuple(sort_by_uncertainty(scores)), tuple(not_scored))


def _score_file(name: str, path: Path, model: Model, second_model: Model | None) -> UncertaintyScore:
    try:
        return estimate_uncertainty(name, read_exam(path).volume, model, second_model)
    except LumbarsegError as error:
        return UncertaintyScore(name, 0.0, (str(error),), unusable=True)


def _read_cache(path: Path | None) -> dict[str, dict[str, Any]]:
    """Read stored scores, by models and file; empty where the cache is missing, malformed or of another version."""
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path else {}
        return dict(values["scores"]) if values["version"] == CACHE_VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
