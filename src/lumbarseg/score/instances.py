"""Vertebrae and discs as things: which of a reference are there, which have no counterpart, whatever their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lumbarseg.anatomy import STRUCTURES, Kind, by_name
from lumbarseg.volume import Array

from .compare import Pair
from .names import OPEN, VERTEBRA, Names, blurred, family, labels_of, level_of, sets_of, title

OVERLAP = 0.5
"""Intersection over union above which two things are one; above a half there is at most one such partner."""

FAMILIES = ("body", "vertebra", "disc")
_SMALL = 50.0  # mm3 of a nameless piece of a reference below which it is a speck and counts for nobody
_VALUES = 256


@dataclass(frozen=True)
class Instance:
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


def instances(
    found: Array,
    truth: Array,
    table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    meaning: Iterable[Names] = (),
) -> list[Instance]:
    """Bodies, whole vertebrae and discs matched one to one where they overlap by more than a half.

    The arguments are those of `score`. Names play no part in the matching (panoptic quality's rule: Kirillov et al.,
    CVPR 2019). A value that is a disc of any level, or a body of any level, is taken apart into its connected pieces;
    whole vertebrae are not, for their arches touch. What is found mostly where the reference may hold an undrawn one
    of its kind counts neither for nor against.
    """
    names, meaning = sets_of(table), tuple(meaning)
    pair = Pair.of(found, truth)
    return [
        each
        for kind in FAMILIES
        if (parts := _Parts.of(kind, names)) is not None
        and not any(blurred(frozenset(_names_of(labels)), meaning) for labels in parts.found.values())
        for each in _matched(parts, pair, names, float(np.prod(spacing)))
    ]


@dataclass(frozen=True)
class _Parts:
    """One family. found: title to labels; named: title to values of the reference; nameless: values to take apart."""

    kind: str
    found: dict[str, tuple[int, ...]]
    named: dict[str, list[int]]
    nameless: list[int]

    @classmethod
    def of(cls, kind: str, names: Mapping[int, Names]) -> _Parts | None:
        """The family as a reference's table has it; None when the table does not have it at all."""
        found = family(kind)
        named: dict[str, list[int]] = {}
        nameless = []
        every = {label for labels in found.values() for label in labels}
        for value, these in names.items():
            if title(these) in found:
                named.setdefault(title(these), []).append(value)
            elif kind != "vertebra" and these and not these & OPEN and labels_of(these) <= every:
                nameless.append(value)
        return cls(kind, found, named, nameless) if named or nameless else None


def _names_of(labels: Iterable[int]) -> list[str]:
    return [s.name for s in STRUCTURES if s.label in set(labels)]


def _matched(parts: _Parts, pair: Pair, names: Mapping[int, Names], voxel: float) -> list[Instance]:
    """The instances of one family; voxel: mm3."""
    values = [value for group in parts.named.values() for value in group] + parts.nameless
    found, truth = pair.cut([label for labels in parts.found.values() for label in labels], values)
    codes, drawn = _coded(parts, truth, voxel)
    titles = list(parts.found)
    lookup = np.zeros(_VALUES, np.int64)
    for number, labels in enumerate(parts.found.values(), 1):
        lookup[list(labels)] = number
    shape = (_VALUES + len(drawn) + 1, len(titles) + 1)
    joint = np.bincount((codes * shape[1] + lookup[found]).ravel(), minlength=shape[0] * shape[1]).reshape(shape)

    out: list[Instance] = []
    doubt = _doubt(parts, names, set(values), len(drawn))  # (codes, found)
    counted = np.where(doubt, 0, joint)
    size, both = counted[:, 1:].sum(axis=0), joint[_VALUES:-1, 1:]
    union = joint[_VALUES:-1].sum(axis=1, keepdims=True) + size - both
    overlap = both / np.maximum(union, 1)  # (drawn, found)
    partner = {i: int(row.argmax()) for i, row in enumerate(overlap) if row.max() > OVERLAP}
    for i, name in enumerate(drawn):
        hit = i in partner
        best = float(overlap[i].max()) if hit else 0.0
        out.append(Instance(parts.kind, True, name, titles[partner[i]] if hit else None, best, bool(parts.named)))
    shifts = {_order(titles[f]): _order(drawn[i]) - _order(titles[f]) for i, f in partner.items() if drawn[i]}
    for f in sorted(set(np.flatnonzero(joint[:, 1:].sum(axis=0)).tolist()) - set(partner.values())):
        inside = joint[:, f + 1]
        undrawn = _undrawn(titles[f], names.get(int(inside[:_VALUES].argmax()), frozenset()), shifts)
        if 2 * size[f] >= inside.sum() and not (undrawn and 2 * inside[:_VALUES].max() > inside.sum()):
            out.append(Instance(parts.kind, False, None, titles[f], 0.0, bool(parts.named)))
    return out


def _coded(parts: _Parts, truth: Array, voxel: float) -> tuple[Array, list[str | None]]:
    """The reference with a number from 256 for each of its instances, and their names; specks get the last number."""
    from scipy import ndimage

    codes = truth.astype(np.int64)
    drawn: list[str | None] = []
    for name, values in parts.named.items():
        mask = np.isin(truth, values)
        if mask.any():
            codes[mask] = _VALUES + len(drawn)
            drawn.append(name)
    pieces, count = ndimage.label(np.isin(truth, parts.nameless))
    large = np.bincount(pieces.ravel(), minlength=count + 1) * voxel >= _SMALL
    large[0] = False
    total = len(drawn) + int(large.sum())
    numbers = np.full(count + 1, _VALUES + total, np.int64)
    numbers[large] = _VALUES + len(drawn) + np.arange(int(large.sum()))
    codes = np.where(pieces > 0, numbers[pieces], codes)
    return codes, drawn + [None] * int(large.sum())


def _doubt(parts: _Parts, names: Mapping[int, Names], drawn: set[int], count: int) -> Array:
    """(codes, found) bool: where the reference does not say whether a found thing is there."""
    doubt = np.zeros((_VALUES + count + 1, len(parts.found) + 1), bool)
    doubt[-1] = True
    for value, these in names.items():
        if value not in drawn:
            allowed = labels_of(these)
            doubt[value, 1:] = [bool(allowed & set(labels)) for labels in parts.found.values()]
    return doubt


def _order(name: str | None) -> int:
    """Place along the spine of a title that has a level."""
    return by_name(level_of(name or "")).order


def _undrawn(name: str, allowed: Names, shifts: Mapping[int, int]) -> bool:
    """Whether what lies under a name may be an undrawn one, by the neighbour whose true name is known.

    allowed: what the reference says of the place; shifts: order of a found thing to how far its true one is from it.
    """
    if not shifts:
        return False
    order = _order(name)
    nearest = min(shifts, key=lambda known: abs(known - order))
    wanted = Kind.DISC if "-" in name else Kind.BODY
    true = {s.name for s in STRUCTURES if s.kind is wanted and s.order == order + shifts[nearest]}
    if name.endswith(VERTEBRA):
        true |= {f"{level} arch" for level in true}
    return bool(labels_of(true) & labels_of(allowed)) if true else False
