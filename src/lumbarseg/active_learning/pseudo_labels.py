"""One exam labelled by several models: answers, instances, names, labels, doubts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, structure_by_label, structure_by_name
from lumbarseg.datasets.dataset import LabelTable
from lumbarseg.inference import ModelCard, Predictor, predict
from lumbarseg.preprocessing import (
    PreparedImage,
    PreprocessingSpec,
    argmax_classes,
    labels_on_source_grid,
    network_grid,
    preprocess,
)
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import UserLevels, orientation, segment
from lumbarseg.segmentation.instances import Instances
from lumbarseg.segmentation.label_map import (
    check_level_order,
    classes_on_exam_grid,
    labels_on_network_grid,
    render_label_map,
)
from lumbarseg.segmentation.levels import MIN_CERTAIN_CONFIDENCE, LevelAssignment
from lumbarseg.segmentation.prediction import Prediction, predict_with_flips
from lumbarseg.volume import Array, Volume

from . import review
from .ensemble import (
    ModelPrediction,
    ModelScope,
    is_shared_by_parts,
    merge_predictions,
    model_scopes,
    resample_probabilities,
)

UNKNOWN_LABEL = 255
"""The value of voxels on which models disagree strongly."""

MIN_AGREEMENT = 0.8
"""Dice between two models below which a structure is to be looked at."""

_MAX_PROBABILITY_DIFFERENCE = 0.7  # difference of two models' probabilities for a tissue that leaves a voxel unknown
_MAX_DISTANCE = 12.0  # mm from a structure, beyond which what a model finds belongs to none


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """labels: uint8 in the package's values and `UNKNOWN`, on the exam's own grid; warnings: "trap: detail".

    facts: confidence of each structure and of the names, agreement of the models.
    """

    labels: Volume
    warnings: tuple[str, ...]
    info: dict[str, Any]


def label_table(scopes: Sequence[ModelScope]) -> LabelTable:
    """What values mean in labels of these models: what none was made for is undrawn."""
    known = frozenset().union(*(duty.labels for duty in scopes))
    kinds = {structure_by_label(value).kind for value in known}
    undrawn = [kind.value for kind in CLASSES if kind not in kinds]
    undrawn += [s.name for s in STRUCTURES if s.kind in kinds and s.label not in known]
    rows = {value: (structure_by_label(value).name,) for value in sorted(known)}
    return {0: tuple(undrawn), **rows, UNKNOWN_LABEL: ("unknown",)}


def label_exam(
    volume: Volume, models: Mapping[str, Predictor], lowest: str | None = None, min_agreement: float = MIN_AGREEMENT
) -> PseudoLabels:
    """Label an exam; models: by what a person calls them; lowest: name of the lowest whole vertebra, where it is known.

    SegmentError when they see no lumbar spine, ModelError when they cannot work together.
    """
    ensemble = _Ensemble(volume, models)
    state = segment(volume, ensemble, UserLevels(lowest), keep_state=True, predict=ensemble.predict).state
    assert state is not None
    names, prediction = state.assignment.names, state.prediction
    near = _nearest_labels(state.instances, names, prediction.spacing)
    if any(is_shared_by_parts(kind, ensemble.scopes) for kind in CLASSES[1:]):
        probabilities = merge_predictions(ensemble.members, near)
        prediction = Prediction(prediction.prepared, prediction.flips, probabilities, argmax_classes(probabilities))
    labels = render_label_map(classes_on_exam_grid(prediction), state.instances, names, prediction)
    check_level_order(labels)
    return _review(
        Volume(labels, volume.affine),
        _EnsembleState(
            prediction.prepared, prediction.flips, ensemble.members, prediction.probabilities, state.assignment, near
        ),
        min_agreement,
    )


class _Ensemble:
    """Several models that predict one exam together.

    Attributes
    ----------
    card : of all models together, with the specification of the largest network grid
    members : the predictions of the models, after `predict`
    """

    def __init__(self, volume: Volume, models: Mapping[str, Predictor]) -> None:
        self.volume, self.models = volume, models
        cards = [model.card for model in models.values()]
        self.scopes = model_scopes(list(models), cards)
        self.members: list[ModelPrediction] = []
        spec = max(
            dict.fromkeys(card.spec for card in cards),
            key=lambda spec: int(np.prod(network_grid(volume.grid, spec).shape)),
        )
        kinds = frozenset({Kind.BACKGROUND}).union(*(scope.kinds for scope in self.scopes))
        self.card = ModelCard(spec, trained_names=tuple(sorted(kinds)), lowest_structure=_trained_lowest_level(models))

    def predict(self, _: object, prepared: PreparedImage) -> Prediction:
        """Predict the exam with every model, merged, on the grid of `prepared`."""
        specs = {model.card.spec for model in self.models.values()} - {prepared.spec}
        images = {prepared.spec: prepared} | {spec: preprocess(self.volume, spec) for spec in specs}

        def predict_merged(flips: orientation.Flips) -> Array:
            self.members = _predict_all(self.models, self.scopes, images, prepared, flips)
            return merge_predictions(self.members)

        return predict_with_flips(predict_merged, prepared)


@dataclass(frozen=True, eq=False)
class _EnsembleState:
    """What labels came from. near: for each kind, the label of the structure that each voxel is part of or next to."""

    prepared: PreparedImage
    flips: orientation.Flips
    voices: list[ModelPrediction]
    scores: Array
    naming: LevelAssignment
    near: dict[Kind, Array]


def _predict_all(
    models: Mapping[str, Predictor],
    scopes: Sequence[ModelScope],
    prepared: Mapping[PreprocessingSpec, PreparedImage],
    common: PreparedImage,
    flips: orientation.Flips,
) -> list[ModelPrediction]:
    """Every model's answer on the common grid, both turned as `flips` says."""
    out = []
    for duty, model in zip(scopes, models.values(), strict=True):
        own = prepared[model.card.spec]
        scores = predict(model, np.ascontiguousarray(orientation.flip_axes(own.array, flips)))
        if not own.grid.same_as(common.grid):
            back = resample_probabilities(orientation.flip_axes(scores, flips), own.grid, common.grid)
            scores = np.ascontiguousarray(orientation.flip_axes(back, flips))
        out.append(ModelPrediction(duty, scores))
    return out


def _trained_lowest_level(models: Mapping[str, Predictor]) -> tuple[str, float] | None:
    """The lowest body that the models were taught to find, where those that say so agree; the lowest share of it."""
    said = [model.card.lowest_structure for model in models.values() if model.card.lowest_structure]
    return min(said, key=lambda one: one[1]) if len({level for level, _ in said}) == 1 else None


def _nearest_labels(instances: Instances, names: tuple[str, ...], spacing: Array) -> dict[Kind, Array]:
    """For each kind the label of the structure that each voxel belongs to or lies next to; 0 far from all of them."""
    out = {}
    for channel, labels in labels_on_network_grid(instances, names).items():
        own = [s.label for s in STRUCTURES if s.kind is CLASSES[channel]]
        out[CLASSES[channel]] = _expand_labels(np.where(np.isin(labels, own), labels, 0).astype(np.uint8), spacing)
    return out


def _expand_labels(labels: Array, spacing: Array) -> Array:
    """Each voxel with the label of the nearest one that has one, up to `_NEAR`."""
    if not labels.any():
        return labels
    away, index = ndimage.distance_transform_edt(labels == 0, spacing, return_indices=True)
    return np.where(away <= _MAX_DISTANCE, labels[tuple(index)], 0).astype(np.uint8)


def _review(painted: Volume, answer: _EnsembleState, min_agreement: float) -> PseudoLabels:
    """The labels with what is unknown in them, and everything that a person should look at."""
    duties_of = [voice.scope for voice in answer.voices]
    table = label_table(duties_of)
    keep = np.zeros(256, np.uint8)
    keep[[value for value in table if value != UNKNOWN_LABEL]] = [value for value in table if value != UNKNOWN_LABEL]
    labels = keep[painted.array]
    doubtful = _disagreement_mask(answer)
    mask = labels_on_source_grid(orientation.flip_axes(doubtful.astype(np.uint8), answer.flips), answer.prepared) > 0
    discs = any(structure_by_label(value).kind is Kind.DISC for value in table if value not in (0, UNKNOWN_LABEL))
    plain = reorient(Volume(labels, painted.affine), "RAS")
    naming = answer.naming
    together = review.pairwise_agreement(answer.voices, answer.near)
    told = [f"axis: {warning}" for warning in orientation.describe_flips(answer.flips)]
    told += [f"uncertain-names: {'; '.join(naming.reasons)}"] if naming.confidence < MIN_CERTAIN_CONFIDENCE else []
    told += review.list_disagreements(together, min_agreement) + review.list_implausibilities(plain, table, discs)
    facts = {
        "names": {"anchor": naming.anchor, "confidence": round(float(naming.confidence), 3)},
        "confidence": _structure_confidence(answer, set(table)),
        "agreement": together,
        "unknown_voxels": int(mask.sum()),
    }
    return PseudoLabels(
        Volume(np.where(mask, UNKNOWN_LABEL, labels).astype(np.uint8), painted.affine), tuple(told), facts
    )


def _disagreement_mask(answer: _EnsembleState) -> Array:
    """(slices, A, S) bool: where two models that were made for what lies there give it very different chances."""
    out = np.zeros(answer.scores.shape[1:], bool)
    for kind, near in answer.near.items():
        low, high = np.full(out.shape, np.inf, np.float32), np.full(out.shape, -np.inf, np.float32)
        for voice in answer.voices:
            if kind in voice.scope.kinds and any(
                structure_by_label(value).kind is kind for value in voice.scope.labels
            ):
                here = np.isin(near, sorted(voice.scope.labels)) | (near == 0)
                chance = 1 / (1 + np.exp(-voice.log_odds(kind)))
                low, high = np.where(here, np.minimum(low, chance), low), np.where(here, np.maximum(high, chance), high)
        out |= high - low > _MAX_PROBABILITY_DIFFERENCE
    return out


def _structure_confidence(answer: _EnsembleState, known: set[int]) -> dict[str, float]:
    """Mean probability of each structure over its own voxels on the network's grid."""
    classes = argmax_classes(answer.scores)
    out = {}
    for kind, near in answer.near.items():
        own = np.where(classes == CLASSES.index(kind), near, 0)
        for value in (int(value) for value in np.unique(own) if value in known and value):
            out[structure_by_label(value).name] = round(
                float(answer.scores[CLASSES.index(kind)][own == value].mean()), 3
            )
    return dict(sorted(out.items(), key=lambda item: structure_by_name(item[0]).order))
