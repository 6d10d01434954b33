"""One label table for datasets that drew different things: every set of structures has one value, always the same.

A structure has its own label. A whole vertebra has 100 more than its body, and a set of kinds 150 and one bit for each
of them, so that most values do not depend on what else is in the union. Anything else gets the next value from 214.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from lumbarseg.anatomy import CLASSES, LEVELS, STRUCTURES, Kind, arch_of_level, structure_by_name
from lumbarseg.errors import DatasetError

from .dataset import LabelTable

StructureNames = tuple[str, ...]

_WHOLE_VERTEBRA_OFFSET = 100
_KIND_SET_OFFSET = 150
_FREE_VALUES = (*range(_KIND_SET_OFFSET + 2 ** len(CLASSES), 255), *range(1, _WHOLE_VERTEBRA_OFFSET))
_UNKNOWN_VALUE = 255
_NAME_ORDER = {name: i for i, name in enumerate((*CLASSES, *(s.name for s in STRUCTURES)))}


def normalize_names(names: Iterable[str]) -> StructureNames:
    """The names of a row in one order, once each; "unknown" stands alone."""
    told = set(names)
    return ("unknown",) if "unknown" in told else tuple(sorted(told, key=lambda name: _NAME_ORDER[name]))


def assign_values(
    label_tables: Iterable[LabelTable], existing: Mapping[int, Iterable[str]] | None = None
) -> dict[StructureNames, int]:
    """A value for each row of the tables but those of 0; known: a table of a union, whose values are kept."""
    rows = {normalize_names(names) for table in label_tables for value, names in table.items() if value}
    found = {normalize_names(names): value for value, names in (existing or {}).items() if value}
    found |= {row: value for row in rows if (value := _fixed_value(row)) is not None}
    free = [value for value in _FREE_VALUES if value not in {*found.values(), *(s.label for s in STRUCTURES)}]
    odd = sorted(rows - set(found))
    if len(odd) > len(free):
        raise DatasetError(f"the label tables name {len(odd)} sets of their own, more than there are values; part them")
    return found | dict(zip(odd, free, strict=False))


def value_mapping(label_table: LabelTable, values: Mapping[StructureNames, int]) -> dict[int, int]:
    """From the values of a case to those of the union; what is no different from the value 0 becomes 0."""
    rest = normalize_names(label_table[0])
    return {
        value: 0 if normalize_names(names) == rest else values[normalize_names(names)]
        for value, names in label_table.items()
    }


def combined_label_table(label_tables: Iterable[LabelTable], values: Mapping[StructureNames, int]) -> LabelTable:
    """The table of the union: all values, and what most cases say of 0."""
    rests = Counter(normalize_names(table[0]) for table in label_tables)
    rest = min(rests, key=lambda row: (-rests[row], row))
    return {0: rest, **{value: row for row, value in sorted(values.items(), key=lambda item: item[1])}}


def case_label_table(label_table: LabelTable, values: Mapping[StructureNames, int]) -> LabelTable:
    """A case's table in the union: what its source could have drawn, and nothing that only others drew."""
    rest = normalize_names(label_table[0])
    rows = {normalize_names(names) for value, names in label_table.items() if value} - {rest}
    return {0: rest, **dict(sorted((values[row], row) for row in rows))}


def _fixed_value(names: StructureNames) -> int | None:
    """The value of a row that depends on nothing else."""
    if names == ("unknown",):
        return _UNKNOWN_VALUE
    if len(names) == 1 and names[0] in {s.name for s in STRUCTURES}:
        return structure_by_name(names[0]).label
    if all(name in tuple(Kind) for name in names):
        return _KIND_SET_OFFSET + sum(2 ** CLASSES.index(Kind(name)) for name in names)
    whole = [level for level in LEVELS if set(names) == {level, arch_of_level(level).name}]
    return _WHOLE_VERTEBRA_OFFSET + structure_by_name(whole[0]).label if whole else None
