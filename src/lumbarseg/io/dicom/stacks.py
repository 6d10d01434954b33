"""Arrange slices as one evenly spaced stack: their order, their geometry, and why they may not be one."""

from __future__ import annotations

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from .headers import SliceHeader

_MAX_UNEVENNESS = 0.2  # share of the slice distance that a slice may deviate from its position in an even stack
_SAME_POSITION = 0.01  # mm
_PARALLEL = 1e-3  # difference of direction cosines that still counts as one orientation


def have_same_geometry(one: SliceHeader, other: SliceHeader) -> bool:
    """Return whether two slices can belong to one stack: same size, spacing and orientation."""
    return (
        one.matrix_size == other.matrix_size
        and np.allclose(one.spacing, other.spacing, rtol=1e-3)
        and float(np.abs(one.directions - other.directions).max()) <= _PARALLEL
    )


def normal_positions(slices: list[SliceHeader]) -> Array:
    """Return the positions of parallel slices along the normal of the first, (n,) mm."""
    return np.array([header.position @ slices[0].normal for header in slices])


def group_by_position(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    """Return the slices at each position, in order along the normal."""
    positions = normal_positions(slices)
    order = np.argsort(positions, kind="stable")
    starts = np.flatnonzero(np.diff(positions[order]) >= _SAME_POSITION) + 1
    return [[slices[index] for index in part] for part in np.split(order, starts)]


def max_slices_per_position(slices: list[SliceHeader]) -> int:
    """Return the largest number of slices at one position."""
    return max(map(len, group_by_position(slices)))


def find_stack_problem(slices: list[SliceHeader]) -> str | None:
    """Return why parallel slices are not one evenly spaced stack; None if they are."""
    if len(slices) == 1:
        return None
    if max_slices_per_position(slices) > 1:
        count = len(slices) / len(group_by_position(slices))
        return f"{count:.3g} slices at each position (echoes, time points or two scans in one series)"
    positions = np.sort(normal_positions(slices))
    gaps, even = np.diff(positions), np.linspace(positions[0], positions[-1], len(positions))
    tolerance = _MAX_UNEVENNESS * float(np.median(gaps))
    if np.abs(gaps - np.median(gaps)).max() > tolerance or np.abs(positions - even).max() > tolerance:
        return f"slices are missing, or two stacks are interleaved: gaps of {gaps.min():.2f} to {gaps.max():.2f} mm"
    return None


def build_stack(name: str, slices: list[SliceHeader]) -> tuple[list[SliceHeader], Array]:
    """Sort slices along their normal.

    Returns
    -------
    The slices in order, and the affine from (column, row, slice) to LPS mm. The last axis of a single slice without a
    thickness has no length.

    Raises
    ------
    FileError
        If they are not one evenly spaced stack; the message begins with `name`.
    """
    first = slices[0]
    if not all(have_same_geometry(first, header) for header in slices):
        raise FileError(f"{name}: slices of different sizes or orientations; export one stack alone")
    if reason := find_stack_problem(slices):
        raise FileError(f"{name}: {reason}; export the series again, one stack alone")
    slices = sorted(slices, key=lambda header: float(header.position @ first.normal))
    positions = np.array([header.position for header in slices])
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 3] = positions[0]
    if len(slices) == 1:
        affine[:3, 2] = first.normal * first.slice_distance
    else:
        affine[:3, 2] = (positions[-1] - positions[0]) / (len(slices) - 1)
        drift = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * affine[:3, 2]).max()
        if drift > max(1.0, _MAX_UNEVENNESS * float(np.linalg.norm(affine[:3, 2]))):
            raise FileError(f"{name}: slices up to {drift:.1f} mm beside the line of their stack; export it again")
    return slices, affine
