"""Structures that a dataset does not annotate although it annotates their kind: unknown where they can lie.

A label table states this by a structure's name beside "background". A kind's name there means that the kind is
annotated nowhere, and so does the sacrum's or the canal's, which have no neighbours to lie between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

import numpy as np

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, kinds_from_names
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.volume import Array

_POSITIONED_KINDS = (Kind.BODY, Kind.DISC, Kind.ARCH)
_POSITIONED_STRUCTURES = {s.name: s for s in STRUCTURES if s.kind in _POSITIONED_KINDS}

Zones = list[tuple[Kind, Array]]


def allowed_everywhere(names: tuple[str, ...]) -> frozenset[Kind]:
    """Return the kinds that a row of a label table allows in the whole image."""
    if "background" not in names:
        return kinds_from_names(names)
    return kinds_from_names(name for name in names if name not in _POSITIONED_STRUCTURES)


def possible_sets(names: tuple[str, ...]) -> Iterator[frozenset[Kind]]:
    """Yield every set of kinds that a row of a label table may allow somewhere in an image."""
    extra = sorted({s.kind for s in _positioned(names)}) if "background" in names else []
    for count in range(len(extra) + 1):
        for kinds in combinations(extra, count):
            yield allowed_everywhere(names) | frozenset(kinds)


def unannotated_zones(labels: Array, table: LabelTable, value: int) -> Zones:
    """Return where voxels of `value` may be more than `allowed_everywhere`: kinds, and (S,) bool along the last axis.

    labels : (..., S), the last axis pointing up. A structure that is not annotated may lie between the centres of its
    annotated neighbours; above the highest and below the lowest there is no limit.
    """
    if "background" not in table.get(value, ()):
        return []
    missing = _positioned(table[value])
    centres = mean_heights(labels, table) if missing else {}
    heights = np.arange(labels.shape[-1])
    zones: Zones = []
    for structure in missing:
        rank, level = _head_to_foot_rank(structure), structure.name.removesuffix(" arch")
        others = {_head_to_foot_rank(s): at for s, at in centres.items() if s.name.removesuffix(" arch") != level}
        upper = min((height for other, height in others.items() if other < rank), default=np.inf)
        lower = max((height for other, height in others.items() if other > rank), default=-np.inf)
        zones.append((structure.kind, (heights < upper) & (heights > lower)))
    return zones


def mean_heights(labels: Array, table: LabelTable) -> dict[Structure, float]:
    """Return the mean height of each annotated body and disc with a label of its own, in voxels along the last axis."""
    heights = {}
    axes = tuple(range(labels.ndim - 1))
    for value, names in table.items():
        structures = [s for s in _positioned(names) if s.kind is not Kind.ARCH]
        if len(structures) != 1 or any(n not in (structures[0].name, f"{structures[0].name} arch") for n in names):
            continue
        voxels = (labels == value).sum(axis=axes)
        if voxels.any():
            heights[structures[0]] = float((voxels * np.arange(len(voxels))).sum() / voxels.sum())
    return heights


def find_lowest_structure(labels: Array, table: LabelTable, kind: Kind = Kind.BODY) -> str:
    """Return the name of the lowest body or disc in view; "" where one below it may not be annotated."""
    candidates = [s for s in mean_heights(labels, table) if s.kind is kind]
    if not candidates:
        return ""
    lowest = max(candidates, key=_head_to_foot_rank)
    unannotated = [s for names in table.values() if "background" in names for s in _positioned(names)]
    unnamed = any(kind in names or "unknown" in names for v, names in table.items() if (labels == v).any())
    hidden = any(
        s.kind is kind and _head_to_foot_rank(s) > _head_to_foot_rank(lowest) and "L6" not in s.name
        for s in unannotated
    )
    return "" if unnamed or hidden else lowest.name


def make_zones_explicit(labels: Array, table: LabelTable) -> tuple[Array, LabelTable]:
    """Return the labels with a value for each zone, and a table that lists no unannotated structures any more."""
    explicit, rows = labels.copy(), dict(table)
    for value, names in table.items():
        zones = unannotated_zones(labels, table, value)
        if not zones:
            continue
        rows[value] = tuple(name for name in names if name not in _POSITIONED_STRUCTURES)
        kinds_at = [tuple(sorted({kind.value for kind, inside in zones if inside[s]})) for s in range(labels.shape[-1])]
        for extra in sorted(set(kinds_at) - {()}):
            free_value = min(set(range(256)) - set(rows))
            rows[free_value] = (*rows[value], *extra)
            explicit[(labels == value) & np.array([kinds == extra for kinds in kinds_at])] = free_value
    return explicit, rows


def _positioned(names: Iterable[str]) -> list[Structure]:
    return [_POSITIONED_STRUCTURES[name] for name in names if name in _POSITIONED_STRUCTURES]


def _head_to_foot_rank(structure: Structure) -> int:
    """Return the position from head to foot; an arch has about the rank of its body."""
    if structure.kind is Kind.ARCH:
        return 10 * LEVELS.index(structure.name.removesuffix(" arch"))
    return structure.order
