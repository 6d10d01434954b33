"""Slices as one even stack: their order, their place, and what is wrong where they are none."""

from __future__ import annotations

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from .headers import SliceHeader

_MAX_UNEVENNESS = 0.2  # of the distance of two slices: how far one may lie from its place in an even stack
_SAME_POSITION = 0.01  # mm
_PARALLEL = 1e-3  # difference of direction cosines that still counts as one orientation


def have_same_geometry(one: SliceHeader, other: SliceHeader) -> bool:
    """Whether two slices can lie in one stack: of one size, spacing and orientation."""
    return (
        one.matrix_size == other.matrix_size
        and np.allclose(one.spacing, other.spacing, rtol=1e-3)
        and float(np.abs(one.directions - other.directions).max()) <= _PARALLEL
    )


def normal_positions(slices: list[SliceHeader]) -> Array:
    """Where slices of one orientation lie along the normal of the first, (n,) mm."""
    return np.array([head.position @ slices[0].normal for head in slices])


def max_slices_per_position(slices: list[SliceHeader]) -> int:
    """The most slices that lie at one position."""
    starts = np.flatnonzero(np.diff(np.sort(normal_positions(slices)), prepend=-np.inf) >= _SAME_POSITION)
    return int(np.diff(starts, append=len(slices)).max())


def group_by_position(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    """The slices at each position, along the normal."""
    at = normal_positions(slices)
    order = np.argsort(at, kind="stable")
    cuts = np.flatnonzero(np.diff(at[order]) >= _SAME_POSITION) + 1
    return [[slices[index] for index in part] for part in np.split(order, cuts)]


def find_stack_problem(slices: list[SliceHeader]) -> str | None:
    """What keeps slices of one orientation from being one stack; None when nothing does."""
    if len(slices) == 1:
        return None
    if max_slices_per_position(slices) > 1:
        many = len(slices) / len(group_by_position(slices))
        return f"{many:.3g} slices at each position (echoes, time points or two scans in one series)"
    along = np.sort(normal_positions(slices))
    gaps, even = np.diff(along), np.linspace(along[0], along[-1], len(along))
    usual = float(np.median(gaps))
    odd = gaps.max() > (1 + _MAX_UNEVENNESS) * usual or gaps.min() < (1 - _MAX_UNEVENNESS) * usual
    if odd or np.abs(along - even).max() > _MAX_UNEVENNESS * usual:
        return f"slices are missing, or two stacks are interleaved: gaps of {gaps.min():.2f} to {gaps.max():.2f} mm"
    return None


def build_stack(name: str, slices: list[SliceHeader]) -> tuple[list[SliceHeader], Array]:
    """Slices in order along their normal, and the affine to LPS mm of (column, row, slice).

    FileError, begun with `name`, when they do not make one even stack.
    """
    first = slices[0]
    if not all(have_same_geometry(first, head) for head in slices):
        raise FileError(f"{name}: slices of different sizes or orientations; export one stack alone")
    if reason := find_stack_problem(slices):
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
        if drift > max(1.0, _MAX_UNEVENNESS * float(np.linalg.norm(affine[:3, 2]))):
            raise FileError(f"{name}: slices up to {drift:.1f} mm beside the line of their stack; export it again")
    return slices, affine
