"""Distances between the surfaces of two masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from lumbarseg.components import bounding_box
from lumbarseg.volume import Array


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces in mm, each measured in both directions.

    mean : over the surface voxels of both masks (average symmetric surface distance, ASSD)
    p95 : the larger of the two 95th percentiles (95 % Hausdorff distance, HD95)
    largest : the Hausdorff distance
    """

    mean: float
    p95: float
    largest: float


def compute_surface_distances(a: Array, b: Array, spacing: tuple[float, float, float]) -> SurfaceDistances | None:
    """Measure how far the surfaces of two masks lie apart.

    A voxel belongs to the surface if one of its six neighbours is outside of the mask or of the volume. An axis of one
    voxel has no neighbours, so a single slice is measured in its plane. Distances run between voxel centres. Results
    equal those of monai.metrics (compute_average_surface_distance with symmetric=True, compute_hausdorff_distance with
    percentile=95).

    Parameters
    ----------
    a, b : (I, J, K) bool
    spacing : mm

    Returns
    -------
    None if a mask is empty.
    """
    if not (a.any() and b.any()):
        return None
    step = np.array([mm for mm, size in zip(spacing, a.shape, strict=True) if size > 1] or [1.0])
    points_a, points_b = (_surface_voxels(mask) * step for mask in (a, b))
    a_to_b, b_to_a = KDTree(points_b, leafsize=32).query(points_a)[0], KDTree(points_a, leafsize=32).query(points_b)[0]
    both = np.concatenate([a_to_b, b_to_a])
    p95 = max(float(np.percentile(distances, 95)) for distances in (a_to_b, b_to_a))
    return SurfaceDistances(float(both.mean()), p95, float(both.max()))


def _surface_voxels(mask: Array) -> Array:
    """(n, axes longer than one) int: indices of the surface voxels of a mask."""
    box = bounding_box(mask) or ()
    axes = [axis for axis, size in enumerate(mask.shape) if size > 1] or [0]
    cropped = mask[box].reshape([mask[box].shape[axis] for axis in axes])
    return np.argwhere(cropped & ~ndimage.binary_erosion(cropped)) + [box[axis].start for axis in axes]
