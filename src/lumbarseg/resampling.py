"""Volumes on another grid.

Changing the order or direction of axes is exact: transposing and flipping, never interpolation. Changing the spacing
along an axis is one matrix, `interpolation_matrix`; preprocessing consists of such matrices.
"""

from __future__ import annotations

import numpy as np

from lumbarseg.errors import GridError
from lumbarseg.volume import DIRECTION_PAIRS, Array, Grid, Volume

_MAX_VOXELS_AT_ONCE = 2**25  # larger arrays are processed in slabs; routine exams have fewer
_GRID_TOLERANCE = 1e-3  # voxels by which two grids may differ and still have the same voxels


def _axis_permutation(grid: Grid, axis_codes: str) -> tuple[list[int], list[bool]]:
    """Return for each target axis the axis of `grid` that it is, and whether it must be reversed."""
    pairs = ["".join(pair for pair in DIRECTION_PAIRS if code in pair) for code in axis_codes]
    if sorted(pairs) != sorted(DIRECTION_PAIRS):
        raise GridError(f"{axis_codes!r} names no three directions; write RAS, LPS, PIR or the like")
    order = [next(i for i, code in enumerate(grid.axis_codes) if code in pair) for pair in pairs]
    return order, [grid.axis_codes[source] != code for source, code in zip(order, axis_codes, strict=True)]


def reorient_grid(grid: Grid, axis_codes: str) -> Grid:
    """Return the grid of the same voxels with their axes in the order and direction of `axis_codes`."""
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
    """Return the same voxels with their axes in the order and direction of `axis_codes`; exact, a view."""
    order, flips = _axis_permutation(volume.grid, axis_codes)
    array = volume.array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return Volume(array, reorient_grid(volume.grid, axis_codes).affine)


def reverse_world_axes(volume: Volume, flips: tuple[bool, bool]) -> Volume:
    """Return the same voxels where a header swaps front and back, or head and feet, with these put right."""
    signs = np.array([1.0, -1.0 if flips[0] else 1.0, -1.0 if flips[1] else 1.0, 1.0])
    return Volume(volume.array, signs[:, None] * volume.affine)


def interpolation_matrix(source: int, target: int, step: float, start: float, width: float = 1.0) -> Array:
    """Return the matrix that samples an axis of `source` voxels at `start + step * t` for t in 0..target - 1.

    Beyond the border the nearest voxels count. Rows sum to one.

    Parameters
    ----------
    step, start : source voxels
    width : of the triangle that is averaged, source voxels; 1 interpolates linearly, `step` when it is above 1 also
        keeps fine detail from aliasing

    Returns
    -------
    (target, source) float32
    """
    centres = np.clip(start + step * np.arange(target), 0, source - 1)[:, None]
    matrix = np.maximum(0, 1 - np.abs(np.arange(source)[None] - centres) / max(1.0, width))
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def apply_matrices(array: Array, matrices: tuple[Array | None, Array | None, Array | None]) -> Array:
    """Multiply an array, (..., I, J, K), by one matrix for each axis; None leaves an axis unchanged. float32."""
    first, second, third = matrices
    if array.ndim == 3 and array.size > _MAX_VOXELS_AT_ONCE and (first is not None or second is not None):
        # slabs of the third axis, so that the whole array is never copied
        size = max(1, _MAX_VOXELS_AT_ONCE // 8 // (array.shape[0] * array.shape[1]))
        slabs = (array[:, :, k : k + size] for k in range(0, array.shape[2], size))
        array = np.concatenate([apply_matrices(slab, (first, second, None)) for slab in slabs], axis=2)
        first = second = None
    out = np.ascontiguousarray(array, np.float32)
    for axis, matrix in ((-3, first), (-2, second), (-1, third)):
        if matrix is not None:
            out = _multiply_axis(out, matrix, axis)
    return out


def _multiply_axis(array: Array, matrix: Array, axis: int) -> Array:
    """Multiply one axis of (..., I, J, K) float32 by a matrix whose rows have few non-zero entries next to each other.

    Weighted sums of planes instead of a matrix product: BLAS would start threads, which wait for each other, and for
    those of the network, where cores are busy (30 times slower with two busy cores).
    """
    nonzero = matrix != 0
    first, width = nonzero.argmax(axis=1), int(nonzero.sum(axis=1).max())
    indices = np.minimum(first[:, None] + np.arange(width), matrix.shape[1] - 1)  # (target, taps)
    weights = np.take_along_axis(matrix, indices, axis=1)
    weights[first[:, None] + np.arange(width) >= matrix.shape[1]] = 0
    shape = list(array.shape)
    shape[axis] = len(matrix)
    out = np.empty(shape, np.float32)
    planes, results = array.reshape(-1, *array.shape[-3:]), out.reshape(-1, *shape[-3:])
    for volume, result in zip(planes, results, strict=True):
        for number in range(len(result)):
            if axis == -3:
                parts = (
                    (volume[index], weight) for index, weight in zip(indices[number], weights[number], strict=True)
                )
            elif axis == -2:
                parts = ((volume[number][rows], w[:, None]) for rows, w in zip(indices.T, weights.T, strict=True))
            else:
                parts = ((volume[number][:, columns], w) for columns, w in zip(indices.T, weights.T, strict=True))
            plane, weight = next(parts)
            np.multiply(plane, weight, out=result[number])
            for plane, weight in parts:
                result[number] += plane * weight
    return out


def _shifted(array: Array, shape: tuple[int, int, int], offset: Array) -> Array:
    """Return an array of a shape with the voxels of `array` from `offset` on; 0 beyond its border."""
    out = np.zeros(shape, array.dtype)
    low = np.maximum(-offset, 0)
    high = np.maximum(np.minimum(shape, array.shape - offset), low)
    target = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    out[target] = array[tuple(slice(a, b) for a, b in zip(low + offset, high + offset, strict=True))]
    return out


def resample(volume: Volume, grid: Grid, order: int = 1) -> Volume:
    """Resample a volume to any other grid, oblique too. Outside is 0.

    Where the voxels of both grids coincide they are copied, whatever the order.

    Parameters
    ----------
    order : 0 for labels (nearest), 1 for images (linear)
    """
    from scipy import ndimage  # costs 0.1 s, which preprocessing alone does not need

    matrix = np.linalg.inv(volume.affine) @ grid.affine
    offset = np.rint(matrix[:3, 3])
    translation = np.eye(4)
    translation[:3, 3] = offset
    corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(grid.shape) - 1)
    difference = matrix - translation
    if np.abs(corners @ difference[:3, :3].T + difference[:3, 3]).max() < _GRID_TOLERANCE:
        return Volume(_shifted(volume.array, grid.shape, offset.astype(int)), grid.affine)
    array = ndimage.affine_transform(
        volume.array, matrix[:3, :3], matrix[:3, 3], output_shape=grid.shape, order=order, mode="grid-constant", cval=0
    )
    return Volume(array, grid.affine)
