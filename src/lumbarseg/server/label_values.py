"""Label values of three kinds, and the ways between them.

Declared values are those of the table of structures (6 to 9 stay 6 to 9); so labels are stored. Places are 1..N in the
order of a list of names: 3D Slicer reads an answer's value n as the n-th of its `label_names`. Exported values are
those of a label that a client sends: 3D Slicer numbers the segments that it exports 1..n, whatever they are, and tells
their names beside (`label_info`). So names decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from lumbarseg.anatomy import LEVELS, LUMBAR_LEVELS, STRUCTURES, Kind, Structure, arch_of_level, structure_by_name
from lumbarseg.datasets.label_names import parse_label_name
from lumbarseg.datasets.schemes import disc_below
from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Grid, Volume

_LEVEL_ABOVE_LUMBAR = LEVELS[LEVELS.index(LUMBAR_LEVELS[0]) - 1]
_OFFERED_NAMES = {name for level in (_LEVEL_ABOVE_LUMBAR, *LUMBAR_LEVELS) for name in (level, disc_below(level))} | {
    arch_of_level(level).name for level in LUMBAR_LEVELS
}
_GRID_TOLERANCE = 0.05  # mm that a header written by another program may be off
_IGNORED_NAMES = {"background", "foreground_scribbles", "background_scribbles"}


def offered_structures(kinds: Iterable[Kind]) -> tuple[str, ...]:
    """Names that a model of these tissues lets a person annotate: the lumbar ones, in the order of their values."""
    taught = set(kinds)
    rows = [
        s for s in STRUCTURES if s.kind in taught and (s.name in _OFFERED_NAMES or s.kind in (Kind.SACRUM, Kind.CANAL))
    ]
    return tuple(s.name for s in sorted(rows, key=lambda s: s.label))


def result_structures(labels: Array, names: Sequence[str]) -> tuple[str, ...]:
    """`names`, and after them whatever else a label map of declared values holds, in the order of their values.

    OHIF reads an answer's value n as the n-th name that the model offers, whatever the answer says.
    """
    counts = np.bincount(labels.ravel(order="K"), minlength=256)
    more = {s.name for s in STRUCTURES if counts[s.label]} - set(names)
    return (*names, *sorted(more, key=lambda name: structure_by_name(name).label))


def encode_by_position(labels: Array, names: Sequence[str]) -> Array:
    """A label map of declared values, uint8, as places in `names`, 1..N."""
    table = np.zeros(256, np.uint8)
    for place, name in enumerate(names, start=1):
        table[structure_by_name(name).label] = place
    return table[labels]


def resolve_label_names(info: Any, labels: Array) -> dict[int, str]:
    """What the values of an exported label map mean. info: `label_info`, a list of {"name", "idx"}, or nothing.

    ServeError for a list that is malformed or does not explain every value. Without a list the values must be declared
    ones. The n-th name is that of value n, for so 3D Slicer exports; its `idx` counts segments that were left out, too,
    and is believed only where places cannot be meant.
    """
    present = {int(value) for value in np.unique(labels)} - {0}
    rows = _label_info_rows(info)
    if not rows:
        return {s.label: s.name for s in STRUCTURES}
    names = [name for name, _ in rows]
    numbers = [number for _, number in rows]
    rising = all(a < b for a, b in pairwise(numbers))
    if rising and present <= set(range(1, len(names) + 1)):
        return dict(enumerate(names, start=1))
    if present <= set(numbers) and len(set(numbers)) == len(numbers):
        return dict(zip(numbers, names, strict=True))
    strange = sorted(present - set(range(1, len(names) + 1)))
    raise ServeError(f"the label holds the value {strange[0]}, which label_info does not explain", 422)


def _label_info_rows(info: Any) -> list[tuple[str, int]]:
    """Names and numbers of `label_info` without background and scribbles."""
    if info is None:
        return []
    if not isinstance(info, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in info
    ):
        raise ServeError('label_info must be a list of {"name": ..., "idx": ...}')
    numbers = [row.get("idx", place) for place, row in enumerate(info, start=1)]
    if not all(type(number) is int for number in numbers):
        raise ServeError("label_info: idx must be a whole number")
    return [
        (row["name"], number) for row, number in zip(info, numbers, strict=True) if row["name"] not in _IGNORED_NAMES
    ]


def to_package_labels(labels: Array, names: Mapping[int, str]) -> Array:
    """An exported label map, uint8, in declared values; ServeError names a segment that is no structure."""
    table = np.zeros(256, np.uint8)
    for value in (int(value) for value in np.unique(labels) if value):
        if value not in names:
            raise ServeError(f"the label holds the value {value}, which no name explains", 422)
        table[value] = find_structure(names[value]).label
    return table[labels]


def find_structure(name: str) -> Structure:
    """The structure that a segment's name means; a bare level ("vertebra L3" too) is its body. ServeError for none."""
    try:
        return structure_by_name(name.strip())
    except LumbarsegError:
        meaning = parse_label_name(name)
    try:
        if meaning is None or meaning.partial_kind:
            raise LumbarsegError("no name")
        return structure_by_name(meaning.structures[0])
    except LumbarsegError:
        raise ServeError(
            f"the segment {name!r} is no structure; rename it, for example L3, L3-L4, 'L3 arch' or sacrum, or empty it",
            422,
        ) from None


def align_to_grid(labels: Volume, grid: Grid) -> Volume:
    """A label map voxel for voxel on an exam's grid, axes turned where they run in another order.

    ServeError when it covers other voxels.
    """
    if labels.grid.axis_codes != grid.axis_codes:
        labels = reorient(labels, grid.axis_codes)
    if not labels.grid.same_as(grid, _GRID_TOLERANCE):
        theirs, ours = (" x ".join(map(str, g.shape)) for g in (labels.grid, grid))
        raise ServeError(
            f"the label does not lie on the exam's grid ({theirs} voxels, the exam has {ours}): is it of another exam?",
            422,
        )
    return Volume(labels.array, grid.affine)
