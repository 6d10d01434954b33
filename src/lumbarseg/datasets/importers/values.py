"""A source's label values in the package's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lumbarseg.anatomy import Kind, by_name
from lumbarseg.datasets.folder import Table
from lumbarseg.datasets.schemes import undrawn
from lumbarseg.volume import Array

SECOND = 100
"""Added to a structure's label where a source has a second value for it, for one that is partly in view."""
_UNNAMED = 200  # from here on, what has no name


def own_values(rows: Mapping[int, tuple[str, ...]]) -> tuple[Table, Array]:
    """A source's rows in the package's own values, the row of 0 included, and (256,) uint8 that takes values there.

    A vertebra has the label of its body, whatever else its row allows. Several rows without a name share a value.
    """
    table: Table = {}
    lookup = np.zeros(256, np.uint8)
    unnamed: dict[tuple[str, ...], int] = {}
    for value, names in sorted(rows.items()):
        if value == 0:
            continue
        if names[0] in tuple(Kind) and names[0] not in (Kind.SACRUM, Kind.CANAL):
            own = unnamed.setdefault(names, _UNNAMED + len(unnamed))
        else:
            label = by_name(names[0]).label
            own = SECOND + label if label in table else label
        table[own] = names
        lookup[value] = own
    return {0: undrawn(table.values()), **dict(sorted(table.items()))}, lookup
