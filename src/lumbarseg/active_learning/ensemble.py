"""Several models' answers to one exam, merged voxel by voxel: each is heard on what it was made for, and by confidence.

For each tissue a model says how much likelier it is than everything that this model does not answer for. These log
odds are averaged over the models that answer for the tissue, and turned into probabilities again: a model alone gives
its own answer back, two that know different tissues complete each other, two that know the same one meet in the middle,
nearer to the surer one (logarithmic opinion pool: Genest and Zidek, Statistical Science 1:114, 1986).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, kinds_from_names
from lumbarseg.errors import ModelError
from lumbarseg.inference import ModelCard
from lumbarseg.resampling import apply_matrices, interpolation_matrix
from lumbarseg.volume import Array, Grid

LabelSet = frozenset[int]

_MAX_LOG_ODDS = 7.0  # log odds; more is no evidence, but the way a network is
_NO_EVIDENCE = -30.0


@dataclass(frozen=True)
class ModelScope:
    """What a model is heard on. kinds: tissues; labels: of the structures that it may name; name: for a person.

    kinds may hold tissues that no model was made for, but that this one knows: names are counted by them.
    """

    name: str
    kinds: frozenset[Kind]
    labels: LabelSet


def model_scopes(names: Sequence[str], cards: Sequence[ModelCard]) -> list[ModelScope]:
    """What each of several models is heard on; ModelError when none knows bodies, for names are counted by them."""
    made_for = [card.output_kinds - {Kind.BACKGROUND} for card in cards]
    nobody = frozenset(CLASSES[1:]) - frozenset().union(*made_for)
    out = []
    for name, card, kinds in zip(names, cards, made_for, strict=True):
        known = kinds_from_names(card.trained_names) if card.trained_names else frozenset(CLASSES)
        out.append(ModelScope(name, kinds | (known & nobody), trained_labels(card)))
    if not any(Kind.BODY in duty.kinds for duty in out):
        raise ModelError(f"{', '.join(names)}: none of them knows bodies, by which names are counted; add one: shipped")
    return out


def trained_labels(card: ModelCard) -> LabelSet:
    """Values of the structures that a model was made for."""
    wanted = set(card.targets)
    return frozenset(
        s.label for s in STRUCTURES if s.kind in card.output_kinds and (not wanted or {s.name, s.kind.value} & wanted)
    )


def is_shared_by_parts(kind: Kind, scopes: Sequence[ModelScope]) -> bool:
    """Whether models were made for different structures of a kind, so that each may be silent on some of them."""
    own = frozenset(s.label for s in STRUCTURES if s.kind is kind)
    return len({duty.labels & own for duty in scopes if kind in duty.kinds}) > 1


@dataclass(frozen=True, eq=False)
class ModelPrediction:
    """A model's answer. scores: (classes, slices, A, S) probabilities on the common grid."""

    scope: ModelScope
    probabilities: Array

    def log_odds(self, kind: Kind) -> Array:
        """(slices, A, S) log odds of a tissue against all that this model does not answer for."""
        rest = sum(self.probabilities[i] for i, other in enumerate(CLASSES) if other not in self.scope.kinds)
        ratio = np.maximum(self.probabilities[CLASSES.index(kind)], 1e-9) / np.maximum(rest, 1e-9)
        return np.clip(np.log(ratio), -_MAX_LOG_ODDS, _MAX_LOG_ODDS).astype(np.float32)

    def class_map(self) -> Array:
        """(slices, A, S) the likeliest of the tissues that it answers for, 0 for none of them."""
        best = np.zeros(self.probabilities.shape[1:], np.uint8)
        top = np.zeros(self.probabilities.shape[1:], np.float32)
        for kind in sorted(self.scope.kinds, key=CLASSES.index):
            odds = self.log_odds(kind)
            best[odds > top] = CLASSES.index(kind)
            np.maximum(top, odds, out=top)
        return best


def merge_predictions(predictions: Sequence[ModelPrediction], nearest_labels: dict[Kind, Array] | None = None) -> Array:
    """(classes, slices, A, S) probabilities of all voices together.

    names: for kinds, the label of the structure that each voxel belongs to or lies next to: then a voice is heard there
    on structures that it was made for. Without, the surest voice counts where they were made for different ones.
    """
    out = np.zeros_like(predictions[0].probabilities)
    for channel, kind in enumerate(CLASSES[1:], start=1):
        heard = [voice for voice in predictions if kind in voice.scope.kinds]
        parts = is_shared_by_parts(kind, [voice.scope for voice in heard])
        out[channel] = _NO_EVIDENCE
        if parts and nearest_labels is None:
            out[channel] = np.max([voice.log_odds(kind) for voice in heard], axis=0)
        elif heard:
            out[channel] = _mean_log_odds(heard, kind, nearest_labels[kind] if parts and nearest_labels else None)
    out -= out.max(axis=0)
    np.exp(out, out=out)
    out /= out.sum(axis=0)
    return out


def _mean_log_odds(predictions: Sequence[ModelPrediction], kind: Kind, nearest_labels: Array | None) -> Array:
    total = np.zeros(predictions[0].probabilities.shape[1:], np.float32)
    count = np.zeros_like(total)
    for voice in predictions:
        here = (
            np.ones(total.shape, bool)
            if nearest_labels is None
            else np.isin(nearest_labels, sorted(voice.scope.labels))
        )
        total += np.where(here, voice.log_odds(kind), 0)
        count += here
    return np.where(count > 0, total / np.maximum(count, 1), _NO_EVIDENCE)


def resample_probabilities(probabilities: Array, source: Grid, target: Grid) -> Array:
    """scores: (classes, slices, A, S) on one network's grid, on another's of the same exam; axes must be the same."""
    if source.same_as(target):
        return probabilities
    if source.axis_codes != target.axis_codes:
        raise ModelError(
            f"models that read exams along {source.axis_codes} and along {target.axis_codes} cannot be merged"
        )
    starts = source.to_index(target.to_world(np.zeros(3)))
    steps = np.array(target.spacing) / np.array(source.spacing)
    matrices = [
        interpolation_matrix(n, count, float(step), float(start), width=float(step))
        for n, count, step, start in zip(source.shape, target.shape, steps, starts, strict=True)
    ]
    return apply_matrices(probabilities, (matrices[0], matrices[1], matrices[2]))
