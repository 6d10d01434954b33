"""Conversion of a source's label values to the package's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.volume import Array

from ..label_table import LabelTable
from ..schemes import unannotated_names

PARTIAL_OFFSET = 100
"""Added to a structure's label where a source has a second value for it: a structure partly in view."""
_FIRST_UNNAMED_VALUE = 200


def to_own_labels(rows: Mapping[int, tuple[str, ...]]) -> tuple[LabelTable, Array]:
    """Return a source's rows under the package's own labels, with a row of 0, and a (256,) uint8 lookup of values.

    A vertebra has the label of its body, whatever else its row allows. Equal rows without a level share a value.
    """
    table: LabelTable = {}
    lookup = np.zeros(256, np.uint8)
    unnamed: dict[tuple[str, ...], int] = {}
    for value, names in sorted(rows.items()):
        if value == 0:
            continue
        if names[0] in tuple(Kind) and names[0] not in (Kind.SACRUM, Kind.CANAL):
            own = unnamed.setdefault(names, _FIRST_UNNAMED_VALUE + len(unnamed))
        else:
            label = structure_by_name(names[0]).label
            own = PARTIAL_OFFSET + label if label in table else label
        table[own] = names
        lookup[value] = own
    return {0: unannotated_names(table.values()), **dict(sorted(table.items()))}, lookup
