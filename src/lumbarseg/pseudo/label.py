"""One exam labelled by several models: answers, instances, names, labels, doubts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, by_label, by_name
from lumbarseg.datasets.folder import Table
from lumbarseg.errors import SegmentError
from lumbarseg.model import Answers, predict
from lumbarseg.prepare import Prepared, Spec, best_class, prepare, restore_labels
from lumbarseg.resample import reorient
from lumbarseg.segment import orientation
from lumbarseg.segment.instances import Instances, split
from lumbarseg.segment.levels import CERTAIN, Naming, name
from lumbarseg.segment.look import refuse_ct
from lumbarseg.segment.paint import check, paint, placed, tissues
from lumbarseg.volume import Array, Volume

from . import review
from .voices import Duty, Voice, by_parts, duties, merged, moved

UNKNOWN = 255
"""The value of voxels on which models disagree strongly."""

AGREE = 0.8
"""Dice between two models below which a structure is to be looked at."""

_STRONG = 0.7  # difference of two models' probabilities for a tissue that leaves a voxel unknown
_NEAR = 12.0  # mm from a structure, beyond which what a model finds belongs to none


@dataclass(frozen=True, eq=False)
class Labelled:
    """labels: uint8 in the package's values and `UNKNOWN`, on the exam's own grid; warnings: "trap: detail".

    facts: confidence of each structure and of the names, agreement of the models.
    """

    labels: Volume
    warnings: tuple[str, ...]
    facts: dict[str, Any]


def table_of(given: Sequence[Duty]) -> Table:
    """What values mean in labels of these models: what none was made for is undrawn."""
    known = frozenset().union(*(duty.labels for duty in given))
    kinds = {by_label(value).kind for value in known}
    undrawn = [kind.value for kind in CLASSES if kind not in kinds]
    undrawn += [s.name for s in STRUCTURES if s.kind in kinds and s.label not in known]
    rows = {value: (by_label(value).name,) for value in sorted(known)}
    return {0: tuple(undrawn), **rows, UNKNOWN: ("unknown",)}


def label(volume: Volume, models: Mapping[str, Answers], lowest: str | None = None, agree: float = AGREE) -> Labelled:
    """Label an exam; models: by what a person calls them; lowest: name of the lowest whole vertebra, where it is known.

    SegmentError when they see no lumbar spine, ModelError when they cannot work together.
    """
    refuse_ct(volume)
    given = duties(list(models), [model.card for model in models.values()])
    prepared = {spec: prepare(volume, spec) for spec in {model.card.spec: None for model in models.values()}}
    common = max(prepared.values(), key=lambda one: one.array.size)
    spacing = np.array(common.grid.spacing)
    flips = (False, False)
    voices = _heard(models, given, prepared, common, flips)
    scores = merged(voices)
    flips = orientation.wrong_way(best_class(scores), spacing)
    if any(flips):
        voices = _heard(models, given, prepared, common, flips)
        scores = merged(voices)
    found = split(best_class(scores), spacing)
    if found is None:
        raise SegmentError("no lumbar spine found: nothing in the exam looks like a column of vertebrae and discs")
    naming = name(found, scores, spacing, lowest, None, _taught(models))
    near = _nearest(found, naming.names, spacing)
    if any(by_parts(kind, given) for kind in CLASSES[1:]):
        scores = merged(voices, near)
    labels = paint(tissues(scores, common, flips), found, naming.names, common, flips)
    check(labels)
    return _reviewed(Volume(labels, volume.affine), _Answer(common, flips, voices, scores, naming, near), agree)


@dataclass(frozen=True, eq=False)
class _Answer:
    """What labels came from. near: for each kind, the label of the structure that each voxel is part of or next to."""

    prepared: Prepared
    flips: orientation.Flips
    voices: list[Voice]
    scores: Array
    naming: Naming
    near: dict[Kind, Array]


def _heard(
    models: Mapping[str, Answers],
    given: Sequence[Duty],
    prepared: Mapping[Spec, Prepared],
    common: Prepared,
    flips: orientation.Flips,
) -> list[Voice]:
    """Every model's answer on the common grid, both turned as `flips` says."""
    out = []
    for duty, model in zip(given, models.values(), strict=True):
        own = prepared[model.card.spec]
        scores = predict(model, np.ascontiguousarray(orientation.flipped(own.array, flips)))
        if not own.grid.same_as(common.grid):
            back = moved(orientation.flipped(scores, flips), own.grid, common.grid)
            scores = np.ascontiguousarray(orientation.flipped(back, flips))
        out.append(Voice(duty, scores))
    return out


def _taught(models: Mapping[str, Answers]) -> tuple[str, float] | None:
    """The lowest body that the models were taught to find, where those that say so agree; the lowest share of it."""
    said = [model.card.lowest for model in models.values() if model.card.lowest]
    return min(said, key=lambda one: one[1]) if len({level for level, _ in said}) == 1 else None


def _nearest(found: Instances, names: tuple[str, ...], spacing: Array) -> dict[Kind, Array]:
    """For each kind the label of the structure that each voxel belongs to or lies next to; 0 far from all of them."""
    out = {}
    for channel, labels in placed(found, names).items():
        own = [s.label for s in STRUCTURES if s.kind is CLASSES[channel]]
        out[CLASSES[channel]] = _grown(np.where(np.isin(labels, own), labels, 0).astype(np.uint8), spacing)
    return out


def _grown(labels: Array, spacing: Array) -> Array:
    """Each voxel with the label of the nearest one that has one, up to `_NEAR`."""
    if not labels.any():
        return labels
    away, index = ndimage.distance_transform_edt(labels == 0, spacing, return_indices=True)
    return np.where(away <= _NEAR, labels[tuple(index)], 0).astype(np.uint8)


def _reviewed(painted: Volume, answer: _Answer, agree: float) -> Labelled:
    """The labels with what is unknown in them, and everything that a person should look at."""
    duties_of = [voice.duty for voice in answer.voices]
    table = table_of(duties_of)
    keep = np.zeros(256, np.uint8)
    keep[[value for value in table if value != UNKNOWN]] = [value for value in table if value != UNKNOWN]
    labels = keep[painted.array]
    doubtful = _doubtful(answer)
    mask = restore_labels(orientation.flipped(doubtful.astype(np.uint8), answer.flips), answer.prepared) > 0
    discs = any(by_label(value).kind is Kind.DISC for value in table if value not in (0, UNKNOWN))
    plain = reorient(Volume(labels, painted.affine), "RAS")
    naming = answer.naming
    together = review.agreement(answer.voices, answer.near)
    turned = orientation.told(answer.flips)
    told = [f"axis: {turned}"] if turned else []
    told += [f"uncertain-names: {'; '.join(naming.reasons)}"] if naming.confidence < CERTAIN else []
    told += review.disagreements(together, agree) + review.anatomy(plain, table, discs)
    facts = {
        "names": {"anchor": naming.anchor, "confidence": round(float(naming.confidence), 3)},
        "confidence": _confidence(answer, set(table)),
        "agreement": together,
        "unknown_voxels": int(mask.sum()),
    }
    return Labelled(Volume(np.where(mask, UNKNOWN, labels).astype(np.uint8), painted.affine), tuple(told), facts)


def _doubtful(answer: _Answer) -> Array:
    """(slices, A, S) bool: where two models that were made for what lies there give it very different chances."""
    out = np.zeros(answer.scores.shape[1:], bool)
    for kind, near in answer.near.items():
        low, high = np.full(out.shape, np.inf, np.float32), np.full(out.shape, -np.inf, np.float32)
        for voice in answer.voices:
            if kind in voice.duty.kinds and any(by_label(value).kind is kind for value in voice.duty.labels):
                here = np.isin(near, sorted(voice.duty.labels)) | (near == 0)
                chance = 1 / (1 + np.exp(-voice.odds(kind)))
                low, high = np.where(here, np.minimum(low, chance), low), np.where(here, np.maximum(high, chance), high)
        out |= high - low > _STRONG
    return out


def _confidence(answer: _Answer, known: set[int]) -> dict[str, float]:
    """Mean probability of each structure over its own voxels on the network's grid."""
    classes = best_class(answer.scores)
    out = {}
    for kind, near in answer.near.items():
        own = np.where(classes == CLASSES.index(kind), near, 0)
        for value in (int(value) for value in np.unique(own) if value in known and value):
            out[by_label(value).name] = round(float(answer.scores[CLASSES.index(kind)][own == value].mean()), 3)
    return dict(sorted(out.items(), key=lambda item: by_name(item[0]).order))
