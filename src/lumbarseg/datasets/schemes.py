"""Label schemes: the label values of other programs and datasets, as tables of structure names.

Importers and outputs in another program's values use the same tables. Where vertebrae are annotated as a whole, body
and posterior elements share a value. The row of 0 names what is not annotated: a kind in no exam, or a structure though
others of its kind are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np

from lumbarseg.anatomy import (
    LEVELS,
    LUMBAR_LEVELS,
    STRUCTURES,
    Kind,
    arch_of_level,
    disc_between,
    kinds_from_names,
    levels_upward,
    structure_by_name,
)
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array

from .label_table import LabelTable

REGULAR_VERTEBRAE = tuple(reversed(levels_upward(LUMBAR_LEVELS[-1], len(LEVELS) - 1)))
"""The regular vertebrae from head to foot."""
UNNAMED_VERTEBRA = (Kind.BODY.value, Kind.ARCH.value)
"""Body and posterior elements of a vertebra without a name."""
_SACRUM, _CANAL, _DISC = (Kind.SACRUM.value,), (Kind.CANAL.value,), (Kind.DISC.value,)
_DISC_BELOW = {upper: disc_between(upper, lower).name for upper, lower in pairwise((*REGULAR_VERTEBRAE, "S1"))}


def disc_below(level: str) -> str:
    """Return the disc below a vertebra of a regular spine; below L6 the one on the sacrum."""
    return _DISC_BELOW.get(level) or disc_between(level, "S1").name


def whole_vertebra(level: str) -> tuple[str, str]:
    """Return the names of a vertebra and its posterior elements."""
    return level, arch_of_level(level).name


def regular_structures(kind: Kind) -> tuple[str, ...]:
    """Return the names of one kind in a spine of five lumbar vertebrae, from head to foot."""
    if kind is Kind.DISC:
        return tuple(_DISC_BELOW.values())
    if kind is Kind.ARCH:
        return tuple(arch_of_level(level).name for level in REGULAR_VERTEBRAE)
    return REGULAR_VERTEBRAE if kind is Kind.BODY else tuple(s.name for s in STRUCTURES if s.kind is kind)


def unannotated_names(annotated_rows: Iterable[Iterable[str]], partial_kinds: Iterable[Kind] = ()) -> tuple[str, ...]:
    """Return what the unlabelled voxels of a source may be: the row of value 0.

    Parameters
    ----------
    annotated_rows : the rows of the other values
    partial_kinds : kinds of which only a part is annotated, so that the rest may be anywhere

    Returns
    -------
    "background", the kinds that no row allows, and, of a kind that rows give by name only, the regular structures
    without a row.
    """
    rows = [tuple(row) for row in annotated_rows if Kind.BACKGROUND not in kinds_from_names(row)]
    annotated = set().union(*map(kinds_from_names, rows)) - set(partial_kinds)
    names = {name for row in rows for name in row}
    missing: list[str] = [Kind.BACKGROUND.value]
    for kind in tuple(Kind)[1:]:
        if kind not in annotated:
            missing.append(kind.value)
        elif kind.value not in names:
            missing += [name for name in regular_structures(kind) if name not in names]
    return tuple(missing)


def labels_for_names(names: Iterable[str]) -> frozenset[int]:
    """Return the labels of all structures that names of structures and kinds allow, without background."""
    names = frozenset(names)
    return frozenset(s.label for s in STRUCTURES if s.name in names or s.kind in names)


def names_for_labels(labels: Iterable[int]) -> tuple[str, ...]:
    """Return the shortest names of a set of structures: the kind where all of a kind are in it."""
    labels, names = frozenset(labels), list[str]()
    for kind in Kind:
        of_kind = [s for s in STRUCTURES if s.kind is kind]
        inside = [s.name for s in of_kind if s.label in labels]
        names += [kind.value] if len(inside) == len(of_kind) > 1 else inside
    return tuple(names)


def value_for_structure(label_table: Mapping[int, Iterable[str]], name: str) -> int:
    """Return the first value in the table's order that means a structure, 0 where it has none.

    A value for the whole kind counts only in a table that names no structure of this kind.
    """
    kind = structure_by_name(name).kind
    rows = {value: tuple(names) for value, names in label_table.items() if value}
    value = next((value for value, names in rows.items() if name in names), 0)
    if value or any(n not in tuple(Kind) and kind in kinds_from_names([n]) for names in rows.values() for n in names):
        return value
    return next((value for value, names in rows.items() if kind.value in names), 0)


def encode_labels(labels: Array, label_table: Mapping[int, Iterable[str]]) -> Array:
    """Convert the package's own labels, uint8, to another table; structures without a value become 0."""
    lookup = np.zeros(256, np.uint8)
    for structure in STRUCTURES:
        lookup[structure.label] = value_for_structure(label_table, structure.name)
    return lookup[labels]


def get_scheme(name: str) -> LabelTable:
    """Return the table of a scheme; DatasetError when there is none of this name."""
    if name not in SCHEMES:
        raise DatasetError(f"{name!r} is no scheme of label values; choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]


def own_labels(names: Iterable[str]) -> LabelTable:
    """Return rows of structures under their own labels."""
    return {structure_by_name(name).label: (name,) for name in names}


def with_background_row(rows: LabelTable) -> LabelTable:
    """Return rows with the row of 0 that follows from them."""
    return {0: unannotated_names(rows.values()), **rows}


def _spider() -> LabelTable:
    """SPIDER counts from the lowest vertebra: n, 100 + n partly in view, 200 + n the disc below it; canal 100."""
    upward = [*reversed(REGULAR_VERTEBRAE)]
    table: LabelTable = {100: _CANAL}
    for n in range(1, 26):
        level = upward[n - 1] if n <= len(upward) else ""
        table |= dict.fromkeys((n, 100 + n), whole_vertebra(level) if level else UNNAMED_VERTEBRA)
        table[200 + n] = (disc_below(level),) if level else _DISC
    return table


def _mrspineseg() -> LabelTable:
    """1 sacrum, 2 L5 and upward to 10 T9; 11 the disc on the sacrum and upward to 19."""
    upward = [*reversed(REGULAR_VERTEBRAE)][:9]
    rows: LabelTable = {1: _SACRUM}
    rows |= {2 + i: whole_vertebra(level) for i, level in enumerate(upward)}
    return rows | {11 + i: (disc_below(level),) for i, level in enumerate(upward)}


def _totalsegmentator() -> LabelTable:
    """Task vertebrae_mr: 1 sacrum, 2 L5 and upward to 25, the highest cervical vertebra."""
    upward = [*reversed(REGULAR_VERTEBRAE)]
    vertebrae = [*map(whole_vertebra, upward), *[UNNAMED_VERTEBRA] * (24 - len(upward))]
    return {1: _SACRUM} | dict(enumerate(vertebrae, start=2))


def _spineps() -> LabelTable:
    """VerSe's numbers: cervical 1-7, thoracic from 8, lumbar from 20, sacrum 26, a thirteenth thoracic vertebra 28.

    100 more is the disc below, 200 more its end plates; 60 cord and 61 canal come from the mask of subregions.
    """
    rows: LabelTable = {26: _SACRUM, 61: _CANAL, 60: _CANAL}
    for value in (*range(1, 26), 28):
        level = LEVELS[value - 8] if 8 <= value < 26 else ""
        rows[value] = whole_vertebra(level) if level else UNNAMED_VERTEBRA
        rows[100 + value] = (disc_below(level),) if level else _DISC
        rows[200 + value] = (Kind.BODY.value, Kind.DISC.value)
    return rows


def _spineps_subregions() -> LabelTable:
    """The tissues of SPINEPS: 26 sacrum, 40-50 parts of vertebrae, 60 cord, 61 canal, 62 end plates, 100 discs."""
    rows: LabelTable = dict.fromkeys(range(41, 49), (Kind.ARCH.value,))
    rows |= {26: _SACRUM, 49: (Kind.BODY.value,), 50: (Kind.BODY.value,), 40: UNNAMED_VERTEBRA}
    rows |= {61: _CANAL, 60: _CANAL, 100: _DISC}
    return rows | dict.fromkeys((62, 52, 53), (Kind.BODY.value, Kind.DISC.value))


def _totalspineseg() -> LabelTable:
    """1 cord, 2 canal; vertebrae 11-17, 21-32, 41-45, sacrum 50; discs 63-67, 71-82, 91-95, on the sacrum 100."""
    rows: LabelTable = {2: _CANAL, 1: _CANAL}
    rows |= dict.fromkeys(range(11, 18), UNNAMED_VERTEBRA) | dict.fromkeys((*range(63, 68), 71), _DISC)
    rows |= zip((*range(21, 33), *range(41, 46)), map(whole_vertebra, REGULAR_VERTEBRAE), strict=True)
    discs = ((disc,) for disc in regular_structures(Kind.DISC))
    return rows | dict(zip((*range(72, 83), *range(91, 96), 100), discs, strict=True)) | {50: _SACRUM}


SCHEMES: dict[str, LabelTable] = {
    "default": {0: (Kind.BACKGROUND.value,), **own_labels(s.name for s in STRUCTURES)},
    "bodies": with_background_row(own_labels(LEVELS)),
    "lumbar_bodies": with_background_row(own_labels(LUMBAR_LEVELS)),
    "lumbar_discs": with_background_row(own_labels(map(disc_below, LUMBAR_LEVELS))),
    "spider": with_background_row(_spider()),
    "mrspineseg": with_background_row(_mrspineseg()),
    "totalsegmentator": with_background_row(_totalsegmentator()),
    "spineps": with_background_row(_spineps()),
    "spineps_subregions": with_background_row(_spineps_subregions()),
    "totalspineseg": with_background_row(_totalspineseg()),
}
"""Tables by name; those of the package's own labels first."""
