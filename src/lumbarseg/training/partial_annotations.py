"""Structures that nobody drew, though their kind was drawn: unknown where they can lie, and background elsewhere.

A label table says so with a structure's name beside "background". A kind's name there means drawn nowhere, and so does
the sacrum's or the canal's, which have no neighbours to lie between.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, kinds_from_names
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.volume import Array

_POSITIONED_KINDS = (Kind.BODY, Kind.DISC, Kind.ARCH)
_POSITIONED_STRUCTURES = {s.name: s for s in STRUCTURES if s.kind in _POSITIONED_KINDS}

Zones = list[tuple[Kind, Array]]


def allowed_everywhere(names: tuple[str, ...]) -> frozenset[Kind]:
    """What a row allows everywhere."""
    if "background" not in names:
        return kinds_from_names(names)
    return kinds_from_names(name for name in names if name not in _POSITIONED_STRUCTURES)


def possible_sets(names: tuple[str, ...]) -> Iterator[frozenset[Kind]]:
    """All that a row may allow at some place."""
    extra = (
        sorted({_POSITIONED_STRUCTURES[name].kind for name in names if name in _POSITIONED_STRUCTURES})
        if "background" in names
        else []
    )
    for count in range(len(extra) + 1):
        for kinds in combinations(extra, count):
            yield allowed_everywhere(names) | frozenset(kinds)


def unannotated_zones(labels: Array, table: LabelTable, value: int) -> Zones:
    """Where voxels of `value` may be more than `base` says: kind, and (S,) bool along the last axis, which points up.

    labels: (..., S). An undrawn structure may lie between the middles of its drawn neighbours; above the highest and
    below the lowest there is no limit.
    """
    if "background" not in table.get(value, ()):
        return []
    missing = [_POSITIONED_STRUCTURES[name] for name in table[value] if name in _POSITIONED_STRUCTURES]
    middles = mean_heights(labels, table) if missing else {}
    heights = np.arange(labels.shape[-1])
    out: Zones = []
    for structure in missing:
        own = structure.name.removesuffix(" arch")
        others = {_head_to_foot_rank(s): at for s, at in middles.items() if s.name.removesuffix(" arch") != own}
        above = [at for rank, at in others.items() if rank < _head_to_foot_rank(structure)]
        below = [at for rank, at in others.items() if rank > _head_to_foot_rank(structure)]
        high, low = min(above, default=np.inf), max(below, default=-np.inf)
        out.append((structure.kind, (heights < high) & (heights > low)))
    return out


def mean_heights(labels: Array, table: LabelTable) -> dict[Structure, float]:
    """Middle of each drawn body and disc that has a name of its own, in voxels along the last axis, which points up."""
    out = {}
    axes = tuple(range(labels.ndim - 1))
    for value, names in table.items():
        parts = [
            _POSITIONED_STRUCTURES[name]
            for name in names
            if name in _POSITIONED_STRUCTURES and _POSITIONED_STRUCTURES[name].kind is not Kind.ARCH
        ]
        if len(parts) != 1 or any(name not in (parts[0].name, f"{parts[0].name} arch") for name in names):
            continue
        rows = (labels == value).sum(axis=axes)
        if rows.any():
            out[parts[0]] = float((rows * np.arange(len(rows))).sum() / rows.sum())
    return out


def find_lowest_structure(labels: Array, table: LabelTable, kind: Kind = Kind.BODY) -> str:
    """Name of the lowest body or disc in view, "" where the labels do not tell, for one below it may be undrawn."""
    found = [s for s in mean_heights(labels, table) if s.kind is kind]
    if not found:
        return ""
    last = max(found, key=_head_to_foot_rank)
    silent = [
        _POSITIONED_STRUCTURES[name]
        for names in table.values()
        if "background" in names
        for name in names
        if name in _POSITIONED_STRUCTURES
    ]
    unnamed = any(kind in names or "unknown" in names for v, names in table.items() if (labels == v).any())
    hidden = any(
        s.kind is kind and _head_to_foot_rank(s) > _head_to_foot_rank(last) and "L6" not in s.name for s in silent
    )
    return "" if unnamed or hidden else last.name


def _head_to_foot_rank(structure: Structure) -> int:
    """Position from head to foot; an arch hangs beside its body."""
    if structure.kind is Kind.ARCH:
        return 10 * LEVELS.index(structure.name.removesuffix(" arch"))
    return structure.order


def make_zones_explicit(labels: Array, table: LabelTable) -> tuple[Array, LabelTable]:
    """The same labels with a value of its own for each zone, and a table that names no undrawn structure any more."""
    out, rows = labels.copy(), dict(table)
    for value, names in table.items():
        found = unannotated_zones(labels, table, value)
        if not found:
            continue
        rows[value] = tuple(name for name in names if name not in _POSITIONED_STRUCTURES)
        here = [tuple(sorted({kind.value for kind, inside in found if inside[s]})) for s in range(labels.shape[-1])]
        for extra in sorted(set(here) - {()}):
            free = min(set(range(256)) - set(rows))
            rows[free] = (*rows[value], *extra)
            out[(labels == value) & np.array([kinds == extra for kinds in here])] = free
    return out, rows
