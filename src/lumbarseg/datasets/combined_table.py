"""The label table of combined datasets: every set of structures has one value, the same in all combinations.

A structure has its own label. A complete vertebra has 100 more than its body, and a set of kinds 150 and one bit for
each kind, so that most values do not depend on the other datasets. Any other set gets the next free value from 214.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from lumbarseg.anatomy import CLASSES, LEVELS, STRUCTURES, Kind, arch_of_level, structure_by_name
from lumbarseg.errors import DatasetError

from .label_table import UNKNOWN, LabelTable

StructureNames = tuple[str, ...]

_WHOLE_VERTEBRA_OFFSET = 100
_KIND_SET_OFFSET = 150
_FREE_VALUES = (*range(_KIND_SET_OFFSET + 2 ** len(CLASSES), 255), *range(1, _WHOLE_VERTEBRA_OFFSET))
_UNKNOWN_VALUE = 255
_NAME_ORDER = {name: i for i, name in enumerate((*CLASSES, *(s.name for s in STRUCTURES)))}


def normalize_names(names: Iterable[str]) -> StructureNames:
    """Return names without duplicates in a fixed order; only "unknown" where it is among them."""
    unique = set(names)
    return (UNKNOWN,) if UNKNOWN in unique else tuple(sorted(unique, key=lambda name: _NAME_ORDER[name]))


def assign_values(
    label_tables: Iterable[LabelTable], existing: Mapping[int, Iterable[str]] | None = None
) -> dict[StructureNames, int]:
    """Return a value for each set of names in the tables, their rows of 0 left out.

    existing: the table of a combined dataset, whose values are kept. DatasetError when there are too many sets.
    """
    rows = {normalize_names(names) for table in label_tables for value, names in table.items() if value}
    assigned = {normalize_names(names): value for value, names in (existing or {}).items() if value}
    assigned |= {row: value for row in rows if (value := _fixed_value(row)) is not None}
    free = [value for value in _FREE_VALUES if value not in {*assigned.values(), *(s.label for s in STRUCTURES)}]
    other = sorted(rows - set(assigned))
    if len(other) > len(free):
        raise DatasetError(
            f"the label tables have {len(other)} sets of structures without a value of their own, more than there are "
            "free values; combine fewer datasets"
        )
    return assigned | dict(zip(other, free, strict=False))


def value_mapping(label_table: LabelTable, values: Mapping[StructureNames, int]) -> dict[int, int]:
    """Return the combined value of each value of a case; a value that means the same as 0 becomes 0."""
    background = normalize_names(label_table[0])
    rows = {value: normalize_names(names) for value, names in label_table.items()}
    return {value: 0 if row == background else values[row] for value, row in rows.items()}


def combined_label_table(label_tables: Iterable[LabelTable], values: Mapping[StructureNames, int]) -> LabelTable:
    """Return the combined table: all values, and the most frequent row of 0."""
    counts = Counter(normalize_names(table[0]) for table in label_tables)
    background = min(counts, key=lambda row: (-counts[row], row))
    return {0: background, **{value: row for row, value in sorted(values.items(), key=lambda item: item[1])}}


def case_label_table(label_table: LabelTable, values: Mapping[StructureNames, int]) -> LabelTable:
    """Return the table of a case with combined values: only what its own source could annotate."""
    background = normalize_names(label_table[0])
    rows = {normalize_names(names) for value, names in label_table.items() if value} - {background}
    return {0: background, **dict(sorted((values[row], row) for row in rows))}


def _fixed_value(names: StructureNames) -> int | None:
    """Return the value of a set of names that is the same in all combinations, None where there is none."""
    if names == (UNKNOWN,):
        return _UNKNOWN_VALUE
    if len(names) == 1 and names[0] not in (Kind.BACKGROUND, Kind.BODY, Kind.DISC, Kind.ARCH):
        return structure_by_name(names[0]).label  # also "sacrum" and "canal", which are kinds of one structure
    if all(name in tuple(Kind) for name in names):
        return _KIND_SET_OFFSET + sum(2 ** CLASSES.index(Kind(name)) for name in names)
    complete = [level for level in LEVELS if set(names) == {level, arch_of_level(level).name}]
    return _WHOLE_VERTEBRA_OFFSET + structure_by_name(complete[0]).label if complete else None
