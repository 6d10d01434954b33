"""A volume on another grid.

Changing the order or direction of axes is exact: transposing and flipping, never interpolation. Changing the spacing
along an axis is one matrix, `weights`; all of `prepare` is made of such matrices.
"""

from __future__ import annotations

import numpy as np

from lumbarseg.errors import GridError
from lumbarseg.volume import Array, Grid, Volume

_DIRECTION_PAIRS = ("LR", "PA", "IS")
_MAX_VOXELS_AT_ONCE = 2**25  # voxels above which an array is worked on in slabs; routine exams have fewer
_GRID_TOLERANCE = 1e-3  # voxels by which two grids may miss each other and still have the same voxels


def _axis_permutation(grid: Grid, axis_codes: str) -> tuple[list[int], list[bool]]:
    """For each wanted axis: which axis of `grid` it is, and whether it must be reversed."""
    if sorted(next((p for p in _DIRECTION_PAIRS if c in p), "?") for c in axis_codes) != sorted(_DIRECTION_PAIRS):
        raise GridError(f"{axis_codes!r} names no three directions; write RAS, LPS, PIR or the like")
    have = grid.axis_codes
    order = [
        next(i for i, h in enumerate(have) if next(p for p in _DIRECTION_PAIRS if want in p).find(h) >= 0)
        for want in axis_codes
    ]
    return order, [have[source] != want for source, want in zip(order, axis_codes, strict=True)]


def reorient_grid(grid: Grid, axis_codes: str) -> Grid:
    """The same voxels with their axes in the order and direction of `axes`."""
    order, flips = _axis_permutation(grid, axis_codes)
    affine = np.eye(4)
    affine[:3, 3] = grid.affine[:3, 3]
    for target, (source, flip) in enumerate(zip(order, flips, strict=True)):
        step = grid.affine[:3, source]
        affine[:3, target] = -step if flip else step
        if flip:
            affine[:3, 3] += step * (grid.shape[source] - 1)
    return Grid((grid.shape[order[0]], grid.shape[order[1]], grid.shape[order[2]]), affine)


def reorient(volume: Volume, axis_codes: str) -> Volume:
    """The same voxels with their axes in the order and direction of `axes`; exact, a view where possible."""
    order, flips = _axis_permutation(volume.grid, axis_codes)
    array = volume.array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return Volume(array, reorient_grid(volume.grid, axis_codes).affine)


def interpolation_matrix(source: int, target: int, step: float, start: float, width: float = 1.0) -> Array:
    """Matrix (target, source) float32 that samples `source` voxels at `start + step * t`, in source voxels.

    width: of the triangle that is averaged, in source voxels; 1 interpolates linearly, `step` when it is above 1 also
    keeps fine detail from aliasing. Beyond the border the nearest voxels count. Rows sum to one.
    """
    centres = np.clip(start + step * np.arange(target), 0, source - 1)[:, None]
    matrix = np.maximum(0, 1 - np.abs(np.arange(source)[None] - centres) / max(1.0, width))
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def apply_matrices(array: Array, matrices: tuple[Array | None, Array | None, Array | None]) -> Array:
    """array: (..., I, J, K) times one matrix per axis; None leaves an axis alone. float32."""
    first, second, third = matrices
    if array.ndim == 3 and array.size > _MAX_VOXELS_AT_ONCE and (first is not None or second is not None):
        return apply_matrices(_by_slabs(array, first, second), (None, None, third))
    out = np.ascontiguousarray(array, np.float32)
    if first is not None:
        shape = out.shape
        flat = out.reshape(*shape[:-3], shape[-3], -1)
        out = (first @ flat).reshape(*shape[:-3], len(first), *shape[-2:])
    if second is not None:
        out = second @ out
    if third is not None:
        out = out @ third.T
    return out


def _by_slabs(array: Array, first: Array | None, second: Array | None) -> Array:
    """array: (I, J, K) times the matrices of two axes, some of the third at a time: never is all of it copied."""
    step = max(1, _MAX_VOXELS_AT_ONCE // 8 // (array.shape[0] * array.shape[1]))
    slabs = (array[:, :, k : k + step] for k in range(0, array.shape[2], step))
    return np.concatenate([apply_matrices(slab, (first, second, None)) for slab in slabs], axis=2)


def _shifted(array: Array, shape: tuple[int, int, int], offset: Array) -> Array:
    """The voxels of `array` from `offset` on, in a new one of this shape; 0 beyond its border."""
    out = np.zeros(shape, array.dtype)
    low = np.maximum(-offset, 0)
    high = np.maximum(np.minimum(shape, array.shape - offset), low)
    there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    out[there] = array[tuple(slice(a, b) for a, b in zip(low + offset, high + offset, strict=True))]
    return out


def resample(volume: Volume, grid: Grid, order: int = 1) -> Volume:
    """`volume` on any other grid, oblique too; order 0 for labels (nearest), 1 for images. Outside is 0.

    Where the voxels of both grids coincide they are copied, whatever the order.
    """
    from scipy import ndimage

    matrix = np.linalg.inv(volume.affine) @ grid.affine
    offset = np.rint(matrix[:3, 3])
    shifted = np.eye(4)
    shifted[:3, 3] = offset
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(grid.shape) - 1)
    difference = matrix - shifted
    if np.abs(corners @ difference[:3, :3].T + difference[:3, 3]).max() < _GRID_TOLERANCE:
        return Volume(_shifted(volume.array, grid.shape, offset.astype(int)), grid.affine)
    array = ndimage.affine_transform(
        volume.array, matrix[:3, :3], matrix[:3, 3], output_shape=grid.shape, order=order, mode="grid-constant", cval=0
    )
    return Volume(array, grid.affine)
