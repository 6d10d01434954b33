"""Clicks that the network did not follow: what the person said is set in a small ball about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.clicks import Click
from lumbarseg.errors import SegmentError
from lumbarseg.volume import Array, Grid

from .label_map import check_level_order

OVERRIDE_RADIUS = 3.0
"""mm about a click that the network did not follow."""
_MAX_NEIGHBOUR_DISTANCE = 20.0  # mm within which a click on a kind ("disc") takes the name of one that is there


def apply_click_overrides(
    labels: Array, previous: Array, clicks: Sequence[Click], grid: Grid
) -> tuple[Array, tuple[str, ...]]:
    """A label map in which every click's voxel is what the click says, and notes on where that took force.

    labels, before: (I, J, K) uint8 after and before the clicks. Where two balls meet, each voxel belongs to the nearer
    click. What would leave a gap in the order of the column is not done, and noted.
    """
    out, remarks = labels.copy(), []
    points = np.clip(grid.to_index(np.array([c.point for c in clicks])), 0, np.array(grid.shape) - 1)
    voxels = [tuple(int(v) for v in row) for row in np.rint(points)]
    for number, (click, voxel) in enumerate(zip(clicks, voxels, strict=True)):
        if (int(out[voxel]) in click.labels) == click.positive:
            continue
        ball = _voxels_near_click(number, points, grid)
        value = _override_label(click, out, previous, voxel, grid)
        if not click.positive:
            ball = tuple(axis[np.isin(out[ball], sorted(click.labels))] for axis in ball)
        done = out.copy()
        if value is not None:
            done[ball] = value
            done[voxel] = value
        if value is None or _breaks_level_order(done):
            remarks.append(f"the click {click.describe()} could not be followed: no such structure can lie there")
            continue
        out = done
        remarks.append(
            f"the network did not follow the click {click.describe()}: {OVERRIDE_RADIUS:g} mm about it are set by hand"
        )
    return out, tuple(remarks)


def _override_label(click: Click, labels: Array, before: Array, voxel: tuple[int, ...], grid: Grid) -> int | None:
    """The label that a ball gets; None when there is none to choose."""
    if not click.positive:
        here = int(before[voxel])
        return 0 if here in click.labels or click.kind is Kind.BACKGROUND else here
    if len(click.labels) == 1:
        return next(iter(click.labels))
    places = np.argwhere(np.isin(labels, sorted(click.labels)))
    if not len(places):
        return None
    away = np.linalg.norm((places - np.array(voxel)) * grid.spacing, axis=1)
    return int(labels[tuple(places[away.argmin()])]) if away.min() <= _MAX_NEIGHBOUR_DISTANCE else None


def _voxels_near_click(number: int, points: Array, grid: Grid) -> tuple[Array, ...]:
    """Voxels within `OVERRIDE_RADIUS` of a click and nearer to it than to any other."""
    spacing, place = np.array(grid.spacing), points[number]
    low = np.maximum(0, np.floor(place - OVERRIDE_RADIUS / spacing)).astype(int)
    high = np.minimum(grid.shape, np.ceil(place + OVERRIDE_RADIUS / spacing) + 1).astype(int)
    voxels = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1).reshape(-1, 3)
    away = np.linalg.norm((voxels[:, None] - points[None]) * spacing, axis=2)  # (voxels, clicks)
    chosen = voxels[(away[:, number] <= OVERRIDE_RADIUS) & (away.argmin(axis=1) == number)]
    return tuple(chosen.T)


def _breaks_level_order(labels: Array) -> bool:
    """Whether a label map breaks the order of the column."""
    try:
        check_level_order(labels)
    except SegmentError:
        return True
    return False
