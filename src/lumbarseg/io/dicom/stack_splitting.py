"""Split a DICOM series into its stacks: by geometry, then by the attributes that distinguish slices at one position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from .headers import SliceHeader
from .series import ImageStack
from .stacks import find_stack_problem, have_same_geometry, max_slices_per_position

_SPLITTING_KEYWORDS = {  # attributes that can distinguish slices at one position, and their names in messages
    "ImageType": "image type",
    "EchoTime": "echo time",
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
        groups: dict[Any, list[SliceHeader]] = {}
        for header in slices:
            groups.setdefault(get_value(header), []).append(header)
        if len(groups) > 1 and _is_plausible_split(slices, list(groups.values())):
            texts = _format_values(list(groups))
            for value, group in groups.items():
                for part, why in _split_by_attributes(group):
                    yield part, f"{name} {texts[value]}" + f", {why}" * bool(why)
            return
    yield slices, ""


def _splitting_attributes(has_problem: bool) -> Iterator[tuple[str, Callable[[SliceHeader], Any]]]:
    """Yield the name of each attribute to try, and a function that returns its value for a slice."""
    for keyword, name in _SPLITTING_KEYWORDS.items():
        if has_problem or keyword in _ALWAYS_SPLIT:
            yield name, partial(_attribute, keyword)
    for dimension in range(_MAX_DIMENSIONS * has_problem):
        yield f"dimension {dimension + 1}", partial(_dimension_index, dimension)


def _attribute(keyword: str, header: SliceHeader) -> Any:
    return header.attributes.get(keyword)


def _dimension_index(dimension: int, header: SliceHeader) -> Any:
    values = header.attributes.get("DimensionIndexValues", ())
    values = values if isinstance(values, tuple) else (values,)
    return values[dimension] if dimension < len(values) else None


def _is_plausible_split(slices: list[SliceHeader], groups: list[list[SliceHeader]]) -> bool:
    """Return whether there is at most one group for each slice at a position, or else each group is a stack."""
    count = max_slices_per_position(slices)
    if count > 1:
        return len(groups) <= count
    return all(len(group) >= _MIN_STACK_SLICES and find_stack_problem(group) is None for group in groups)


def _format_values(values: list[Any]) -> dict[Any, str]:
    """Return differing values as text; for tuples, the words that not all of them share."""
    if not all(isinstance(value, tuple) for value in values):
        return {
            value: f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
            for value in values
        }
    common = set.intersection(*map(set, values))
    return {value: " ".join(str(word) for word in value if word not in common) or "plain" for value in values}
