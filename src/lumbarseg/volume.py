"""Voxel grids (`Grid`) and volumes (`Volume`).

One convention: arrays are (I, J, K), the affine maps voxel centres (i, j, k, 1) to RAS+ millimetres in float64. What a
file says in another convention is converted in `io/` and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from lumbarseg.errors import GridError

Array = np.ndarray
DIRECTION_PAIRS = ("LR", "PA", "IS")
"""Opposite directions along each world axis, the positive one second."""
_CHUNK_VOXELS = 2**22  # voxels that are counted at a time


@dataclass(frozen=True, eq=False)
class Grid:
    """The geometry of a volume without its voxels.

    Attributes
    ----------
    shape : (I, J, K)
    affine : (4, 4) float64, voxel indices to RAS+ mm

    Raises
    ------
    GridError
        When the affine is not invertible or an axis has no voxel.
    """

    shape: tuple[int, int, int]
    affine: Array

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GridError("the affine is not a finite 4 x 4 matrix")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GridError(f"a volume needs three axes with at least one voxel each, not {tuple(self.shape)}")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if spacing.min() <= 1e-6 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-3:
            raise GridError("the affine is singular: an axis has no length, or two axes point the same way")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Return the distance of neighbouring voxel centres along each axis, mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def axis_codes(self) -> str:
        """Return the anatomical direction nearest to each axis: "RAS", "LPS", "PIR", ..."""
        cosines = self.affine[:3, :3] / np.array(self.spacing)
        best = max(permutations(range(3)), key=lambda p: sum(abs(cosines[p[a], a]) for a in range(3)))
        return "".join(DIRECTION_PAIRS[world][int(cosines[world, axis] > 0)] for axis, world in enumerate(best))

    def to_world(self, index: Array) -> Array:
        """Convert voxel coordinates, (..., 3), to RAS+ mm."""
        return np.asarray(index, np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, point: Array) -> Array:
        """Convert points in RAS+ mm, (..., 3), to fractional voxel coordinates."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(point, np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def same_as(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Return whether shapes are equal and no corner differs by more than `tolerance` mm."""
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(self.shape) - 1)
        return self.shape == other.shape and bool(
            np.abs(self.to_world(corners) - other.to_world(corners)).max() <= tolerance
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their geometry. array: (I, J, K); affine: (4, 4) float64, voxel indices to RAS+ mm."""

    array: Array
    affine: Array

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise GridError(f"a volume needs three axes, not {self.array.ndim}")
        object.__setattr__(self, "affine", self.grid.affine)

    @property
    def grid(self) -> Grid:
        """Return the geometry without the voxels."""
        i, j, k = self.array.shape
        return Grid((i, j, k), self.affine)


def count_labels(labels: Array) -> Array:
    """Count how often each label occurs, (256,), in labels of any shape, uint8; in chunks, to save memory."""
    flat = labels.ravel(order="K")
    counts = np.zeros(256, np.int64)
    for start in range(0, flat.size, _CHUNK_VOXELS):
        counts += np.bincount(flat[start : start + _CHUNK_VOXELS], minlength=256)
    return counts
