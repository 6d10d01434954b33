"""Overrides for clicks that the network did not follow: a small ball about each gets the label that the user set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.clicks import Click, click_positions
from lumbarseg.errors import SegmentError
from lumbarseg.volume import Array, Grid

from .label_map import check_level_order

OVERRIDE_RADIUS = 3.0
"""mm about a click that the network did not follow."""
_MAX_NEIGHBOUR_DISTANCE = 20.0  # mm within which a click on a kind ("disc") takes the label of a structure of that kind


def apply_click_overrides(
    labels: Array, previous: Array, clicks: Sequence[Click], grid: Grid
) -> tuple[Array, tuple[str, ...]]:
    """Return a label map in which every click's voxel has the label of the click, and notes on each override.

    Where two balls meet, each voxel belongs to the nearer click. An override that would leave a gap in the level order
    is skipped, with a note.

    Parameters
    ----------
    labels, previous : (I, J, K) uint8 after and before the clicks
    grid : of the label maps
    """
    out, notes = labels.copy(), []
    positions = click_positions(clicks, grid)
    for number, click in enumerate(clicks):
        voxel = tuple(int(v) for v in np.rint(positions[number]))
        if (int(out[voxel]) in click.labels) == click.positive:
            continue
        label = _label_near_click(click, out, previous, voxel, grid)
        overridden = out.copy()
        if label is not None:
            ball = _voxels_near_click(number, positions, grid)
            if not click.positive:
                ball = tuple(axis[np.isin(out[ball], sorted(click.labels))] for axis in ball)
            overridden[ball] = overridden[voxel] = label
        if label is None or _breaks_level_order(overridden):
            notes.append(f"the click {click.describe()} was ignored: no such structure can lie there")
            continue
        out = overridden
        notes.append(
            f"the network did not follow the click {click.describe()}: {OVERRIDE_RADIUS:g} mm about it were overridden"
        )
    return out, tuple(notes)


def _label_near_click(click: Click, labels: Array, previous: Array, voxel: tuple[int, ...], grid: Grid) -> int | None:
    """Return the label that the voxels near a click get; None when no label of the click is near."""
    if not click.positive:
        before = int(previous[voxel])
        return 0 if before in click.labels or click.kind is Kind.BACKGROUND else before
    if len(click.labels) == 1:
        return next(iter(click.labels))
    candidates = np.argwhere(np.isin(labels, sorted(click.labels)))
    if not len(candidates):
        return None
    distance = np.linalg.norm((candidates - np.array(voxel)) * grid.spacing, axis=1)
    nearest = int(labels[tuple(candidates[distance.argmin()])])
    return nearest if distance.min() <= _MAX_NEIGHBOUR_DISTANCE else None


def _voxels_near_click(number: int, positions: Array, grid: Grid) -> tuple[Array, ...]:
    """Return the voxels within `OVERRIDE_RADIUS` of a click that are nearer to it than to any other click."""
    spacing, position = np.array(grid.spacing), positions[number]
    low = np.maximum(0, np.floor(position - OVERRIDE_RADIUS / spacing)).astype(int)
    high = np.minimum(grid.shape, np.ceil(position + OVERRIDE_RADIUS / spacing) + 1).astype(int)
    voxels = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), -1).reshape(-1, 3)
    distance = np.linalg.norm((voxels[:, None] - positions[None]) * spacing, axis=2)  # (voxels, clicks)
    return tuple(voxels[(distance[:, number] <= OVERRIDE_RADIUS) & (distance.argmin(axis=1) == number)].T)


def _breaks_level_order(labels: Array) -> bool:
    try:
        check_level_order(labels)
    except SegmentError:
        return True
    return False
