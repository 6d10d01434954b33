"""Which of the nine lumbar bodies and discs each of a number of masks is, from where it lies and how thick it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import LUMBAR_LEVELS, Kind, disc_between, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array, Grid

COLUMN_STRUCTURES: tuple[str, ...] = tuple(
    name
    for upper, lower in zip(LUMBAR_LEVELS, (*LUMBAR_LEVELS[1:], None), strict=True)
    for name in ((upper, disc_between(upper, lower).name) if lower else (upper,))
)
"""The nine structures from top to bottom: a body, the disc below it, the next body."""

Box = tuple[slice, slice, slice]

_BODY_DISC_THICKNESS = 4.7  # mm: the spread of a body along its shortest axis is above, that of a disc below
_STEP_RANGE = (12.0, 26.0)  # mm from the middle of a body to the middle of the disc beside it
_MAX_COST = 2.5  # cost from which a mask cannot be what its place says
_MIN_COST_MARGIN = 0.5  # by which the best reading must beat the next
_FILE_NAME_COST = 0.3  # cost of a file's name that says something else
_SPECK_DISTANCE = 20.0  # mm from the rest of a structure at which a piece is none of it
_SPECK_FRACTION = 0.05  # of the structure: a larger piece is left alone


@dataclass(frozen=True)
class MaskGeometry:
    """A mask in the column. centre: RAS mm; spread: standard deviation along its shortest axis, mm.

    said: the structure that the file's name says, if any; box: where its voxels are.
    """

    centre: tuple[float, float, float]
    thickness_std: float
    voxels: int
    box: Box
    name_in_file: str | None


def structure_from_file_name(stem: str) -> str | None:
    """The structure that a file's name says: "L3", "l3_l4", "IVD-L3L4", "L34"; None when it says none."""
    levels = [
        f"L{digit}" for run in re.findall(r"(?<![A-Za-z])[Ll](\d{1,2})(?!\d)", _separate_levels(stem)) for digit in run
    ]
    disc = re.search(r"dis[ck]|ivd|T12|S1$", stem, re.IGNORECASE)  # or a neighbour that is none of the nine
    if len(levels) == 1 and levels[0] in LUMBAR_LEVELS and not disc:
        return levels[0]
    if (
        len(levels) == 2
        and set(levels) <= set(LUMBAR_LEVELS)
        and LUMBAR_LEVELS.index(levels[1]) - LUMBAR_LEVELS.index(levels[0]) == 1
    ):
        return disc_between(*levels).name
    return None


def _separate_levels(stem: str) -> str:
    """ "L3L4" with a gap between its levels."""
    return re.sub(r"(?<=\d)(?=[Ll]\d)", " ", stem)


def measure_mask(
    mask: Array, grid: Grid, name_in_file: str | None
) -> tuple[Array, MaskGeometry, list[tuple[int, float]]]:
    """The mask without pieces that lie far away, its place, and those pieces: (voxels, mm from the rest)."""
    box = _bounding_box(mask)
    parts, count = ndimage.label(mask[box], np.ones((3, 3, 3)))
    pieces = []
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        boxes = ndimage.find_objects(parts)
        main = int(sizes.argmax())
        for i in np.flatnonzero(sizes < _SPECK_FRACTION * sizes[main]):
            distance = _box_distance(boxes[i], boxes[main], grid.spacing)
            if distance > _SPECK_DISTANCE:
                pieces.append((int(sizes[i]), distance))
                parts[parts == i + 1] = 0
        if pieces:
            mask = mask.copy()
            mask[box] = parts > 0
            box = _bounding_box(mask)
    voxels = np.argwhere(mask[box]) + [s.start for s in box]
    points = grid.to_world(voxels)
    spread = float(np.sqrt(max(np.linalg.eigvalsh(np.cov(points.T))[0], 0))) if len(points) > 1 else 0.0
    x, y, z = (float(c) for c in points.mean(axis=0))
    return mask, MaskGeometry((x, y, z), spread, len(points), box, name_in_file), pieces


def _bounding_box(mask: Array) -> Box:
    first, second, third = (
        slice(int(hit[0]), int(hit[-1]) + 1)
        for axes in ((1, 2), (0, 2), (0, 1))
        for hit in (np.flatnonzero(mask.any(axis=axes)),)
    )
    return first, second, third


def _box_distance(first: Box, second: Box, spacing: Sequence[float]) -> float:
    """Distance between two boxes, mm."""
    apart = [max(0, a.start - b.stop, b.start - a.stop) for a, b in zip(first, second, strict=True)]
    return float(np.linalg.norm(np.array(apart) * spacing))


def assign_structures(masks: Sequence[MaskGeometry], location: str) -> list[str]:
    """The structure of each part, parts from top to bottom; DatasetError, opened by `where`, when it cannot be told."""
    chosen = [
        (_assignment_cost(masks, slots), slots) for slots in combinations(range(len(COLUMN_STRUCTURES)), len(masks))
    ]  # at most 126 readings
    chosen.sort()
    cost, slots = chosen[0]
    worst = max(_kind_cost(part, COLUMN_STRUCTURES[slot]) for part, slot in zip(masks, slots, strict=True))
    if worst > _MAX_COST:
        raise DatasetError(
            f"{location}: the {len(masks)} masks are no bodies and discs by turns; are two structures in one file?"
        )
    if len(chosen) > 1 and chosen[1][0] - cost < _MIN_COST_MARGIN:
        raise DatasetError(
            f"{location}: {len(masks)} masks, and which levels they are cannot be told; name each file after its structure"
        )
    names = [COLUMN_STRUCTURES[slot] for slot in slots]
    said = [part.name_in_file for part in masks]
    if len(masks) > 2 and said == [_mirrored_structure(name) for name in names]:
        raise DatasetError(
            f"{location}: the files' names run from foot to head; either they are wrong, or the image is upside down"
        )
    return names


def _mirrored_structure(name: str) -> str:
    return COLUMN_STRUCTURES[len(COLUMN_STRUCTURES) - 1 - COLUMN_STRUCTURES.index(name)]


def _assignment_cost(parts: Sequence[MaskGeometry], slots: tuple[int, ...]) -> float:
    """How badly parts fit into slots: their thickness, the distances between them, and their files' names."""
    total = sum(_kind_cost(part, COLUMN_STRUCTURES[slot]) for part, slot in zip(parts, slots, strict=True))
    total += sum(
        _FILE_NAME_COST
        for part, slot in zip(parts, slots, strict=True)
        if part.name_in_file not in (None, COLUMN_STRUCTURES[slot])
    )
    centres = np.array([part.centre for part in parts])
    distances = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    steps = np.diff(slots)
    if len(steps) == 0:
        return float(total)
    usual = float(np.clip(distances.sum() / steps.sum(), *_STEP_RANGE))
    return float(total + 4 * ((distances / (usual * steps) - 1) ** 2).sum())


def _kind_cost(part: MaskGeometry, name: str) -> float:
    """0 when it is as thick as its kind is."""
    score = np.log(max(part.thickness_std, 0.3) / _BODY_DISC_THICKNESS) / 0.5
    short = 1 - score if structure_by_name(name).kind is Kind.BODY else 1 + score
    return float(max(0.0, short) ** 2)
