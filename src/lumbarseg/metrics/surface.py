"""How far two surfaces lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lumbarseg.volume import Array


@dataclass(frozen=True)
class SurfaceDistances:
    """Between two surfaces, mm. All three look both ways, from each surface to the other.

    mean: over the surface voxels of both masks together (average symmetric surface distance, ASSD); p95: the larger of
    the two 95th percentiles (95 % Hausdorff distance, HD95); largest: the Hausdorff distance.
    """

    mean: float
    p95: float
    largest: float


def compute_surface_distances(a: Array, b: Array, spacing: tuple[float, float, float]) -> SurfaceDistances | None:
    """How far the surfaces of two masks lie apart; a, b: (I, J, K) bool; spacing: mm. None when one of them is empty.

    A voxel belongs to the surface when one of its six neighbours does not belong to the mask or lies outside the
    volume; an axis of one voxel has no neighbours, so that a single slice is measured in its plane. Distances run
    between voxel centres. The figures are those of monai.metrics (compute_average_surface_distance with
    symmetric=True, compute_hausdorff_distance with percentile=95).
    """
    if not (a.any() and b.any()):
        return None
    step = np.array([mm for mm, size in zip(spacing, a.shape, strict=True) if size > 1] or [1.0])
    points = [_surface_voxels(mask) * step for mask in (a, b)]
    there, back = _nearest_distances(points[0], points[1]), _nearest_distances(points[1], points[0])
    both = np.concatenate([there, back])
    p95 = max(float(np.percentile(way, 95)) for way in (there, back))
    return SurfaceDistances(float(both.mean()), p95, float(both.max()))


def _surface_voxels(mask: Array) -> Array:
    """(n, axes longer than one) indices of the surface voxels of a mask."""
    from scipy import ndimage

    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    start = [part.start for part, size in zip(box, mask.shape, strict=True) if size > 1] or [0]
    flat = mask[box].reshape([n for n, size in zip(mask[box].shape, mask.shape, strict=True) if size > 1] or [1])
    return np.argwhere(flat & ~ndimage.binary_erosion(flat)) + start


def _nearest_distances(points: Array, others: Array) -> Array:
    """(n,) distance of each point to the nearest of the others."""
    from scipy.spatial import KDTree

    distances: Array = KDTree(others, leafsize=32).query(points)[0]
    return distances
