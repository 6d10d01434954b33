"""Constant fill outside the field of view, as rotation, resampling or padding leave it: found and made dark.

Fill that is as dark as air already is left alone.
"""

from __future__ import annotations

import numpy as np

from lumbarseg.volume import Array

_MIN_SHARE = 0.01  # of the voxels: less fill changes no percentile that matters


def replace_fill(array: Array) -> tuple[Array, str]:
    """Replace constant fill at the border by the darkest of the other voxels.

    Parameters
    ----------
    array : (I, J, K), grey values; the fill may be NaN

    Returns
    -------
    The array itself without fill, else a copy; and a note for the user, "" without fill.
    """
    value = _corner_value(array)
    if value is None:
        return array, ""
    same = np.isnan(array) if np.isnan(value) else array == value
    fill = _connected_to_border(same)
    share = fill.mean()
    if share < _MIN_SHARE or share == 1 or not np.isfinite(array[~fill]).all():
        return array, ""
    replaced = array.copy()
    replaced[fill] = array[~fill].min()
    return replaced, f"{share:.0%} of its voxels hold the constant fill {value:g} at its border: treated as air"


def _corner_value(array: Array) -> float | None:
    """Return the value of constant fill in the corners; None when there is none or it looks like air.

    Half of the corners must share the value; all of them when it is the largest, for saturated fat may reach a corner.
    """
    corners = array[np.ix_([0, -1], [0, -1], [0, -1])].ravel()
    if np.isnan(corners).any():
        return float("nan")
    values, counts = np.unique(corners, return_counts=True)
    value, count = float(values[counts.argmax()]), int(counts.max())
    others = array[array != value]
    if count < len(corners) // 2 or not len(others) or not np.isfinite(others).all() or not np.isfinite(value):
        return None
    lowest = others.min()
    dark, bright = np.percentile(others, [25, 99])
    limit = bright / 3 if lowest >= 0 else dark  # scanners fill corners with the grey of the background
    looks_like_air = value <= limit and (value >= 0 or value >= lowest - 0.05 * (bright - dark))
    is_saturated = value >= others.max() and count < len(corners)
    return None if looks_like_air or is_saturated else value


def _connected_to_border(mask: Array) -> Array:
    """Return the components of a mask that touch the border in plane or through the slices."""
    from lumbarseg.components import connected_components  # loads scipy.ndimage, which few exams need for reading

    numbers = connected_components(mask).numbers
    faces = [np.take(numbers, side, axis).ravel() for axis in range(3) for side in (0, -1)]
    touching = np.unique(np.concatenate(faces))
    return np.isin(numbers, touching[touching > 0])
