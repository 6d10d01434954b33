"""The centerline of the spine: a curve through vertebral bodies and discs, and coordinates about it.

All points are (slice, anterior, superior) in mm of the network grid, not of the scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.components import connected_components
from lumbarseg.volume import Array

BODY, DISC, CANAL, SACRUM, ARCH = (CLASSES.index(k) for k in (Kind.BODY, Kind.DISC, Kind.CANAL, Kind.SACRUM, Kind.ARCH))

MAX_DISTANCE = 45.0  # mm from the curve; beyond it nothing is body or disc of this spine
CORE_RADIUS = 11.0  # mm from the curve, where rims and osteophytes do not disturb the sequence of bodies and discs
_SMOOTHING = 9.0  # mm along the curve
_MAX_GAP = 24.0  # mm without body or disc that the spine may have
_EXTENSION = 80  # mm by which the curve is continued straight at both ends


@dataclass(frozen=True, eq=False)
class CurveCoordinates:
    """Positions of voxels relative to the centerline, each (m,) mm."""

    along: Array
    anterior: Array
    lateral: Array
    distance: Array


@dataclass(frozen=True, eq=False)
class Centerline:
    """A curve through the spine.

    Attributes
    ----------
    points : (n, 3) mm, one for each row of height from the lowest upward
    arc_length : (n,) mm along the curve, rising
    """

    points: Array
    arc_length: Array

    def point_at(self, along: float) -> Array:
        """Return the point at an arc length, (3,) mm."""
        return np.array([np.interp(along, self.arc_length, axis) for axis in self.points.T])

    def curve_coordinates(self, voxels: Array, spacing: Array) -> CurveCoordinates:
        """Compute the position of each voxel relative to the curve.

        From the curve point at a voxel's own height, slide along the tangent to the foot of the perpendicular; the
        curve is so smooth that three iterations find it to a tenth of a millimetre.

        Parameters
        ----------
        voxels : (m, 3) indices
        spacing : (3,) mm
        """
        position = (voxels * spacing).astype(np.float32)
        points, arc_length = self.points.astype(np.float32), self.arc_length.astype(np.float32)
        tangents = np.gradient(points, arc_length, axis=0).astype(np.float32)
        tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
        lateral = np.array([1, 0, 0], np.float32) - tangents[:, :1] * tangents
        lateral /= np.linalg.norm(lateral, axis=1, keepdims=True)
        anterior = np.cross(tangents, lateral)
        along = np.interp(position[:, 2], points[:, 2], arc_length).astype(np.float32)
        for _ in range(3):
            index = np.clip(np.searchsorted(arc_length, along), 0, len(arc_length) - 1)
            along = arc_length[index] + ((position - points[index]) * tangents[index]).sum(axis=1)
        index = np.clip(np.searchsorted(arc_length, along), 0, len(arc_length) - 1)
        offset = position - points[index]
        anterior, lateral = (offset * anterior[index]).sum(axis=1), (offset * lateral[index]).sum(axis=1)
        return CurveCoordinates(along, anterior, lateral, np.hypot(anterior, lateral))


def fit_centerline(classes: Array, spacing: Array) -> Centerline | None:
    """Fit a curve through the vertebral bodies and discs of a class map.

    The curve follows the smoothed center of body and disc voxels at each height. It is fitted twice, the second time
    without voxels that lie far from it, and continued straight at both ends, so that the sacrum and vertebrae cut by
    the edge of the image have a position along it too.

    Parameters
    ----------
    classes : (slices, A, S) uint8
    spacing : (3,) mm

    Returns
    -------
    The centerline; None when there is no spine.
    """
    mask = (classes == BODY) | (classes == DISC)
    curve = _row_centers(mask, spacing)
    if curve is None:
        return None
    row = np.clip(np.arange(mask.shape[2]) - int(curve[0, 2]), 0, len(curve) - 1)
    distance = np.abs(np.arange(mask.shape[1])[:, None] * spacing[1] - curve[row][None, :, 1])
    curve = _row_centers(mask & (distance <= MAX_DISTANCE)[None], spacing)
    return None if curve is None else extend_centerline(curve)


def extend_centerline(curve: Array) -> Centerline:
    """Continue a curve, (n, 3) mm with one point for each row of height, straight at both ends."""
    slopes = [np.polynomial.polynomial.polyfit(np.arange(len(p)), p, 1)[1] for p in (curve[:25], curve[-25:])]
    steps = np.arange(1, _EXTENSION + 1)[:, None]
    points = np.concatenate([curve[0] - slopes[0] * steps[::-1], curve, curve[-1] + slopes[1] * steps])
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return Centerline(points, np.concatenate([[0.0], np.cumsum(lengths)]))


def _row_centers(mask: Array, spacing: Array) -> Array | None:
    """Return the smoothed center of a mask at each height of the spine, (n, 3) mm; None when it is too short."""
    count = mask.sum(axis=(0, 1))
    if not count.any():
        return None
    filled = count > 0.15 * np.percentile(count[count > 0], 80)
    dilated = scipy.ndimage.binary_dilation(filled, np.ones(3), iterations=round(_MAX_GAP / 2 / spacing[2]))
    sections = connected_components(dilated[None, None]).numbers[0, 0]
    longest = np.bincount(sections, count * filled)[1:].argmax() + 1
    rows = np.flatnonzero(filled & (sections == longest))
    if len(rows) * spacing[2] < 25:
        return None
    planes = mask[:, :, rows].astype(np.float32)
    total = planes.sum(axis=(0, 1))
    slices = (planes.sum(axis=1) * np.arange(len(mask))[:, None]).sum(axis=0) / total * spacing[0]
    anterior = (planes.sum(axis=0) * np.arange(mask.shape[1])[:, None]).sum(axis=0) / total * spacing[1]
    all_rows = np.arange(rows.min(), rows.max() + 1)
    smooth = [
        scipy.ndimage.gaussian_filter1d(np.interp(all_rows, rows, values), _SMOOTHING / spacing[2], mode="nearest")
        for values in (slices, anterior)
    ]
    return np.stack([*smooth, all_rows * spacing[2]], axis=1)
