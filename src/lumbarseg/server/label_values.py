"""Convert label maps between three kinds of values.

Package values are those of the table of structures (L1-L2 to L4-L5 are 6 to 9); labels are stored with them. Positions
are 1..N in the order of a list of names: 3D Slicer reads value n of a result as the n-th of its `label_names`. Exported
values are those of a label that a client sends: 3D Slicer numbers the exported segments 1..n, whatever they are, and
sends their names (`label_info`). So names decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from lumbarseg.anatomy import LEVELS, LUMBAR_LEVELS, STRUCTURES, Kind, Structure, arch_of_level, structure_by_name
from lumbarseg.datasets.label_names import parse_label_name
from lumbarseg.datasets.monailabel_datastore import parse_label_info
from lumbarseg.datasets.schemes import disc_below
from lumbarseg.errors import LumbarsegError, ServeError
from lumbarseg.io.seg_nrrd import Segment
from lumbarseg.resampling import reorient
from lumbarseg.terminology import structure_codes
from lumbarseg.volume import Array, Grid, Volume, count_labels

_LEVEL_ABOVE_LUMBAR_LEVELS = LEVELS[LEVELS.index(LUMBAR_LEVELS[0]) - 1]
_OFFERED_NAMES = {
    *(name for level in (_LEVEL_ABOVE_LUMBAR_LEVELS, *LUMBAR_LEVELS) for name in (level, disc_below(level))),
    *(arch_of_level(level).name for level in LUMBAR_LEVELS),
}
_GRID_TOLERANCE = 0.05  # mm that a header written by another program may be off
_IGNORED_NAMES = {"background", "foreground_scribbles", "background_scribbles"}


def offered_structures(kinds: Iterable[Kind]) -> tuple[str, ...]:
    """Return the names of the lumbar structures of these kinds, in the order of their values."""
    kinds = set(kinds)
    structures = sorted((s for s in STRUCTURES if s.kind in kinds), key=lambda s: s.label)
    return tuple(s.name for s in structures if s.name in _OFFERED_NAMES or s.kind in (Kind.SACRUM, Kind.CANAL))


def result_structures(labels: Array, names: Sequence[str]) -> tuple[str, ...]:
    """Return `names`, followed by the other structures of a label map in package values, in the order of their values.

    OHIF reads value n of a result as the n-th name that the model offers, so these come first.
    """
    counts = count_labels(labels)
    others = {s.name for s in STRUCTURES if counts[s.label]} - set(names)
    return (*names, *sorted(others, key=lambda name: structure_by_name(name).label))


def described_segment(structure: Structure) -> Segment:
    """Return a structure as a segment with name, colour and codes."""
    return Segment(structure.label, structure.name, structure.colour, structure_codes(structure))


def encode_by_position(labels: Array, names: Sequence[str]) -> Array:
    """Convert package values, uint8, to positions in `names`, 1..N."""
    table = np.zeros(256, np.uint8)
    for position, name in enumerate(names, start=1):
        table[structure_by_name(name).label] = position
    return table[labels]


def resolve_label_names(label_info: Any, labels: Array) -> dict[int, str]:
    """Return the name of each value of an exported label map.

    label_info: a list of {"name", "idx"}, or None for package values. The n-th name is that of value n, because 3D
    Slicer exports so; its `idx` also counts segments that were left out and is used only where positions do not fit.

    Raises DatasetError when the list is malformed, ServeError when it does not explain every value.
    """
    rows = parse_label_info(label_info, "the label") if label_info is not None else []
    rows = [row for row in rows if row[0] not in _IGNORED_NAMES]
    if not rows:
        return {s.label: s.name for s in STRUCTURES}
    present = {int(value) for value in np.unique(labels)} - {0}
    names, numbers = zip(*rows, strict=True)
    positions = dict(enumerate(names, start=1))
    is_rising = all(first < second for first, second in pairwise(numbers))
    if is_rising and present <= set(positions):
        return positions
    if present <= set(numbers) and len(set(numbers)) == len(numbers):
        return dict(zip(numbers, names, strict=True))
    unexplained = min(present - set(positions) or present)
    raise ServeError(f"the label holds the value {unexplained}, which label_info does not explain", 422)


def to_package_labels(labels: Array, names: Mapping[int, str]) -> Array:
    """Convert an exported label map, uint8, to package values; ServeError names a segment that is no structure."""
    table = np.zeros(256, np.uint8)
    for value in (int(value) for value in np.unique(labels) if value):
        if value not in names:
            raise ServeError(f"the label holds the value {value}, which has no name", 422)
        table[value] = find_structure(names[value]).label
    return table[labels]


def find_structure(name: str) -> Structure:
    """Return the structure of a segment name; a level alone ("vertebra L3") is its body. ServeError for none."""
    try:
        return structure_by_name(name.strip())
    except LumbarsegError:
        meaning = parse_label_name(name)
    try:
        if meaning is not None and not meaning.partial_kind:
            return structure_by_name(meaning.structures[0])
    except LumbarsegError:
        pass  # a name of several structures
    raise ServeError(f"the segment {name!r} is no structure; rename it, for example to L3-L4, or empty it", 422)


def align_to_grid(labels: Volume, grid: Grid) -> Volume:
    """Return a label map on an exam's grid, with its axes reordered where needed; ServeError for another grid."""
    if labels.grid.axis_codes != grid.axis_codes:
        labels = reorient(labels, grid.axis_codes)
    if not labels.grid.same_as(grid, _GRID_TOLERANCE):
        label_size, exam_size = (" x ".join(map(str, g.shape)) for g in (labels.grid, grid))
        sizes = f"{label_size} voxels, the exam has {exam_size}"
        raise ServeError(f"the label is not on the exam's grid ({sizes}): does it belong to another exam?", 422)
    return Volume(labels.array, grid.affine)
