"""Tissue classes taken apart into single vertebral bodies, discs and posterior elements, in the order of the column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lumbarseg.volume import Array

from .column import ARCH, BODY, CORE, DISC, REACH, SACRUM, Column, cuts, profile, trace

_WHOLE = 0.85  # a piece of which this share lies between two discs belongs there as a whole
_SLIVER = 0.04  # of the usual body's volume: less is no vertebra
_PEDICLE = 26.0  # mm from the column's middle to the pedicles
_HANG = 1 / 65.0  # of a level per mm further back
_IN_PLANE = ndimage.generate_binary_structure(3, 1) & np.array([[[False]], [[True]], [[False]]])


@dataclass(frozen=True, eq=False)
class Instances:
    """bodies, arches: (slices, A, S) uint8, 1 for the lowest body, rising; discs: disc n lies below body n.

    sacrum: (slices, A, S) bool; at: mm along the column of each body's middle.
    """

    count: int
    bodies: Array
    discs: Array
    arches: Array
    sacrum: Array
    column: Column
    at: tuple[float, ...]


def split(classes: Array, spacing: Array) -> Instances | None:
    """Take a class map (slices, A, S) apart; spacing: (3,) mm. None when it shows no column."""
    column = trace(classes, spacing)
    if column is None:
        return None
    voxels = np.argwhere((classes == BODY) | (classes == DISC) | (classes == SACRUM))
    along, away = column.project(voxels, spacing)
    kinds = classes[tuple(voxels.T)]
    places = cuts(*profile(along, away, kinds, int(column.at[-1]) + 2))
    segments, places = _without_slivers(along, away, kinds, places)
    low, high = _occupied(segments, kinds, away)
    if high < low:
        return None
    between = _painted(classes.shape, voxels, segments + 1, (kinds == BODY) & (away < REACH))
    between = _whole_pieces(between)
    bodies = np.where((between > low) & (between <= high + 1), between - low, 0).astype(np.uint8)
    stray = (between > 0) & (between <= low)  # the top of S1, taken for a body
    count = high - low + 1
    discs = np.zeros_like(bodies)
    if places:
        nearest = np.abs(along[:, None] - np.array(places)).argmin(axis=1)
        found = _painted(classes.shape, voxels, nearest + 1, (kinds == DISC) & (away < REACH))
        found = _whole_pieces(found).astype(int)  # disc j of `places`, from 1, lies below segment j
        discs = np.where(found > 0, np.clip(found - low + 1, 0, count + 1), 0).astype(np.uint8)
    at = _middles(bodies, count, column, spacing)
    arches = _arches(classes == ARCH, at, column, spacing)
    return Instances(count, bodies, discs, arches, (classes == SACRUM) | stray, column, at)


def _painted(shape: tuple[int, ...], voxels: Array, numbers: Array, where: Array) -> Array:
    out = np.zeros(shape, np.uint8)
    out[tuple(voxels[where].T)] = numbers[where]
    return out


def _without_slivers(along: Array, away: Array, kinds: Array, places: list[int]) -> tuple[Array, list[int]]:
    """The segment of each voxel, 0 below the lowest disc; a place with next to nothing above it is given up."""
    while True:
        segments = np.searchsorted(places, along)
        volumes = np.bincount(segments[(kinds == BODY) & (away < REACH)], minlength=len(places) + 1)
        usual = np.median(volumes[volumes > 0]) if (volumes > 0).any() else 0
        empty = [s for s in range(1, len(places)) if volumes[s] < _SLIVER * usual]
        if not empty:
            return segments, places
        places = places[: empty[0]] + places[empty[0] + 1 :]


def _occupied(segments: Array, kinds: Array, away: Array) -> tuple[int, int]:
    """First and last segment that hold a vertebral body; below the first may be the sacrum."""
    count = int(segments.max()) + 1 if len(segments) else 0
    core = away < CORE  # the wings of the sacrum reach up beside the lowest vertebra
    volumes = np.bincount(segments[core & (kinds == BODY)], minlength=count)
    sacral = np.bincount(segments[core & (kinds == SACRUM)], minlength=count)
    usual = np.median(volumes[volumes > 0]) if (volumes > 0).any() else 0
    real = np.flatnonzero((volumes > max(_SLIVER * usual, 1)) & (volumes > sacral))
    return (int(real[0]), int(real[-1])) if len(real) else (1, 0)


def _whole_pieces(numbers: Array) -> Array:
    """Pieces that lie almost wholly in one segment get its number throughout; pieces across two stay cut."""
    pieces, count = ndimage.label(numbers > 0)
    if not count:
        return numbers
    votes = np.zeros((count + 1, int(numbers.max()) + 1), int)
    inside = pieces > 0
    np.add.at(votes, (pieces[inside], numbers[inside]), 1)
    sizes = votes.sum(axis=1)
    top = votes.argmax(axis=1)
    sure = votes.max(axis=1) >= _WHOLE * np.maximum(sizes, 1)
    biggest = np.zeros(votes.shape[1], int)
    np.maximum.at(biggest, top, sizes)
    specks = sizes < 0.02 * biggest[top]  # of the largest piece of the same number
    lookup = np.where(sure, top, 0)
    out = np.where(sure[pieces], lookup[pieces], numbers)
    return np.where(specks[pieces], 0, out).astype(np.uint8)


def centres(numbers: Array, count: int) -> Array:
    """(count, 3) voxel coordinates of the centre of each of the instances 1..count; nan for one without voxels."""
    voxels = np.nonzero(numbers)
    of = numbers[voxels]
    size = np.bincount(of, minlength=count + 1)[1 : count + 1].astype(float)
    size[size == 0] = np.nan
    return np.stack([np.bincount(of, axis, minlength=count + 1)[1 : count + 1] / size for axis in voxels], axis=1)


def _middles(bodies: Array, count: int, column: Column, spacing: Array) -> tuple[float, ...]:
    """Where the middle of each body lies along the column, mm; a missing one between its neighbours."""
    places = centres(bodies, count)
    known = np.flatnonzero(np.isfinite(places[:, 0]))
    along, _ = column.project(places[known], spacing)
    return tuple(np.interp(np.arange(count), known, along).tolist())


def _arches(mask: Array, at: tuple[float, ...], column: Column, spacing: Array) -> Array:
    """Posterior elements, slice by slice: each piece goes to the body it hangs from.

    The further behind the column a piece lies, the lower it hangs: pedicles stand on the upper half of their body,
    spinous processes reach the disc below. A piece that spans two levels is cut along the column.
    """
    out = np.zeros(mask.shape, np.uint8)
    pieces, count = ndimage.label(mask, structure=_IN_PLANE)
    if not count:
        return out
    voxels = np.argwhere(mask)
    along, away = column.project(voxels, spacing)
    piece = pieces[tuple(voxels.T)]
    pitch = float(np.median(np.diff(at))) if len(at) > 1 else 34.0
    level = along + pitch * np.clip((away - _PEDICLE) * _HANG, 0, 0.5)
    size = np.maximum(np.bincount(piece), 1)
    mean = np.bincount(piece, level) / size
    spread = np.sqrt(np.bincount(piece, (level - mean[piece]) ** 2) / size)
    place = np.where(spread[piece] < 0.36 * pitch, mean[piece], level)
    nearest = np.abs(place[:, None] - np.array(at)).argmin(axis=1)
    fits = np.abs(place - np.array(at)[nearest]) < 0.8 * pitch
    out[tuple(voxels.T)] = np.where(fits, nearest + 1, 0)
    return out
