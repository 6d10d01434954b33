"""Split a DICOM series into its stacks, and arrange slices as one evenly spaced stack.

A series is split by geometry, then by the attributes that distinguish slices at one position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from .headers import DicomValue, SliceHeader
from .series import ImageStack

_MAX_UNEVENNESS = 0.2  # share of the slice distance that a slice may deviate from its position in an even stack
_SAME_POSITION = 0.01  # mm
_PARALLEL = 1e-3  # difference of direction cosines that still counts as one orientation
_SPLITTING_KEYWORDS = {  # attributes that can distinguish slices at one position, and their names in messages
    "ImageType": "image type",
    "EchoTime": "echo time",
    "SeriesDescription": "description",
    "EchoNumbers": "echo",
    "TemporalPositionIdentifier": "time point",
    "InversionTime": "inversion time",
    "FlipAngle": "flip angle",
    "DiffusionBValue": "b value",
    "TriggerTime": "trigger time",
    "StackID": "stack",
    "AcquisitionNumber": "acquisition",
}
_ALWAYS_SPLIT = ("ImageType", "EchoTime")  # constant within a stack, so they split even evenly spaced slices
_MAX_DIMENSIONS = 9  # of a multi-frame file that are tried
_MIXED_ORIENTATION = 0.1  # difference of direction cosines from which a series has several orientations
_MIN_STACK_SLICES = 3  # of a part that counts as a stack although all slices together are evenly spaced, or have gaps


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


def split_into_stacks(slices: list[SliceHeader]) -> list[ImageStack]:
    """Return the stacks of one series; slices that nothing distinguishes stay together."""
    groups = _group_by_geometry(slices)
    is_mixed = any(np.abs(group[0].directions - groups[0][0].directions).max() > _MIXED_ORIENTATION for group in groups)
    parts = []
    for group in groups:
        geometry = _describe_group(group, len(slices)) if len(groups) > 1 else ""
        parts += [(part, ", ".join(filter(None, (geometry, why)))) for part, why in _split_by_attributes(group)]
    has_several = len(parts) > 1
    return [ImageStack(part, number * has_several, why, is_mixed) for number, (part, why) in enumerate(parts, 1)]


def _describe_group(group: list[SliceHeader], count: int) -> str:
    rows, columns = group[0].matrix_size
    return f"{ImageStack(group).plane} {columns} x {rows}, {len(group)} of {count} slices"


def _group_by_geometry(slices: list[SliceHeader]) -> list[list[SliceHeader]]:
    groups: list[list[SliceHeader]] = []
    for header in slices:
        group = next((group for group in groups if have_same_geometry(group[0], header)), None)
        if group is None:
            groups.append([header])
        else:
            group.append(header)
    return groups


def _split_by_attributes(slices: list[SliceHeader]) -> Iterator[tuple[list[SliceHeader], str]]:
    """Yield parallel slices as stacks, each with what distinguishes it; all as one if nothing splits them."""
    has_problem = find_stack_problem(slices) is not None
    for name, get_value in _splitting_attributes(has_problem):
        groups: dict[DicomValue, list[SliceHeader]] = {}
        for header in slices:
            groups.setdefault(get_value(header), []).append(header)
        if len(groups) > 1 and _is_plausible_split(slices, list(groups.values())):
            texts = _format_values(list(groups))
            for value, group in groups.items():
                for part, why in _split_by_attributes(group):
                    yield part, f"{name} {texts[value]}" + f", {why}" * bool(why)
            return
    yield slices, ""


def _splitting_attributes(has_problem: bool) -> Iterator[tuple[str, Callable[[SliceHeader], DicomValue]]]:
    """Yield the name of each attribute to try, and a function that returns its value for a slice."""
    for keyword, name in _SPLITTING_KEYWORDS.items():
        if has_problem or keyword in _ALWAYS_SPLIT:
            yield name, partial(_attribute, keyword)
    for dimension in range(_MAX_DIMENSIONS * has_problem):
        yield f"dimension {dimension + 1}", partial(_dimension_index, dimension)


def _attribute(keyword: str, header: SliceHeader) -> DicomValue:
    return header.attributes.get(keyword)


def _dimension_index(dimension: int, header: SliceHeader) -> DicomValue:
    values = header.attributes.get("DimensionIndexValues", ())
    values = values if isinstance(values, tuple) else (values,)
    return values[dimension] if dimension < len(values) else None


def _is_plausible_split(slices: list[SliceHeader], groups: list[list[SliceHeader]]) -> bool:
    """Return whether there is at most one group for each slice at a position, or else each group is a stack."""
    count = max_slices_per_position(slices)
    if count > 1:
        return len(groups) <= count
    return all(len(group) >= _MIN_STACK_SLICES and find_stack_problem(group) is None for group in groups)


def _format_values(values: list[DicomValue]) -> dict[DicomValue, str]:
    """Return differing values as text; for tuples, the words that not all of them share."""
    tuples = [value for value in values if isinstance(value, tuple)]
    if len(tuples) < len(values):
        return {
            value: f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
            for value in values
        }
    common = set(tuples[0]).intersection(*tuples)
    return {value: " ".join(str(word) for word in value if word not in common) or "plain" for value in tuples}
