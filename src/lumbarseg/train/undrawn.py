"""Structures that nobody drew, though their kind was drawn: unknown where they can lie, and background elsewhere.

A label table says so with a structure's name beside "background". A kind's name there means drawn nowhere, and so does
the sacrum's or the canal's, which have no neighbours to lie between.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, classes_of
from lumbarseg.datasets.folder import Table
from lumbarseg.volume import Array

_PLACED = (Kind.BODY, Kind.DISC, Kind.ARCH)
_NAMED = {s.name: s for s in STRUCTURES if s.kind in _PLACED}

Zones = list[tuple[Kind, Array]]


def base(names: tuple[str, ...]) -> frozenset[Kind]:
    """What a row allows everywhere."""
    if "background" not in names:
        return classes_of(names)
    return classes_of(name for name in names if name not in _NAMED)


def sets(names: tuple[str, ...]) -> Iterator[frozenset[Kind]]:
    """All that a row may allow at some place."""
    extra = sorted({_NAMED[name].kind for name in names if name in _NAMED}) if "background" in names else []
    for count in range(len(extra) + 1):
        for kinds in combinations(extra, count):
            yield base(names) | frozenset(kinds)


def zones(labels: Array, table: Table, value: int) -> Zones:
    """Where voxels of `value` may be more than `base` says: kind, and (S,) bool along the last axis, which points up.

    labels: (..., S). An undrawn structure may lie between the middles of its drawn neighbours; above the highest and
    below the lowest there is no limit.
    """
    if "background" not in table.get(value, ()):
        return []
    missing = [_NAMED[name] for name in table[value] if name in _NAMED]
    middles = middle(labels, table) if missing else {}
    heights = np.arange(labels.shape[-1])
    out: Zones = []
    for structure in missing:
        own = structure.name.removesuffix(" arch")
        others = {_rank(s): at for s, at in middles.items() if s.name.removesuffix(" arch") != own}
        above = [at for rank, at in others.items() if rank < _rank(structure)]
        below = [at for rank, at in others.items() if rank > _rank(structure)]
        high, low = min(above, default=np.inf), max(below, default=-np.inf)
        out.append((structure.kind, (heights < high) & (heights > low)))
    return out


def middle(labels: Array, table: Table) -> dict[Structure, float]:
    """Middle of each drawn body and disc that has a name of its own, in voxels along the last axis, which points up."""
    out = {}
    axes = tuple(range(labels.ndim - 1))
    for value, names in table.items():
        parts = [_NAMED[name] for name in names if name in _NAMED and _NAMED[name].kind is not Kind.ARCH]
        if len(parts) != 1 or any(name not in (parts[0].name, f"{parts[0].name} arch") for name in names):
            continue
        rows = (labels == value).sum(axis=axes)
        if rows.any():
            out[parts[0]] = float((rows * np.arange(len(rows))).sum() / rows.sum())
    return out


def lowest(labels: Array, table: Table, kind: Kind = Kind.BODY) -> str:
    """Name of the lowest body or disc in view, "" where the labels do not tell, for one below it may be undrawn."""
    found = [s for s in middle(labels, table) if s.kind is kind]
    if not found:
        return ""
    last = max(found, key=_rank)
    silent = [_NAMED[name] for names in table.values() if "background" in names for name in names if name in _NAMED]
    unnamed = any(kind in names or "unknown" in names for v, names in table.items() if (labels == v).any())
    hidden = any(s.kind is kind and _rank(s) > _rank(last) and "L6" not in s.name for s in silent)
    return "" if unnamed or hidden else last.name


def _rank(structure: Structure) -> int:
    """Position from head to foot; an arch hangs beside its body."""
    if structure.kind is Kind.ARCH:
        return 10 * LEVELS.index(structure.name.removesuffix(" arch"))
    return structure.order


def explicit(labels: Array, table: Table) -> tuple[Array, Table]:
    """The same labels with a value of its own for each zone, and a table that names no undrawn structure any more."""
    out, rows = labels.copy(), dict(table)
    for value, names in table.items():
        found = zones(labels, table, value)
        if not found:
            continue
        rows[value] = tuple(name for name in names if name not in _NAMED)
        here = [tuple(sorted({kind.value for kind, inside in found if inside[s]})) for s in range(labels.shape[-1])]
        for extra in sorted(set(here) - {()}):
            free = min(set(range(256)) - set(rows))
            rows[free] = (*rows[value], *extra)
            out[(labels == value) & np.array([kinds == extra for kinds in here])] = free
    return out, rows
