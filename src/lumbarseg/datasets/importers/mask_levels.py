"""Which of the nine lumbar bodies and discs each of several masks is, from its position and thickness."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from lumbarseg.anatomy import LUMBAR_LEVELS, Kind, disc_between, structure_by_name
from lumbarseg.components import Box, bounding_box, connected_components, label_boxes
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array, Grid

from ..label_names import parse_label_name

_DISCS = tuple(disc_between(upper, lower).name for upper, lower in pairwise(LUMBAR_LEVELS))
COLUMN_STRUCTURES: tuple[str, ...] = tuple(
    name for pair in zip(LUMBAR_LEVELS, (*_DISCS, ""), strict=True) for name in pair if name
)
"""The nine structures from top to bottom: a body, the disc below it, the next body."""

_BODY_DISC_THICKNESS = 4.7  # mm: the spread of a body along its shortest axis is above, that of a disc below
_STEP_RANGE = (12.0, 26.0)  # mm from the center of a body to the center of the disc beside it
_MAX_COST = 2.5  # cost from which a mask cannot be the assigned structure
_MIN_COST_MARGIN = 0.5  # by which the best assignment must beat the next
_FILE_NAME_COST = 0.3  # of a file name that says something else
_SPECK_DISTANCE = 20.0  # mm from the rest of a structure at which a component does not belong to it
_SPECK_FRACTION = 0.05  # of the structure: a larger component is kept


@dataclass(frozen=True)
class MaskGeometry:
    """Position and thickness of a mask.

    Attributes
    ----------
    center : RAS mm
    thickness_std : standard deviation of the positions along the shortest axis, mm
    name_in_file : the structure that the file name says, if any
    """

    center: tuple[float, float, float]
    thickness_std: float
    voxels: int
    name_in_file: str | None


def structure_from_file_name(stem: str) -> str | None:
    """Return the structure that a file name says: "L3", "l3_l4", "IVD-L3L4", "L34"; None when it says none of nine."""
    parsed = parse_label_name(re.sub(r"^[Ss]\d{2,}[_-]", "", stem))  # without a subject such as S01
    return parsed.structures[0] if parsed and parsed.structures[0] in COLUMN_STRUCTURES else None


def measure_mask(
    mask: Array, grid: Grid, name_in_file: str | None
) -> tuple[Array, MaskGeometry, list[tuple[int, float]]]:
    """Return a non-empty mask without distant specks, its geometry, and the specks: (voxels, mm from the rest)."""
    box = bounding_box(mask)
    if box is None:
        raise ValueError("an empty mask has no geometry")
    components = connected_components(mask[box], "corners")
    boxes, largest = label_boxes(components.numbers), int(components.sizes.argmax())
    specks = []
    for number in np.flatnonzero(components.sizes < _SPECK_FRACTION * components.sizes[largest])[1:]:
        distance = _box_distance(boxes[number], boxes[largest], grid.spacing)
        if distance > _SPECK_DISTANCE:
            specks.append((int(components.sizes[number]), distance))
            mask = mask.copy()
            mask[box][components.numbers == number] = False
    points = grid.to_world(np.argwhere(mask))
    thickness_std = float(np.sqrt(max(np.linalg.eigvalsh(np.cov(points.T))[0], 0))) if len(points) > 1 else 0.0
    x, y, z = (float(c) for c in points.mean(axis=0))
    return mask, MaskGeometry((x, y, z), thickness_std, len(points), name_in_file), specks


def _box_distance(first: Box, second: Box, spacing: Sequence[float]) -> float:
    """Return the distance between two boxes, mm."""
    gaps = [max(0, a.start - b.stop, b.start - a.stop) for a, b in zip(first, second, strict=True)]
    return float(np.linalg.norm(np.array(gaps) * spacing))


def assign_structures(masks: Sequence[MaskGeometry], location: str) -> list[str]:
    """Return the structure of each mask; masks: from top to bottom.

    DatasetError, which starts with `location`, when the assignment is not clear.
    """
    candidates = combinations(COLUMN_STRUCTURES, len(masks))  # at most 126
    ranked = sorted((_assignment_cost(masks, names), i, names) for i, names in enumerate(candidates))
    cost, _, names = ranked[0]
    if max(_kind_cost(mask, name) for mask, name in zip(masks, names, strict=True)) > _MAX_COST:
        raise DatasetError(
            f"{location}: the {len(masks)} masks are not alternating bodies and discs; are two structures in one file?"
        )
    if len(ranked) > 1 and ranked[1][0] - cost < _MIN_COST_MARGIN:
        raise DatasetError(
            f"{location}: {len(masks)} masks whose levels are not clear; name each file after its structure"
        )
    mirrored = dict(zip(COLUMN_STRUCTURES, reversed(COLUMN_STRUCTURES), strict=True))
    if len(masks) > 2 and [mask.name_in_file for mask in masks] == [mirrored[name] for name in names]:
        raise DatasetError(
            f"{location}: the file names run from foot to head; either they are wrong, or the image is upside down"
        )
    return list(names)


def _assignment_cost(masks: Sequence[MaskGeometry], names: Sequence[str]) -> float:
    """Return how badly masks fit structures: their thickness, the distances between them, and their file names."""
    pairs = list(zip(masks, names, strict=True))
    cost = sum(_kind_cost(mask, name) for mask, name in pairs)
    cost += sum(_FILE_NAME_COST for mask, name in pairs if mask.name_in_file not in (None, name))
    distances = np.linalg.norm(np.diff(np.array([mask.center for mask in masks]), axis=0), axis=1)
    steps = np.diff([COLUMN_STRUCTURES.index(name) for name in names])
    if len(steps) == 0:
        return float(cost)
    usual = float(np.clip(distances.sum() / steps.sum(), *_STEP_RANGE))
    return float(cost + 4 * ((distances / (usual * steps) - 1) ** 2).sum())


def _kind_cost(mask: MaskGeometry, name: str) -> float:
    """Return 0 when a mask is as thick as a structure of its kind."""
    score = np.log(max(mask.thickness_std, 0.3) / _BODY_DISC_THICKNESS) / 0.5
    shortfall = 1 - score if structure_by_name(name).kind is Kind.BODY else 1 + score
    return float(max(0.0, shortfall) ** 2)
