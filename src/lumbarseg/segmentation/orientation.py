"""Headers that say front for back or head for feet, recognised from the anatomy.

A lumbar spine has its canal behind its bodies and its sacrum below them. The network was shown mirrored exams too, so
it finds both wherever they are; where they lie on the wrong side, the header is wrong.
"""

from __future__ import annotations

import numpy as np

from lumbarseg.volume import Array

from .centerline import BODY, CANAL, SACRUM, Centerline, fit_centerline

Flips = tuple[bool, bool]
_MIN_WRONG_SHARE = 0.75  # share of the canal, or of the sacrum, that must lie on the wrong side
_MIN_VOLUME = 2000.0  # mm3 of it in view; less says nothing
_MIN_AREA_RATIO = (
    0.9  # axial area of the third of the bodies next to the sacrum, of that of the furthest third, at the least
)


def estimate_flips(classes: Array, spacing: Array) -> Flips:
    """Whether front and back, and head and feet, are reversed in a class map (slices, A, S); spacing: (3,) mm."""
    column = fit_centerline(classes, spacing)
    if column is None:
        return False, False
    return _is_front_back_reversed(classes, spacing, column), _is_upside_down(classes, spacing)


def _is_front_back_reversed(classes: Array, spacing: Array, column: Centerline) -> bool:
    """Whether the canal lies in front of the bodies."""
    canal = np.argwhere(classes == CANAL) * spacing
    if len(canal) * np.prod(spacing) < _MIN_VOLUME:
        return False
    ahead = canal[:, 1] - np.interp(canal[:, 2], column.points[:, 2], column.points[:, 1])
    return bool((ahead > 5).mean() > _MIN_WRONG_SHARE)


def _is_upside_down(classes: Array, spacing: Array) -> bool:
    """Whether the sacrum lies above the bodies, and the bodies near it are not the smaller ones.

    Bodies grow from head to feet; where they shrink towards what looks like a sacrum, that is a thoracic vertebra.
    """
    sacrum, bodies = (np.argwhere(classes == kind)[:, 2] for kind in (SACRUM, BODY))
    if (
        min(len(sacrum), len(bodies)) * np.prod(spacing) < _MIN_VOLUME
        or (sacrum > np.median(bodies)).mean() <= _MIN_WRONG_SHARE
    ):
        return False
    areas = np.bincount(bodies)
    rows = np.flatnonzero(areas > 0.5 * np.median(areas[areas > 0]))  # not those of discs
    third = max(1, len(rows) // 3)
    return bool(np.median(areas[rows[-third:]]) > _MIN_AREA_RATIO * np.median(areas[rows[:third]]))


def flip_axes(array: Array, flips: Flips) -> Array:
    """array: (..., A, S), reversed along anterior and along up as `flips` says; a view."""
    return array[..., :: -1 if flips[0] else 1, :: -1 if flips[1] else 1]


def describe_flips(flips: Flips) -> str:
    """What was found wrong, for a person; "" for nothing."""
    wrong = [words for words, flip in zip(("front and back", "head and feet"), flips, strict=True) if flip]
    if not wrong:
        return ""
    return (
        f"the header has {' and '.join(wrong)} the wrong way round, as the anatomy shows; handled. "
        "Left and right cannot be verified"
    )
