"""Label an exam with an ensemble of models: the segmentation pipeline with merged predictions, and a review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, structure_by_label, structure_by_name
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.inference import ModelCard, Predictor, predict
from lumbarseg.preprocessing import PreparedImage, argmax_classes, labels_on_source_grid, network_grid, preprocess
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import SegmentationState, UserLevels, label_map, segment
from lumbarseg.segmentation.levels import MIN_CERTAIN_CONFIDENCE
from lumbarseg.segmentation.prediction import Flips, Prediction, describe_flips, flip_axes, predict_with_flips
from lumbarseg.volume import Array, Volume

from . import review
from .ensemble import ModelPrediction, ModelScope, is_shared_by_parts, merge_predictions, model_scopes
from .ensemble import resample_probabilities as resample

UNKNOWN_LABEL = 255
"""The value of voxels on which models disagree strongly."""
MIN_AGREEMENT = 0.8
"""Dice between two models below which a structure should be reviewed."""
_MAX_PROBABILITY_DIFFERENCE = 0.7  # of a tissue between two models, above which a voxel is unknown
_MAX_DISTANCE = 12.0  # mm from a structure, beyond which voxels belong to none


@dataclass(frozen=True)
class PseudoLabelInfo:
    """What is stored with pseudo-labels.

    names: anchor and confidence of the level names; confidence: of each structure; agreement: Dice between models;
    unknown_voxels: their number; filled_voxels: by structure, where annotators left it open.
    """

    names: dict[str, str | float] = field(default_factory=dict)
    confidence: dict[str, float] = field(default_factory=dict)
    agreement: review.PairwiseDice = field(default_factory=dict)
    unknown_voxels: int = 0
    filled_voxels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Pseudo-labels of an exam.

    labels: uint8 values of `label_table`, on the exam's grid; warnings: "check: detail", what a person should review.
    """

    labels: Volume
    label_table: LabelTable
    warnings: tuple[str, ...]
    info: PseudoLabelInfo


def label_table_of_models(scopes: Sequence[ModelScope]) -> LabelTable:
    """Return the label table of pseudo-labels: structures that no model was trained on are not annotated."""
    labels = frozenset().union(*(scope.labels for scope in scopes))
    kinds = {structure_by_label(label).kind for label in labels}
    not_annotated = [kind.value for kind in CLASSES if kind not in kinds]
    not_annotated += [s.name for s in STRUCTURES if s.kind in kinds and s.label not in labels]
    rows = {label: (structure_by_label(label).name,) for label in sorted(labels)}
    return {0: tuple(not_annotated), **rows, UNKNOWN_LABEL: ("unknown",)}


def label_exam(
    volume: Volume, models: Mapping[str, Predictor], lowest: str | None = None, min_agreement: float = MIN_AGREEMENT
) -> PseudoLabels:
    """Label an exam with several models.

    Parameters
    ----------
    models : by name
    lowest : name of the lowest complete vertebra, if known
    min_agreement : Dice of two models below which a structure is flagged

    Raises
    ------
    SegmentError : when the models find no lumbar spine.
    ModelError : when the models cannot be merged.
    """
    ensemble = Ensemble(volume, models)
    result = segment(volume, ensemble, UserLevels(lowest), keep_state=True, predict=Ensemble.predict)
    state, labels = result.state, result.labels.array
    assert state is not None and isinstance(state.prediction, EnsemblePrediction)
    prediction, nearest_labels = state.prediction, find_nearest_labels(state)
    if any(is_shared_by_parts(kind, ensemble.scopes) for kind in CLASSES[1:]):
        probabilities = merge_predictions(prediction.members, nearest_labels)
        prediction = replace(prediction, probabilities=probabilities, classes=argmax_classes(probabilities))
        classes = label_map.classes_on_exam_grid(prediction)
        labels = label_map.render_label_map(classes, state.instances, state.assignment.names, prediction)
        label_map.check_level_order(labels)
    table = label_table_of_models(ensemble.scopes)
    labels = np.where(np.isin(labels, [label for label in table if label != UNKNOWN_LABEL]), labels, 0)
    unknown = _unknown_voxels(prediction, nearest_labels)
    agreements = review.pairwise_agreement(prediction.members, nearest_labels, prediction.spacing)
    info = PseudoLabelInfo(
        {"anchor": state.assignment.anchor, "confidence": round(float(state.assignment.confidence), 3)},
        structure_confidence(prediction, nearest_labels, set(table) - {0}),
        review.dice_by_name(agreements),
        int(unknown.sum()),
    )
    warnings = list_name_warnings(state)
    warnings += review.describe_model_disagreements(agreements, min_agreement)
    discs_expected = any(structure_by_label(label).kind is Kind.DISC for label in list(table)[1:-1])
    warnings += review.list_implausibilities(reorient(Volume(labels, volume.affine), "RAS"), table, discs_expected)
    labels = np.where(unknown, UNKNOWN_LABEL, labels).astype(np.uint8)
    return PseudoLabels(Volume(labels, volume.affine), table, tuple(warnings), info)


def list_name_warnings(state: SegmentationState) -> list[str]:
    """List swapped axes and reasons that make the level names uncertain."""
    warnings = [f"axis: {text}" for text in describe_flips(state.prediction.flips)]
    if state.assignment.confidence < MIN_CERTAIN_CONFIDENCE:
        warnings.append(f"uncertain-names: {'; '.join(state.assignment.reasons)}")
    return warnings


@dataclass(frozen=True, eq=False)
class EnsemblePrediction(Prediction):
    """Merged prediction of an ensemble. members: predictions of the models, on the same flipped grid."""

    members: tuple[ModelPrediction, ...]


class Ensemble:
    """Several models for one exam, with a common model card; the grid is the finest that any of them reads."""

    def __init__(self, volume: Volume, models: Mapping[str, Predictor]) -> None:
        self.volume, self.models = volume, models
        cards = {name: model.card for name, model in models.items()}
        self.scopes = model_scopes(cards)
        kinds = frozenset().union(*(scope.kinds for scope in self.scopes))
        labels = frozenset().union(*(scope.labels for scope in self.scopes))
        self.card = ModelCard(
            max((card.spec for card in cards.values()), key=lambda s: np.prod(network_grid(volume.grid, s).shape)),
            trained_names=(str(Kind.BACKGROUND), *sorted(kinds)),
            targets=tuple(sorted(structure_by_label(label).name for label in labels)),
            lowest_structure=_common_lowest(list(cards.values()), Kind.BODY if Kind.BODY in kinds else Kind.DISC),
        )

    def predict(self, prepared: PreparedImage) -> EnsemblePrediction:
        """Merge the predictions of all models, with axes reversed where the anatomy contradicts the header."""
        images = {spec: preprocess(self.volume, spec) for spec in {m.card.spec for m in self.models.values()}}
        members: list[ModelPrediction] = []

        def predict_members(flips: Flips) -> Array:
            members[:] = [
                ModelPrediction(scope, _predict_on_grid(model, images[model.card.spec], prepared, flips))
                for scope, model in zip(self.scopes, self.models.values(), strict=True)
            ]
            return merge_predictions(members)

        merged = predict_with_flips(predict_members, prepared)
        return EnsemblePrediction(prepared, merged.flips, merged.probabilities, merged.classes, tuple(members))


def _predict_on_grid(model: Predictor, image: PreparedImage, target: PreparedImage, flips: Flips) -> Array:
    """Predict the probabilities of a model's own image on the grid of another one, both with reversed axes.

    The prediction is the mean of those of the image and of the image mirrored left to right.
    """
    array = np.ascontiguousarray(flip_axes(image.array, flips))
    probabilities = predict(model, array)
    if len(array) > 1:  # a single slice is its own mirror image
        probabilities = (probabilities + predict(model, np.ascontiguousarray(array[::-1]))[:, ::-1]) / 2
    if image.grid.same_as(target.grid):
        return probabilities
    resampled = resample(flip_axes(probabilities, flips), image.grid, target.grid)
    return np.ascontiguousarray(flip_axes(resampled, flips))


def _common_lowest(cards: Sequence[ModelCard], kind: Kind) -> tuple[str, float] | None:
    """Return the lowest level that the models were trained to find and its smallest share, None if they disagree."""
    lowest = [card.lowest_structure for card in cards if card.lowest_structure]
    lowest = [(name, share) for name, share in lowest if structure_by_name(name).kind is kind]
    return min(lowest, key=lambda item: item[1]) if len({name for name, _ in lowest}) == 1 else None


def find_nearest_labels(state: SegmentationState) -> dict[Kind, Array]:
    """Return for each kind the label of the structure at or next to each voxel, 0 far from all of them."""
    nearest = {}
    for channel, labels in label_map.labels_on_network_grid(state.instances, state.assignment.names).items():
        kind = CLASSES[channel]
        own = np.where(np.isin(labels, [s.label for s in STRUCTURES if s.kind is kind]), labels, 0)
        if own.any():
            distance, index = ndimage.distance_transform_edt(own == 0, state.prediction.spacing, return_indices=True)
            own = np.where(distance <= _MAX_DISTANCE, own[tuple(index)], 0)
        nearest[kind] = own.astype(np.uint8)
    return nearest


def _unknown_voxels(prediction: EnsemblePrediction, nearest_labels: Mapping[Kind, Array]) -> Array:
    """Return where models that were trained on a structure predict it very differently, (I, J, K) bool."""
    unknown = np.zeros(prediction.classes.shape, bool)
    for kind, nearest in nearest_labels.items():
        low, high = np.full(unknown.shape, np.inf, np.float32), np.full(unknown.shape, -np.inf, np.float32)
        for member in prediction.members:
            if kind in member.scope.kinds and any(structure_by_label(x).kind is kind for x in member.scope.labels):
                in_scope = np.isin(nearest, [0, *member.scope.labels])
                probability = 1 / (1 + np.exp(-member.log_odds(kind)))
                low = np.where(in_scope, np.minimum(low, probability), low)
                high = np.where(in_scope, np.maximum(high, probability), high)
        unknown |= high - low > _MAX_PROBABILITY_DIFFERENCE
    return labels_on_source_grid(flip_axes(unknown.astype(np.uint8), prediction.flips), prediction.prepared) > 0


def structure_confidence(
    prediction: EnsemblePrediction, nearest_labels: Mapping[Kind, Array], labels: set[int]
) -> dict[str, float]:
    """Return the mean probability of each structure over its voxels on the network grid."""
    confidence = {}
    for kind, nearest in nearest_labels.items():
        channel = CLASSES.index(kind)
        own = np.where(prediction.classes == channel, nearest, 0)
        for label in labels.intersection(np.unique(own).tolist()):
            mean = float(prediction.probabilities[channel][own == label].mean())
            confidence[structure_by_label(label).name] = round(mean, 3)
    return dict(sorted(confidence.items(), key=lambda item: structure_by_name(item[0]).order))
