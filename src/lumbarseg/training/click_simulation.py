"""Clicks as a careful person would set them: inside the largest error, on what the reference says is there.

The rule is that of DeepGrow (Sakinis et al., arXiv 1903.08205, 2019) and DeepEdit (Diaz-Pinto et al., arXiv 2305.10655,
2022): find the error that is largest, click deep inside it. Here an error is a voxel whose answer the reference does
not allow; where a reference says nothing, nothing is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, structure_by_label
from lumbarseg.clicks import Click
from lumbarseg.volume import Array, Volume

Index = tuple[int, ...]
_MAX_CANDIDATES = 4  # largest components by voxels, of which the deepest is taken
_MIN_RELATIVE_DEPTH = 0.7  # of the greatest depth: a click is set anywhere deeper than that


def place_click(
    wrong: Array, error_labels: Array, spacing: tuple[float, ...], rng: np.random.Generator, min_voxels: int = 1
) -> Index:
    """A voxel deep inside the largest error; () when there is none of `least` voxels.

    wrong: (...) bool; parts: (...) integer, errors of different value are different errors; spacing: mm. Size is
    counted as the sum of depths: a thin rim about everything is a smaller error than a missing disc.
    """
    best: tuple[float, Array, Index] | None = None
    for box, inside in _largest_errors(wrong, error_labels, min_voxels):
        depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing)
        depth = depth[(slice(1, -1),) * inside.ndim]
        if best is None or depth.sum() > best[0]:
            best = float(depth.sum()), depth, tuple(side.start for side in box)
    if best is None:
        return ()
    _, depth, corner = best
    deep = np.argwhere(depth >= _MIN_RELATIVE_DEPTH * depth.max())
    return tuple(int(c + d) for c, d in zip(corner, deep[rng.integers(len(deep))], strict=True))


def _largest_errors(wrong: Array, error_labels: Array, min_voxels: int) -> list[tuple[tuple[slice, ...], Array]]:
    """The largest connected errors: the box of each, and which of its voxels belong to it."""
    found = []
    for value in np.unique(error_labels[wrong]):
        pieces, count = ndimage.label(wrong & (error_labels == value))
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        boxes = ndimage.find_objects(pieces)
        for number in range(1, count + 1):
            if sizes[number] >= min_voxels:
                box = boxes[number - 1]
                found.append((int(sizes[number]), box, pieces[box] == number))
    found.sort(key=lambda row: -row[0])
    return [(box, inside) for _, box, inside in found[:_MAX_CANDIDATES]]


def simulate(
    found: Volume, truth: Volume, table: Mapping[int, Iterable[str]], rng: np.random.Generator
) -> Click | None:
    """The click that a person would set next on an answered exam; None when nothing is wrong.

    found: uint8 in the table of structures' values; truth: uint8 on the same grid, `table` says what its values may be.
    Where something is missing or has a wrong name, the click names the right structure; where something is too much, it
    says that this structure is not there.
    """
    names = {value: frozenset(row) for value, row in table.items()}
    allowed = np.array([_labels(names.get(value, frozenset({"background"}))) for value in range(256)])
    wrong = ~allowed[truth.array, found.array]
    behind = np.array([bool(names.get(value, {"background"}) & {"background"}) for value in range(256)])
    parts = truth.array.astype(np.int32) * 256 + np.where(behind[truth.array], found.array, 0)
    at = place_click(wrong, parts, found.grid.spacing, rng)
    if not at:
        return None
    x, y, z = (float(value) for value in found.grid.to_world(np.array(at)))
    value = int(truth.array[at])
    if behind[value]:
        return Click((x, y, z), structure_by_label(int(found.array[at])).name, positive=False)
    return Click((x, y, z), _chosen(names[value], found, at))


def _labels(names: frozenset[str]) -> Array:
    """(256,) bool: label values that a set of names allows."""
    out = np.full(256, "unknown" in names)
    out[0] |= bool(names & {"background"})
    for structure in STRUCTURES:
        out[structure.label] |= structure.name in names or structure.kind in names
    return out


def _chosen(names: frozenset[str], found: Volume, at: Index) -> str:
    """Of the structures that a voxel may be ("vertebra" is body or posterior elements), the one found nearest to it."""
    order = sorted(names, key=lambda name: CLASSES.index(_kind(name)))
    if len(order) == 1:
        return order[0]
    reach = [max(1, round(20 / step)) for step in found.grid.spacing]
    box = tuple(slice(max(0, a - r), a + r + 1) for a, r in zip(at, reach, strict=True))
    inside = found.array[box]
    here = np.array([a - side.start for a, side in zip(at, box, strict=True)])

    def away(name: str) -> float:
        voxels = np.argwhere(np.isin(inside, sorted(Click((0.0, 0.0, 0.0), name).labels)))
        return float(np.linalg.norm((voxels - here) * found.grid.spacing, axis=1).min()) if len(voxels) else np.inf

    return min(order, key=away)


def _kind(name: str) -> Kind:
    return Click((0.0, 0.0, 0.0), name).kind
