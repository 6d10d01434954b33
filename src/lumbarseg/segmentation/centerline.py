"""The column as a curve: where a voxel lies along it and about it.

Everything is on the network's grid; points are (slice, anterior, up) in mm of that grid, not of the scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.volume import Array

BODY, DISC, CANAL, SACRUM, ARCH = (CLASSES.index(k) for k in (Kind.BODY, Kind.DISC, Kind.CANAL, Kind.SACRUM, Kind.ARCH))

MAX_DISTANCE = 45.0  # mm from the curve; beyond it nothing is body or disc of this column
CORE_RADIUS = 11.0  # mm from the curve, where bodies and discs follow each other undisturbed by rims and osteophytes
_SMOOTHING = 9.0  # mm along the curve
_MAX_GAP = 24.0  # mm without body or disc that the column may have


@dataclass(frozen=True, eq=False)
class CurveCoordinates:
    """Where voxels lie, each (m,) mm. along: the column; front, side: off its curve, forward and sideways."""

    along: Array
    anterior: Array
    lateral: Array

    @property
    def distance(self) -> Array:
        """Distance from the curve."""
        return np.hypot(self.anterior, self.lateral)


@dataclass(frozen=True, eq=False)
class Centerline:
    """points: (n, 3) mm, one per mm of height from the lowest upward; at: (n,) length along the curve, mm, rising."""

    points: Array
    arc_length: Array

    def point_at(self, along: float) -> Array:
        """(3,) mm, the place at a length along the curve."""
        return np.array([np.interp(along, self.arc_length, axis) for axis in self.points.T])

    def project(self, voxels: Array, spacing: Array) -> tuple[Array, Array]:
        """voxels: (m, 3) indices to the length along the curve of their nearest place and the distance from it, mm."""
        places = self.curve_coordinates(voxels, spacing)
        return places.along, places.distance

    def curve_coordinates(self, voxels: Array, spacing: Array) -> CurveCoordinates:
        """Where voxels, (m, 3) indices, lie about the curve.

        From the place at a voxel's own height it slides along the tangent to the foot of the perpendicular; the curve
        is so smooth that three steps find it to a tenth of a millimetre.
        """
        where = (voxels * spacing).astype(np.float32)
        points, at = self.points.astype(np.float32), self.arc_length.astype(np.float32)
        tangents = np.gradient(points, at, axis=0).astype(np.float32)
        tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
        side = np.array([1, 0, 0], np.float32) - tangents[:, :1] * tangents
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        front = np.cross(tangents, side)
        along = np.interp(where[:, 2], points[:, 2], at).astype(np.float32)
        for _ in range(3):
            index = np.clip(np.searchsorted(at, along), 0, len(at) - 1)
            along = at[index] + ((where - points[index]) * tangents[index]).sum(axis=1)
        index = np.clip(np.searchsorted(at, along), 0, len(at) - 1)
        off = where - points[index]
        return CurveCoordinates(along, (off * front[index]).sum(axis=1), (off * side[index]).sum(axis=1))


def fit_centerline(classes: Array, spacing: Array) -> Centerline | None:
    """The curve through the bodies and discs of a class map (slices, A, S); None when there is no column.

    The middle of what is body or disc at each height, smoothed, twice: the second time without what lies far away. It
    goes on straight at both ends, so that the sacrum and cut vertebrae have a place along it, too.
    """
    mask = (classes == BODY) | (classes == DISC)
    curve = None
    for _ in range(2):
        curve = _row_centers(mask, spacing)
        if curve is None:
            return None
        here = curve[np.clip(np.arange(mask.shape[2]) - int(curve[0, 2]), 0, len(curve) - 1)]
        far = np.abs(np.arange(mask.shape[1])[:, None] * spacing[1] - here[None, :, 1]) > MAX_DISTANCE
        mask = mask & ~far[None]
    assert curve is not None
    return extend_centerline(curve)


def extend_centerline(curve: Array) -> Centerline:
    """A curve of (n, 3) mm, one place per mm of height, going on straight for 80 mm at both ends."""
    ends = [np.polynomial.polynomial.polyfit(np.arange(len(p)), p, 1)[1] for p in (curve[:25], curve[-25:])]
    steps = np.arange(1, 81)[:, None]
    points = np.concatenate([curve[0] - ends[0] * steps[::-1], curve, curve[-1] + ends[1] * steps])
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return Centerline(points, np.concatenate([[0.0], np.cumsum(lengths)]))


def _row_centers(mask: Array, spacing: Array) -> Array | None:
    """(n, 3) mm, one place per row of height that holds the column, gaps closed; None when it is too short."""
    count = mask.sum(axis=(0, 1))
    if not count.any():
        return None
    filled = count > 0.15 * np.percentile(count[count > 0], 80)
    near, _ = ndimage.label(ndimage.binary_dilation(filled, np.ones(3), iterations=round(_MAX_GAP / 2 / spacing[2])))
    longest = np.bincount(near, count * filled)[1:].argmax() + 1
    rows = np.flatnonzero(filled & (near == longest))
    if len(rows) * spacing[2] < 25:
        return None
    planes = mask[:, :, rows].astype(np.float32)
    total = planes.sum(axis=(0, 1))
    slices = (planes.sum(axis=1) * np.arange(len(mask))[:, None]).sum(axis=0) / total * spacing[0]
    front = (planes.sum(axis=0) * np.arange(mask.shape[1])[:, None]).sum(axis=0) / total * spacing[1]
    every = np.arange(rows.min(), rows.max() + 1)
    points = [np.interp(every, rows, values) for values in (slices, front)] + [every * spacing[2]]
    smooth = [ndimage.gaussian_filter1d(p, _SMOOTHING / spacing[2], mode="nearest") for p in points[:2]]
    return np.stack([*smooth, points[2]], axis=1)
