"""Label tables: which structures each voxel value of a label map may be.

{1: ("body", "arch")} is a complete vertebra, {0: ("background", "sacrum")} a background in which the sacrum was not
annotated, {9: ("unknown",)} anything at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import (
    RGB,
    Kind,
    Structure,
    kinds_from_names,
    labels_of_kind,
    structure_by_label,
    structure_by_name,
)
from lumbarseg.errors import DatasetError, LumbarsegError
from lumbarseg.volume import Array

from .json_files import read_json_object

LabelTable = dict[int, tuple[str, ...]]

UNKNOWN = "unknown"
"""Name in a row of a label table: the value may be anything."""
_GREY: RGB = (128, 128, 128)


def parse_label_table(values: Any, location: str) -> LabelTable:
    """Return a label table from JSON values; DatasetError, which starts with `location`, when they are not one."""
    if not isinstance(values, Mapping) or not values:
        raise DatasetError(f"{location}: must be a table of voxel values and names")
    table: LabelTable = {}
    for key, names in values.items():
        if not str(key).isdecimal() or int(key) > 255:
            raise DatasetError(f"{location}: {key!r} is not a voxel value from 0 to 255")
        if not isinstance(names, list | tuple) or not names or not all(isinstance(n, str) for n in names):
            raise DatasetError(f"{location}[{key}]: must be a list of names")
        try:
            kinds_from_names(names)
        except LumbarsegError as error:
            raise DatasetError(f"{location}[{key}]: {error}") from error
        table[int(key)] = tuple(names)
    if 0 not in table:
        raise DatasetError(f"{location}: the value 0 is missing; add what unlabelled voxels may be")
    return dict(sorted(table.items()))


def read_label_table(path: Path, default_row_of_0: Sequence[str] = ()) -> LabelTable:
    """Read a label table from a JSON file {value: [names]}; DatasetError when it is not one.

    default_row_of_0 : names for the value 0 if the file does not have it
    """
    _, values = read_json_object(path)
    if default_row_of_0:
        values = {"0": list(default_row_of_0), **values}
    return parse_label_table(values, str(path))


def label_table_to_json(table: Mapping[int, Iterable[str]]) -> dict[str, list[str]]:
    """Return a label table as JSON values."""
    return {str(value): list(names) for value, names in table.items()}


def require_explained(values: Iterable[int], table: Iterable[int], location: object, suggestion: str = "") -> None:
    """Raise DatasetError when a label map holds a value that is not in its label table."""
    unexplained = sorted(set(values) - set(table))
    if unexplained:
        one_or_more = "value" if len(unexplained) == 1 else "values"
        listed = ", ".join(map(str, unexplained))
        text = f"{location}: holds the {one_or_more} {listed}, which the label table does not explain"
        raise DatasetError(f"{text}; {suggestion}" if suggestion else text)


def count_voxels(labels: Array) -> dict[int, int]:
    """Return the number of voxels of each value that occurs in a label map, uint8 of any shape."""
    counts = np.bincount(labels.ravel(order="K"), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def label_structures(table: Mapping[int, Sequence[str]]) -> tuple[Structure, ...]:
    """Return a name and colour for each value above 0; several names become "L4 or L4 arch" in the first's colour."""
    return tuple(_label_structure(value, names) for value, names in table.items() if value)


def _label_structure(value: int, names: Sequence[str]) -> Structure:
    first = _structure_for_name(names[0])
    is_one_structure = len(names) == 1 and first.name == names[0]
    return replace(first, label=value, name=" or ".join(names), code=first.code if is_one_structure else "")


def _structure_for_name(name: str) -> Structure:
    """Return the structure of a name; for a kind or "unknown" one with the colour of the middle structure, or grey."""
    if name == UNKNOWN:
        return Structure(0, name, Kind.BACKGROUND, 0, _GREY, "")
    if name not in tuple(Kind):
        return structure_by_name(name)
    labels = labels_of_kind(Kind(name))
    colour = structure_by_label(labels[len(labels) // 2]).colour if labels else _GREY
    return Structure(0, name, Kind(name), 0, colour, "")
