"""Names of label values in the header of a label map, which say more than the values themselves.

3D Slicer numbers the segments that it saves 1..n in the order of its scene, whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg.errors import DatasetError
from lumbarseg.io.label_names import read_label_names
from lumbarseg.volume import Volume

from ..label_names import structures_of_name
from ..label_table import UNKNOWN, LabelTable, count_voxels
from ..schemes import labels_for_names

KNOWN_FAULTS = {
    "header-names": "the header of the label map names its values otherwise than the label table; its names were used",
}


def apply_stored_names(labels: Volume, path: Path, table: LabelTable) -> tuple[Volume, tuple[str, ...]]:
    """Return labels with the values of the table, and warnings, where the names in a file's header contradict it.

    DatasetError when neither the names nor the values can be right: a value without a known name beside a
    contradiction, or a name for which the table has no value, or several.
    """
    present = set(count_voxels(labels.array)) - {0}
    names = {value: name for value, name in read_label_names(path).items() if value in present}
    structures = {value: structures_of_name(name) for value, name in names.items() if name != UNKNOWN}
    contradicted = [v for v, s in structures.items() if s and not _are_compatible(s, table.get(v, ()))]
    if not contradicted:
        return labels, ()
    first = contradicted[0]
    row = " or ".join(table.get(first, ("nothing",)))
    contradiction = f"{path}: its header calls the value {first} {names[first]!r}, the label table {row}"
    lookup = np.zeros(256, np.uint8)
    for value in sorted(present):
        if not structures.get(value):
            raise DatasetError(f"{contradiction}, and no known name explains the value {value}; correct names or table")
        rows = [v for v, row_names in table.items() if v and _overlap(structures[value], row_names)]
        rows = [v for v in rows if set(table[v]) == set(structures[value])] or rows
        if len(rows) != 1:
            count = "several values" if rows else "no value"
            raise DatasetError(
                f"{path}: the label table has {count} for {names[value]!r}, a name in its header; add it"
            )
        lookup[value] = rows[0]
    return Volume(lookup[labels.array], labels.affine), (f"header-names: {contradiction.removeprefix(f'{path}: ')}",)


def _are_compatible(names: Iterable[str], row: tuple[str, ...]) -> bool:
    return UNKNOWN in row or _overlap(names, row)


def _overlap(names: Iterable[str], row: Iterable[str]) -> bool:
    """Return whether one structure can be meant by both; two sets without structures (background) overlap too."""
    first, second = labels_for_names(names), labels_for_names(row)
    return bool(first & second) or not (first or second)
