"""Vertebrae and discs as things: which of a reference are there, which have no counterpart, whatever their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lumbarseg.anatomy import STRUCTURES, Kind, structure_by_name
from lumbarseg.volume import Array

from .overlap import LabelMapPair
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
"""Intersection over union above which two things are one; above a half there is at most one such partner."""

INSTANCE_KINDS = ("body", "vertebra", "disc")
_MIN_FRAGMENT_MM3 = 50.0  # mm3 of a nameless piece of a reference below which it is a speck and counts for nobody
_LABEL_VALUES = 256


@dataclass(frozen=True)
class InstanceMatch:
    """One body, whole vertebra or disc of a reference, or one that was found without a counterpart there.

    drawn: whether the reference has it; name: there, None where it gives none; found_as: the name it was found under,
    None when it was not found; overlap: intersection over union of the two; nameable: whether the reference gives
    names to things of this kind.
    """

    kind: str
    drawn: bool
    name: str | None
    found_as: str | None
    overlap: float
    nameable: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def match_instances(
    prediction: Array,
    reference: Array,
    label_table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    prediction_names: Iterable[StructureNames] = (),
) -> list[InstanceMatch]:
    """Bodies, whole vertebrae and discs matched one to one where they overlap by more than a half.

    The arguments are those of `score`. Names play no part in the matching (panoptic quality's rule: Kirillov et al.,
    CVPR 2019). A value that is a disc of any level, or a body of any level, is taken apart into its connected pieces;
    whole vertebrae are not, for their arches touch. What is found mostly where the reference may hold an undrawn one
    of its kind counts neither for nor against.
    """
    names, prediction_names = name_sets(label_table), tuple(prediction_names)
    pair = LabelMapPair.from_arrays(prediction, reference)
    return [
        each
        for kind in INSTANCE_KINDS
        if (parts := _KindLabels.from_label_table(kind, names)) is not None
        and not any(
            is_indistinguishable(frozenset(_names_of_labels(labels)), prediction_names)
            for labels in parts.predicted_labels.values()
        )
        for each in _match_kind(parts, pair, names, float(np.prod(spacing)))
    ]


@dataclass(frozen=True)
class _KindLabels:
    """One family. found: title to labels; named: title to values of the reference; nameless: values to take apart."""

    kind: str
    predicted_labels: dict[str, tuple[int, ...]]
    named_values: dict[str, list[int]]
    unnamed_values: list[int]

    @classmethod
    def from_label_table(cls, kind: str, names: Mapping[int, StructureNames]) -> _KindLabels | None:
        """The family as a reference's table has it; None when the table does not have it at all."""
        found = labels_by_name(kind)
        named: dict[str, list[int]] = {}
        nameless = []
        every = {label for labels in found.values() for label in labels}
        for value, these in names.items():
            if display_name(these) in found:
                named.setdefault(display_name(these), []).append(value)
            elif kind != "vertebra" and these and not these & AMBIGUOUS_NAMES and labels_with_names(these) <= every:
                nameless.append(value)
        return cls(kind, found, named, nameless) if named or nameless else None


def _names_of_labels(labels: Iterable[int]) -> list[str]:
    return [s.name for s in STRUCTURES if s.label in set(labels)]


def _match_kind(
    kind_labels: _KindLabels, pair: LabelMapPair, names: Mapping[int, StructureNames], voxel_volume: float
) -> list[InstanceMatch]:
    """The instances of one family; voxel: mm3."""
    values = [value for group in kind_labels.named_values.values() for value in group] + kind_labels.unnamed_values
    found, truth = pair.crop_to_values(
        [label for labels in kind_labels.predicted_labels.values() for label in labels], values
    )
    codes, drawn = _number_reference_instances(kind_labels, truth, voxel_volume)
    titles = list(kind_labels.predicted_labels)
    lookup = np.zeros(_LABEL_VALUES, np.int64)
    for number, labels in enumerate(kind_labels.predicted_labels.values(), 1):
        lookup[list(labels)] = number
    shape = (_LABEL_VALUES + len(drawn) + 1, len(titles) + 1)
    joint = np.bincount((codes * shape[1] + lookup[found]).ravel(), minlength=shape[0] * shape[1]).reshape(shape)

    out: list[InstanceMatch] = []
    doubt = _ambiguous_pairs(kind_labels, names, set(values), len(drawn))  # (codes, found)
    counted = np.where(doubt, 0, joint)
    size, both = counted[:, 1:].sum(axis=0), joint[_LABEL_VALUES:-1, 1:]
    union = joint[_LABEL_VALUES:-1].sum(axis=1, keepdims=True) + size - both
    overlap = both / np.maximum(union, 1)  # (drawn, found)
    partner = {i: int(row.argmax()) for i, row in enumerate(overlap) if row.max() > MIN_IOU}
    for i, name in enumerate(drawn):
        hit = i in partner
        best = float(overlap[i].max()) if hit else 0.0
        out.append(
            InstanceMatch(
                kind_labels.kind, True, name, titles[partner[i]] if hit else None, best, bool(kind_labels.named_values)
            )
        )
    shifts = {
        _spine_order(titles[f]): _spine_order(drawn[i]) - _spine_order(titles[f])
        for i, f in partner.items()
        if drawn[i]
    }
    for f in sorted(set(np.flatnonzero(joint[:, 1:].sum(axis=0)).tolist()) - set(partner.values())):
        inside = joint[:, f + 1]
        undrawn = _may_be_unannotated(titles[f], names.get(int(inside[:_LABEL_VALUES].argmax()), frozenset()), shifts)
        if 2 * size[f] >= inside.sum() and not (undrawn and 2 * inside[:_LABEL_VALUES].max() > inside.sum()):
            out.append(InstanceMatch(kind_labels.kind, False, None, titles[f], 0.0, bool(kind_labels.named_values)))
    return out


def _number_reference_instances(
    kind_labels: _KindLabels, reference: Array, voxel_volume: float
) -> tuple[Array, list[str | None]]:
    """The reference with a number from 256 for each of its instances, and their names; specks get the last number."""
    from scipy import ndimage

    codes = reference.astype(np.int64)
    drawn: list[str | None] = []
    for name, values in kind_labels.named_values.items():
        mask = np.isin(reference, values)
        if mask.any():
            codes[mask] = _LABEL_VALUES + len(drawn)
            drawn.append(name)
    pieces, count = ndimage.label(np.isin(reference, kind_labels.unnamed_values))
    large = np.bincount(pieces.ravel(), minlength=count + 1) * voxel_volume >= _MIN_FRAGMENT_MM3
    large[0] = False
    total = len(drawn) + int(large.sum())
    numbers = np.full(count + 1, _LABEL_VALUES + total, np.int64)
    numbers[large] = _LABEL_VALUES + len(drawn) + np.arange(int(large.sum()))
    codes = np.where(pieces > 0, numbers[pieces], codes)
    return codes, drawn + [None] * int(large.sum())


def _ambiguous_pairs(
    kind_labels: _KindLabels, names: Mapping[int, StructureNames], annotated_values: set[int], count: int
) -> Array:
    """(codes, found) bool: where the reference does not say whether a found thing is there."""
    doubt = np.zeros((_LABEL_VALUES + count + 1, len(kind_labels.predicted_labels) + 1), bool)
    doubt[-1] = True
    for value, these in names.items():
        if value not in annotated_values:
            allowed = labels_with_names(these)
            doubt[value, 1:] = [bool(allowed & set(labels)) for labels in kind_labels.predicted_labels.values()]
    return doubt


def _spine_order(name: str | None) -> int:
    """Place along the spine of a title that has a level."""
    return structure_by_name(level_in_name(name or "")).order


def _may_be_unannotated(name: str, allowed: StructureNames, level_shifts: Mapping[int, int]) -> bool:
    """Whether what lies under a name may be an undrawn one, by the neighbour whose true name is known.

    allowed: what the reference says of the place; shifts: order of a found thing to how far its true one is from it.
    """
    if not level_shifts:
        return False
    order = _spine_order(name)
    nearest = min(level_shifts, key=lambda known: abs(known - order))
    wanted = Kind.DISC if "-" in name else Kind.BODY
    true = {s.name for s in STRUCTURES if s.kind is wanted and s.order == order + level_shifts[nearest]}
    if name.endswith(VERTEBRA_SUFFIX):
        true |= {f"{level} arch" for level in true}
    return bool(labels_with_names(true) & labels_with_names(allowed)) if true else False
