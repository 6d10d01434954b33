"""Compare two label maps structure by structure: Dice, volume ratio, surface distances, and the names given.

A label table says what each value of the reference may be, as in prepared datasets: {1: ("L4", "L4 arch")} is a
complete vertebra, {9: ("unknown",)} is ignored. Arrays are (I, J, K) uint8 on one grid; a prediction has the values of
`anatomy.STRUCTURES`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lumbarseg.anatomy import name_and_levels
from lumbarseg.components import Box, label_boxes
from lumbarseg.volume import Array

from .structure_names import (
    AMBIGUOUS_NAMES,
    StructureNames,
    confusable_structures,
    display_name,
    is_indistinguishable,
    labels_with_names,
    name_sets,
)
from .surface import SurfaceDistances, compute_surface_distances

MIN_COVERAGE = 0.25
"""Fraction of a reference structure that a predicted one must cover to count as its counterpart."""

LABEL_VALUES = 256

_JSON_KEYS = {
    "reference_voxels": "truth",
    "predicted_voxels": "found",
    "volume_ratio": "ratio",
    "covered_by": "found_as",
    "covering_dice": "overlap",
    "covering_volume_ratio": "overlap_ratio",
}


@dataclass(frozen=True)
class StructureScore:
    """Scores of one structure of a reference.

    dice, volume_ratio : of the structure predicted under the same name; None where the reference does not show it
    covered_by : name of the predicted structure that covers it, None if none does; always None for tissues
    covering_dice, covering_volume_ratio : against that structure; None for tissues
    distances : by name, if measured and both label maps show the structure
    """

    name: str
    reference_voxels: int
    predicted_voxels: int
    dice: float | None = None
    volume_ratio: float | None = None
    covered_by: str | None = None
    covering_dice: float | None = None
    covering_volume_ratio: float | None = None
    distances: SurfaceDistances | None = None

    @property
    def is_named_right(self) -> bool:
        """Whether the structure is covered by the one of its own name."""
        return self.covered_by == self.name

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON, without those that do not apply."""
        return {_JSON_KEYS.get(key, key): value for key, value in asdict(self).items() if value is not None}


def compute_dice(a: Array, b: Array) -> float:
    """Return the Dice coefficient of two masks, 0 to 1; 1 if both are empty."""
    return _dice(int(np.count_nonzero(a & b)), int(np.count_nonzero(a) + np.count_nonzero(b)))


def _dice(shared: int, total: int) -> float:
    return 2 * shared / total if total else 1.0


def joint_histogram(reference: Array, prediction: Array, rows: int = LABEL_VALUES) -> Array:
    """Count voxels by pairs of values.

    Parameters
    ----------
    reference : (I, J, K) unsigned int, values below `rows`
    prediction : (I, J, K) uint8

    Returns
    -------
    (rows, 256) int64: voxels with each reference value (rows) and each predicted value (columns).
    """
    counts = np.zeros(rows * LABEL_VALUES, np.int64)
    for reference_slice, predicted_slice in zip(reference, prediction, strict=True):  # keeps the indices small
        pairs = reference_slice.astype(np.intp) * LABEL_VALUES + predicted_slice
        counts += np.bincount(pairs.ravel(), minlength=counts.size)
    return counts.reshape(rows, LABEL_VALUES)


def score_structures(
    prediction: Array,
    reference: Array,
    label_table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] | None = None,
    prediction_names: Iterable[StructureNames] = (),
) -> list[StructureScore]:
    """Score each structure of a reference, in the order of its label table.

    A part with its own row beside a tissue ("L4" beside "vertebra") leaves the tissue without a score, because nobody
    can tell where the rest of it ends. Structures that neither label map shows have no score either.

    Parameters
    ----------
    prediction, reference : (I, J, K) uint8
    label_table : names of structures or kinds, "background" or "unknown" for each value of the reference; by default
        the values of `anatomy.STRUCTURES`. Values without a row are background.
    spacing : mm; if given, surface distances are measured
    prediction_names : what the values of the prediction stand for, if they are coarser than `anatomy.STRUCTURES`;
        structures that it cannot tell apart have no score
    """
    names, prediction_names = name_sets(label_table), tuple(prediction_names)
    counts = joint_histogram(reference, prediction)
    everywhere = slice(0, reference.shape[0]), slice(0, reference.shape[1]), slice(0, reference.shape[2])
    boxes = (label_boxes(prediction), {0: everywhere, **label_boxes(reference)}) if spacing else ({}, {})
    scores = []
    for structure in dict.fromkeys(names.values()):
        skipped = structure & AMBIGUOUS_NAMES or is_indistinguishable(structure, prediction_names)
        if skipped or _is_remainder(structure, names.values()):
            continue
        own = [value for value, row in names.items() if row == structure]
        labels = labels_with_names(structure)
        ignored = [v for v, row in names.items() if row != structure and labels_with_names(row) & labels]
        counts_kept = counts.copy()
        counts_kept[ignored] = 0
        score = _score_structure(structure, counts_kept, own, sorted(labels))
        if spacing and score.reference_voxels:
            region = _union([boxes[0].get(label) for label in labels] + [boxes[1].get(value) for value in own])
            predicted_mask = _mask(prediction[region], labels) & ~_mask(reference[region], ignored)
            distances = compute_surface_distances(predicted_mask, _mask(reference[region], own), spacing)
            score = replace(score, distances=distances)
        if score.reference_voxels or score.predicted_voxels:
            scores.append(score)
    return scores


def _is_remainder(structure: StructureNames, others: Iterable[StructureNames]) -> bool:
    """Return whether parts of a set have rows of their own, so that the set means what is left."""
    labels = labels_with_names(structure)
    return any(not other & AMBIGUOUS_NAMES and labels_with_names(other) < labels for other in others)


def _union(boxes: Iterable[Box | None]) -> tuple[slice, ...]:
    """Return the smallest box around all boxes."""
    axes = zip(*filter(None, boxes), strict=True)
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)


def _mask(label_map: Array, values: Collection[int]) -> Array:
    """(I, J, K) bool: where a label map has one of some values."""
    lookup = np.zeros(LABEL_VALUES, bool)
    lookup[list(values)] = True
    return lookup[label_map]


def _score_structure(structure: StructureNames, counts: Array, own: list[int], labels: list[int]) -> StructureScore:
    """Score one structure.

    Parameters
    ----------
    counts : joint histogram of the voxels that count
    own : values of the structure in the reference
    labels : its labels in the prediction
    """
    inside, totals = counts[own].sum(axis=0), counts.sum(axis=0)  # (256,) voxels per predicted label
    name, size, predicted = display_name(structure), int(inside.sum()), int(totals[labels].sum())
    if size == 0:
        return StructureScore(name, size, predicted)
    dice = _dice(int(inside[labels].sum()), size + predicted)
    score = StructureScore(name, size, predicted, dice, predicted / size)
    candidates = confusable_structures(structure)
    if candidates is None:
        return score
    shared = {other: int(inside[list(candidates[other])].sum()) for other in candidates}
    best = max(shared, key=lambda other: shared[other])
    if shared[best] <= MIN_COVERAGE * size:
        return replace(score, covering_dice=0.0, covering_volume_ratio=0.0)
    covering = int(totals[list(candidates[best])].sum())
    covering_dice = _dice(shared[best], size + covering)
    return replace(score, covered_by=best, covering_dice=covering_dice, covering_volume_ratio=covering / size)


def find_wrong_names(scores: Iterable[StructureScore]) -> list[str]:
    """Return the structures that are predicted under another name, for example "L4 as L5"."""
    return [f"{score.name} as {score.covered_by}" for score in scores if score.covered_by not in (score.name, None)]


def find_missing_structures(scores: Iterable[StructureScore]) -> list[str]:
    """Return the structures with a level or name of their own that the reference shows and no prediction covers."""
    return [score.name for score in scores if score.covering_dice is not None and score.covered_by is None]


def select_marked_uncertain(wrong_names: Iterable[str], uncertain_levels: Iterable[str]) -> list[str]:
    """Return the wrong names that were marked uncertain: "L4-L5 as L3-L4" if L3, L4 or L3-L4 was."""
    marked = frozenset(uncertain_levels)
    return [text for text in wrong_names if name_and_levels(text.rpartition(" as ")[2]) & marked]
