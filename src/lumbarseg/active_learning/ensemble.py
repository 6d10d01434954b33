"""Merge the predictions of several models for one exam, each within its scope, weighted by confidence.

For each tissue a model gives the log odds of the tissue against everything outside the model's scope. The log odds are
averaged over the models whose scope includes the tissue and converted to probabilities. So a single model keeps its own
prediction, models of different tissues complement each other, and models of the same tissue agree on a value nearer to
the more confident one (logarithmic opinion pool: Genest and Zidek, Statistical Science 1:114, 1986).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind
from lumbarseg.errors import ModelError
from lumbarseg.inference import ModelCard
from lumbarseg.resampling import apply_matrices, interpolation_matrix
from lumbarseg.volume import Array, Grid

_MAX_LOG_ODDS = 7.0  # networks give more, but that is no evidence
_NO_EVIDENCE = -30.0  # log odds of a tissue that no model predicts


@dataclass(frozen=True)
class ModelScope:
    """What a model's prediction is used for.

    name: of the model, for messages; labels: of the structures that it was trained to segment; kinds: tissues,
    including those that no model of the ensemble segments but this one was trained on, because levels are counted
    by them.
    """

    name: str
    kinds: frozenset[Kind]
    labels: frozenset[int]


def model_scopes(cards: Mapping[str, ModelCard]) -> list[ModelScope]:
    """Return for each model which tissues and structures its prediction is used for, in the order of `cards`.

    Raises ModelError when no model was trained on bodies or discs, from which levels are counted.
    """
    foreground = frozenset(CLASSES[1:])
    not_segmented = foreground.difference(*(card.output_kinds for card in cards.values()))
    scopes = []
    for name, card in cards.items():
        kinds = (card.output_kinds | (card.trained_kinds & not_segmented)) & foreground
        scopes.append(ModelScope(name, kinds, _trained_labels(card)))
    if not any({Kind.BODY, Kind.DISC} & scope.kinds for scope in scopes):
        raise ModelError(f"{', '.join(cards)}: none knows bodies or discs, from which levels are counted; add: shipped")
    return scopes


def _trained_labels(card: ModelCard) -> frozenset[int]:
    targets = set(card.targets)
    structures = (s for s in STRUCTURES if s.kind in card.output_kinds)
    return frozenset(s.label for s in structures if not targets or {s.name, s.kind.value} & targets)


def is_shared_by_parts(kind: Kind, scopes: Sequence[ModelScope]) -> bool:
    """Return whether models were trained on different structures of a tissue, for example L1 and L2 or L3 to L5."""
    labels = frozenset(s.label for s in STRUCTURES if s.kind is kind)
    return len({scope.labels & labels for scope in scopes if kind in scope.kinds}) > 1


@dataclass(frozen=True, eq=False)
class ModelPrediction:
    """Prediction of one model. probabilities: (classes, slices, A, S) on the ensemble's grid."""

    scope: ModelScope
    probabilities: Array

    def log_odds(self, kind: Kind) -> Array:
        """Return the log odds of a kind against classes outside the model's scope, (slices, A, S) float32."""
        outside = sum(self.probabilities[i] for i, other in enumerate(CLASSES) if other not in self.scope.kinds)
        ratio = np.maximum(self.probabilities[CLASSES.index(kind)], 1e-9) / np.maximum(outside, 1e-9)
        return np.clip(np.log(ratio), -_MAX_LOG_ODDS, _MAX_LOG_ODDS).astype(np.float32)

    def class_map(self) -> Array:
        """Return the most likely class of the scope in each voxel, (slices, A, S) uint8; 0 where none is likely."""
        classes = np.zeros(self.probabilities.shape[1:], np.uint8)
        highest = np.zeros(classes.shape, np.float32)
        for kind in sorted(self.scope.kinds, key=CLASSES.index):
            odds = self.log_odds(kind)
            classes[odds > highest] = CLASSES.index(kind)
            np.maximum(highest, odds, out=highest)
        return classes


def merge_predictions(
    predictions: Sequence[ModelPrediction], nearest_labels: Mapping[Kind, Array] | None = None
) -> Array:
    """Merge predictions into probabilities, (classes, slices, A, S).

    nearest_labels: for each kind, the label of the structure that each voxel belongs to or lies next to. With it, a
    tissue that models share by parts is taken from the models of that structure; without, from the most confident one.
    """
    merged = np.zeros_like(predictions[0].probabilities)
    for channel, kind in enumerate(CLASSES[1:], start=1):
        members = [prediction for prediction in predictions if kind in prediction.scope.kinds]
        by_parts = is_shared_by_parts(kind, [prediction.scope for prediction in members])
        if not members:
            merged[channel] = _NO_EVIDENCE
        elif by_parts and nearest_labels is None:
            merged[channel] = np.max([prediction.log_odds(kind) for prediction in members], axis=0)
        else:
            nearest = nearest_labels[kind] if by_parts and nearest_labels else None
            merged[channel] = _mean_log_odds(members, kind, nearest)
    merged -= merged.max(axis=0)
    np.exp(merged, out=merged)
    merged /= merged.sum(axis=0)
    return merged


def _mean_log_odds(predictions: Sequence[ModelPrediction], kind: Kind, nearest_labels: Array | None) -> Array:
    """Average log odds over the models whose scope includes the nearest structure, or over all."""
    total = np.zeros(predictions[0].probabilities.shape[1:], np.float32)
    count = np.zeros_like(total)
    for prediction in predictions:
        in_scope = True if nearest_labels is None else np.isin(nearest_labels, sorted(prediction.scope.labels))
        total += np.where(in_scope, prediction.log_odds(kind), 0)
        count += in_scope
    return np.where(count > 0, total / np.maximum(count, 1), _NO_EVIDENCE)


def resample_probabilities(probabilities: Array, source: Grid, target: Grid) -> Array:
    """Resample (classes, slices, A, S) probabilities onto the grid of another network that reads the same exam.

    Raises ModelError when the networks read the exam along different axes.
    """
    if source.same_as(target):
        return probabilities
    if source.axis_codes != target.axis_codes:
        raise ModelError(f"models that read exams along {source.axis_codes} and {target.axis_codes} cannot be merged")
    starts = source.to_index(target.to_world(np.zeros(3))).tolist()
    steps = (np.array(target.spacing) / np.array(source.spacing)).tolist()
    axes = zip(source.shape, target.shape, steps, starts, strict=True)
    i, j, k = (interpolation_matrix(size, count, step, start, width=step) for size, count, step, start in axes)
    return apply_matrices(probabilities, (i, j, k))
