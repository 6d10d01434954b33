"""Where a careful user clicks: deep inside the largest error.

The rule of DeepGrow (Sakinis et al., arXiv 1903.08205, 2019) and DeepEdit (Diaz-Pinto et al., arXiv 2305.10655, 2022).
An error is a voxel whose predicted class the reference does not allow; where the reference says nothing, there is none.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lumbarseg.volume import Array

VoxelIndex = tuple[int, ...]
_MAX_CANDIDATES = 4  # largest components by voxels, of which the deepest is taken
_MIN_RELATIVE_DEPTH = 0.7  # of the greatest depth: a click lies anywhere deeper than that


def place_click(
    wrong: Array, error_labels: Array, spacing: tuple[float, ...], rng: np.random.Generator, min_voxels: int = 1
) -> VoxelIndex:
    """Return a voxel deep inside the largest error; () when none has `min_voxels` voxels.

    The size of an error is the sum of its depths, so a thin rim around everything is smaller than a missing disc.

    Parameters
    ----------
    wrong : (...) bool
    error_labels : (...) integer; errors of different labels are different errors
    spacing : mm
    """
    best: tuple[float, Array, VoxelIndex] | None = None
    for box, inside in _largest_errors(wrong, error_labels, min_voxels):
        depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing)
        depth = depth[(slice(1, -1),) * inside.ndim]
        if best is None or depth.sum() > best[0]:
            best = float(depth.sum()), depth, tuple(side.start for side in box)
    if best is None:
        return ()
    _, depth, corner = best
    deep = np.argwhere(depth >= _MIN_RELATIVE_DEPTH * depth.max())
    return tuple(int(c + d) for c, d in zip(corner, deep[rng.integers(len(deep))], strict=True))


def _largest_errors(wrong: Array, error_labels: Array, min_voxels: int) -> list[tuple[tuple[slice, ...], Array]]:
    """Return the bounding boxes and masks of the largest connected errors."""
    errors = []
    for value in np.unique(error_labels[wrong]):
        components, count = ndimage.label(wrong & (error_labels == value))
        sizes = np.bincount(components.ravel(), minlength=count + 1)
        for number, box in enumerate(ndimage.find_objects(components), start=1):
            if sizes[number] >= min_voxels:
                errors.append((int(sizes[number]), box, components[box] == number))
    errors.sort(key=lambda error: -error[0])
    return [(box, inside) for _, box, inside in errors[:_MAX_CANDIDATES]]
