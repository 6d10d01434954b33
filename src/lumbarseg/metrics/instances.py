"""Match vertebrae and discs of a prediction to those of a reference, whatever they are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lumbarseg.anatomy import STRUCTURES, Kind, structure_by_name
from lumbarseg.components import connected_components
from lumbarseg.volume import Array

from .overlap import LABEL_VALUES, joint_histogram
from .structure_names import (
    AMBIGUOUS_NAMES,
    VERTEBRA_SUFFIX,
    StructureNames,
    display_name,
    is_indistinguishable,
    labels_by_name,
    labels_with_names,
    level_in_name,
    name_sets,
)

MIN_IOU = 0.5
"""Intersection over union above which two instances match; above a half each has at most one partner."""

INSTANCE_KINDS = ("body", "vertebra", "disc")
_MIN_FRAGMENT_MM3 = 50.0  # smaller components of an unnamed reference value are ignored


@dataclass(frozen=True)
class InstanceMatch:
    """A body, complete vertebra or disc of the reference, or a predicted one without a counterpart there.

    in_reference : whether the reference has it
    reference_name : None if the reference gives no name
    predicted_name : None if it was not predicted
    iou : intersection over union of the two
    has_reference_names : whether the reference names instances of this kind at all
    """

    kind: str
    in_reference: bool
    reference_name: str | None
    predicted_name: str | None
    iou: float
    has_reference_names: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "kind": self.kind,
            "drawn": self.in_reference,
            "name": self.reference_name,
            "found_as": self.predicted_name,
            "overlap": self.iou,
            "nameable": self.has_reference_names,
        }


def match_instances(
    prediction: Array,
    reference: Array,
    label_table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    prediction_names: Iterable[StructureNames] = (),
) -> list[InstanceMatch]:
    """Match bodies, complete vertebrae and discs one to one where their intersection over union exceeds a half.

    Parameters are those of `score_structures`. Names play no part in the matching (panoptic quality: Kirillov et al.,
    CVPR 2019). A value that stands for discs, or bodies, of any level is separated into connected components; complete
    vertebrae are not, because their arches touch. A predicted instance is ignored if most of it lies where the
    reference may hold one of its kind without annotating it.
    """
    names, prediction_names = name_sets(label_table), tuple(prediction_names)
    matches = []
    for kind in INSTANCE_KINDS:
        annotation = _KindAnnotation.from_label_table(kind, names)
        predictable = (
            frozenset(s.name for s in STRUCTURES if s.label in labels) for labels in labels_by_name(kind).values()
        )
        if annotation and not any(is_indistinguishable(structure, prediction_names) for structure in predictable):
            codes, reference_names = _number_instances(annotation, reference, float(np.prod(spacing)))
            counts = joint_histogram(codes, prediction, LABEL_VALUES + len(reference_names) + 1)
            matches += _match_kind(annotation, counts, reference_names, names)
    return matches


@dataclass(frozen=True)
class _KindAnnotation:
    """How a reference annotates one kind of instance.

    named_values : values of the reference by display name
    unnamed_values : values that stand for instances of any level
    """

    kind: str
    named_values: dict[str, list[int]]
    unnamed_values: list[int]

    @classmethod
    def from_label_table(cls, kind: str, names: Mapping[int, StructureNames]) -> _KindAnnotation | None:
        """Collect the values of a kind; None if the label table does not have it."""
        labels = labels_by_name(kind)
        all_labels = {label for group in labels.values() for label in group}
        named_values: dict[str, list[int]] = {}
        unnamed = []
        for value, structure in names.items():
            if display_name(structure) in labels:
                named_values.setdefault(display_name(structure), []).append(value)
            elif kind == "vertebra" or not structure or structure & AMBIGUOUS_NAMES:
                continue
            elif labels_with_names(structure) <= all_labels:
                unnamed.append(value)
        return cls(kind, named_values, unnamed) if named_values or unnamed else None


def _number_instances(
    annotation: _KindAnnotation, reference: Array, voxel_volume: float
) -> tuple[Array, list[str | None]]:
    """Number the instances of a reference.

    Returns
    -------
    codes : (I, J, K) uint16, the reference with a number from 256 for each instance and the last number for fragments
    names : name of each instance, None without one
    """
    codes = reference.astype(np.uint16)
    names: list[str | None] = []
    for name, values in annotation.named_values.items():
        mask = np.isin(reference, values)
        if mask.any():
            codes[mask] = LABEL_VALUES + len(names)
            names.append(name)
    components = connected_components(np.isin(reference, annotation.unnamed_values))
    large = components.sizes * voxel_volume >= _MIN_FRAGMENT_MM3
    numbers = np.full(components.count + 1, LABEL_VALUES + len(names) + large.sum(), np.uint16)
    numbers[large] = LABEL_VALUES + len(names) + np.arange(large.sum())
    codes = np.where(components.numbers > 0, numbers[components.numbers], codes)
    return codes, names + [None] * int(large.sum())


def _match_kind(
    annotation: _KindAnnotation, counts: Array, reference_names: list[str | None], names: Mapping[int, StructureNames]
) -> list[InstanceMatch]:
    """Match the instances of one kind; counts: (256 + instances + 1, 256), joint histogram of numbered instances."""
    labels = labels_by_name(annotation.kind)
    predicted_names, has_names = list(labels), bool(annotation.named_values)
    joint = np.stack([counts[:, list(group)].sum(axis=1) for group in labels.values()], axis=1)  # (numbers, predicted)
    predicted_sizes = np.where(_is_ambiguous(annotation, len(counts), names), 0, joint).sum(axis=0)
    shared = joint[LABEL_VALUES:-1]
    reference_sizes = counts[LABEL_VALUES:-1].sum(axis=1, keepdims=True)
    iou = shared / np.maximum(reference_sizes + predicted_sizes - shared, 1)
    partners = {i: int(row.argmax()) for i, row in enumerate(iou) if row.max() > MIN_IOU}
    matches = []
    for i, name in enumerate(reference_names):
        predicted, best = (predicted_names[partners[i]], float(iou[i].max())) if i in partners else (None, 0.0)
        matches.append(InstanceMatch(annotation.kind, True, name, predicted, best, has_names))

    pairs = [(predicted_names[j], name) for i, j in partners.items() if (name := reference_names[i])]
    level_shifts = {_spine_order(predicted): _spine_order(name) - _spine_order(predicted) for predicted, name in pairs}
    for j in sorted(set(np.flatnonzero(joint.sum(axis=0)).tolist()) - set(partners.values())):
        inside, total = joint[:LABEL_VALUES, j], joint[:, j].sum()  # voxels in each value of the reference
        row = names.get(int(inside.argmax()), frozenset())
        unannotated = 2 * inside.max() > total and _may_be_unannotated(predicted_names[j], row, level_shifts)
        if 2 * predicted_sizes[j] >= total and not unannotated:
            matches.append(InstanceMatch(annotation.kind, False, None, predicted_names[j], 0.0, has_names))
    return matches


def _is_ambiguous(annotation: _KindAnnotation, rows: int, names: Mapping[int, StructureNames]) -> Array:
    """(rows, predicted) bool: where the reference does not say whether a predicted instance is there."""
    labels = [frozenset(group) for group in labels_by_name(annotation.kind).values()]
    annotated = {*annotation.unnamed_values, *(v for values in annotation.named_values.values() for v in values)}
    ambiguous = np.zeros((rows, len(labels)), bool)
    ambiguous[-1] = True  # fragments
    for value, structure in names.items():
        if value not in annotated:
            ambiguous[value] = [bool(labels_with_names(structure) & group) for group in labels]
    return ambiguous


def _spine_order(name: str) -> int:
    """Return the order along the spine of a structure whose display name contains a level."""
    return structure_by_name(level_in_name(name)).order


def _may_be_unannotated(name: str, row: StructureNames, level_shifts: Mapping[int, int]) -> bool:
    """Return whether a predicted instance may be one that the reference does not annotate.

    Its true level follows from the nearest matched instance, whose name in the reference is known.

    Parameters
    ----------
    name : under which it was predicted
    row : names that the label table gives to the value it mostly lies in
    level_shifts : from the predicted to the true order along the spine, by predicted order
    """
    if not level_shifts:
        return False
    order = _spine_order(name)
    nearest = min(level_shifts, key=lambda other: abs(other - order))
    kind = Kind.DISC if "-" in name else Kind.BODY
    true_names = {s.name for s in STRUCTURES if s.kind is kind and s.order == order + level_shifts[nearest]}
    if name.endswith(VERTEBRA_SUFFIX):
        true_names |= {f"{level} arch" for level in true_names}
    return bool(labels_with_names(true_names) & labels_with_names(row))
