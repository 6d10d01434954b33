"""One label table for datasets that drew different things: every set of structures has one value, always the same.

A structure has its own label. A whole vertebra has 100 more than its body, and a set of kinds 150 and one bit for each
of them, so that most values do not depend on what else is in the union. Anything else gets the next value from 214.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from lumbarseg.anatomy import CLASSES, LEVELS, STRUCTURES, Kind, arch_of, by_name
from lumbarseg.errors import DatasetError

from .folder import Table

Row = tuple[str, ...]

_WHOLE = 100
_KINDS = 150
_FREE = (*range(_KINDS + 2 ** len(CLASSES), 255), *range(1, _WHOLE))
_UNKNOWN = 255
_ORDER = {name: i for i, name in enumerate((*CLASSES, *(s.name for s in STRUCTURES)))}


def row_of(names: Iterable[str]) -> Row:
    """The names of a row in one order, once each; "unknown" stands alone."""
    told = set(names)
    return ("unknown",) if "unknown" in told else tuple(sorted(told, key=lambda name: _ORDER[name]))


def values_of(tables: Iterable[Table], known: Mapping[int, Iterable[str]] | None = None) -> dict[Row, int]:
    """A value for each row of the tables but those of 0; known: a table of a union, whose values are kept."""
    rows = {row_of(names) for table in tables for value, names in table.items() if value}
    found = {row_of(names): value for value, names in (known or {}).items() if value}
    found |= {row: value for row in rows if (value := _own(row)) is not None}
    free = [value for value in _FREE if value not in {*found.values(), *(s.label for s in STRUCTURES)}]
    odd = sorted(rows - set(found))
    if len(odd) > len(free):
        raise DatasetError(f"the label tables name {len(odd)} sets of their own, more than there are values; part them")
    return found | dict(zip(odd, free, strict=False))


def remap(table: Table, values: Mapping[Row, int]) -> dict[int, int]:
    """From the values of a case to those of the union; what is no different from the value 0 becomes 0."""
    rest = row_of(table[0])
    return {value: 0 if row_of(names) == rest else values[row_of(names)] for value, names in table.items()}


def common(tables: Iterable[Table], values: Mapping[Row, int]) -> Table:
    """The table of the union: all values, and what most cases say of 0."""
    rests = Counter(row_of(table[0]) for table in tables)
    rest = min(rests, key=lambda row: (-rests[row], row))
    return {0: rest, **{value: row for row, value in sorted(values.items(), key=lambda item: item[1])}}


def table_of(table: Table, values: Mapping[Row, int]) -> Table:
    """A case's table in the union: what its source could have drawn, and nothing that only others drew."""
    rest = row_of(table[0])
    rows = {row_of(names) for value, names in table.items() if value} - {rest}
    return {0: rest, **dict(sorted((values[row], row) for row in rows))}


def _own(row: Row) -> int | None:
    """The value of a row that depends on nothing else."""
    if row == ("unknown",):
        return _UNKNOWN
    if len(row) == 1 and row[0] in {s.name for s in STRUCTURES}:
        return by_name(row[0]).label
    if all(name in tuple(Kind) for name in row):
        return _KINDS + sum(2 ** CLASSES.index(Kind(name)) for name in row)
    whole = [level for level in LEVELS if set(row) == {level, arch_of(level).name}]
    return _WHOLE + by_name(whole[0]).label if whole else None
