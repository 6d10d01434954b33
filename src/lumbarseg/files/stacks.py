"""Slices as one even stack: their order, their place, and what is wrong where they are none."""

from __future__ import annotations

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from .headers import Header

_UNEVEN = 0.2  # of the distance of two slices: how far one may lie from its place in an even stack
_SAME_PLACE = 0.01  # mm
_PARALLEL = 1e-3  # difference of direction cosines that still counts as one orientation


def alike(one: Header, other: Header) -> bool:
    """Whether two slices can lie in one stack: of one size, spacing and orientation."""
    return (
        one.size == other.size
        and np.allclose(one.spacing, other.spacing, rtol=1e-3)
        and float(np.abs(one.directions - other.directions).max()) <= _PARALLEL
    )


def places(slices: list[Header]) -> Array:
    """Where slices of one orientation lie along the normal of the first, (n,) mm."""
    return np.array([head.position @ slices[0].normal for head in slices])


def crowd(slices: list[Header]) -> int:
    """The most slices that lie at one position."""
    starts = np.flatnonzero(np.diff(np.sort(places(slices)), prepend=-np.inf) >= _SAME_PLACE)
    return int(np.diff(starts, append=len(slices)).max())


def together(slices: list[Header]) -> list[list[Header]]:
    """The slices at each position, along the normal."""
    at = places(slices)
    order = np.argsort(at, kind="stable")
    cuts = np.flatnonzero(np.diff(at[order]) >= _SAME_PLACE) + 1
    return [[slices[index] for index in part] for part in np.split(order, cuts)]


def uneven(slices: list[Header]) -> str | None:
    """What keeps slices of one orientation from being one stack; None when nothing does."""
    if len(slices) == 1:
        return None
    if crowd(slices) > 1:
        many = len(slices) / len(together(slices))
        return f"{many:.3g} slices at each position (echoes, time points or two scans in one series)"
    along = np.sort(places(slices))
    gaps, even = np.diff(along), np.linspace(along[0], along[-1], len(along))
    usual = float(np.median(gaps))
    odd = gaps.max() > (1 + _UNEVEN) * usual or gaps.min() < (1 - _UNEVEN) * usual
    if odd or np.abs(along - even).max() > _UNEVEN * usual:
        return f"slices are missing, or two stacks are interleaved: gaps of {gaps.min():.2f} to {gaps.max():.2f} mm"
    return None


def stack(name: str, slices: list[Header]) -> tuple[list[Header], Array]:
    """Slices in order along their normal, and the affine to LPS mm of (column, row, slice).

    FileError, begun with `name`, when they do not make one even stack.
    """
    first = slices[0]
    if not all(alike(first, head) for head in slices):
        raise FileError(f"{name}: slices of different sizes or orientations; export one stack alone")
    if reason := uneven(slices):
        raise FileError(f"{name}: {reason}; export the series again, one stack alone")
    slices = sorted(slices, key=lambda head: float(head.position @ first.normal))
    positions = np.array([head.position for head in slices])
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 3] = positions[0]
    if len(slices) == 1:
        affine[:3, 2] = first.normal * first.thickness
    else:
        affine[:3, 2] = (positions[-1] - positions[0]) / (len(slices) - 1)
        drift = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * affine[:3, 2]).max()
        if drift > max(1.0, _UNEVEN * float(np.linalg.norm(affine[:3, 2]))):
            raise FileError(f"{name}: slices up to {drift:.1f} mm beside the line of their stack; export it again")
    return slices, affine
