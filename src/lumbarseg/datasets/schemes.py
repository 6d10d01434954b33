"""Label values of other programs and datasets: what each value means, in names of the table of structures.

One table for importers, layouts and results in another program's numbers. Where vertebrae are drawn whole, body and
posterior elements share a value; a kind in the row of 0 was drawn nowhere, a structure there was not drawn though its
kind was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lumbarseg.anatomy import (
    LEVELS,
    LUMBAR_LEVELS,
    STRUCTURES,
    Kind,
    arch_of_level,
    kinds_from_names,
    levels_upward,
    structure_by_name,
)
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array

from .dataset import LabelTable

_SIXTH = LEVELS[-1]
REGULAR_VERTEBRAE = tuple(reversed(levels_upward(LUMBAR_LEVELS[-1], len(LEVELS) - 1)))
"""The regular vertebrae from head to foot."""
_DISC_NAMES = tuple(s.name for s in STRUCTURES if s.kind is Kind.DISC)
UNNAMED_VERTEBRA = (Kind.BODY.value, Kind.ARCH.value)
"""Body and posterior elements of a vertebra that nobody named."""


def disc_below(level: str) -> str:
    """The disc under a vertebra of a regular spine, under L6 the one on the sacrum."""
    row = (*REGULAR_VERTEBRAE, "") if level in REGULAR_VERTEBRAE else (level, "")
    lower = row[row.index(level) + 1]
    return next(
        name
        for name in _DISC_NAMES
        if _disc_neighbours(name)[0] == level and (_disc_neighbours(name)[1] == lower or _is_lumbosacral(name, lower))
    )


def whole_vertebra(level: str) -> tuple[str, str]:
    """A vertebra with its posterior elements."""
    return level, arch_of_level(level).name


def _disc_neighbours(name: str) -> tuple[str, str]:
    upper, _, lower = name.partition("-")
    return upper, lower


def _is_lumbosacral(name: str, lower: str) -> bool:
    """Whether no vertebra is named below and the disc lies on the sacrum."""
    return not lower and _disc_neighbours(name)[1] not in LEVELS


def regular_structures(kind: Kind) -> tuple[str, ...]:
    """Names of one kind in a spine of five lumbar vertebrae, from head to foot."""
    if kind is Kind.DISC:
        return tuple(disc_below(level) for level in REGULAR_VERTEBRAE)
    if kind is Kind.ARCH:
        return tuple(arch_of_level(level).name for level in REGULAR_VERTEBRAE)
    return REGULAR_VERTEBRAE if kind is Kind.BODY else tuple(s.name for s in STRUCTURES if s.kind is kind)


def unannotated_names(annotated_rows: Iterable[Iterable[str]], partial_kinds: Iterable[Kind] = ()) -> tuple[str, ...]:
    """What the unlabelled voxels of a source may be whose other values mean `rows`: the row of value 0.

    Kinds that no row allows; and, of a kind that rows only give by name, the regular structures without a row. partly:
    kinds that are drawn in part, which says nothing about the rest.
    """
    annotated_rows = [tuple(row) for row in annotated_rows if Kind.BACKGROUND not in kinds_from_names(row)]
    drawn = set().union(*map(kinds_from_names, annotated_rows)) - set(partial_kinds)
    names = {name for row in annotated_rows for name in row}
    found: list[str] = [Kind.BACKGROUND]
    for kind in Kind:
        if kind is not Kind.BACKGROUND and kind not in drawn:
            found.append(kind.value)
        elif kind is not Kind.BACKGROUND and kind.value not in names:
            found += [name for name in regular_structures(kind) if name not in names]
    return tuple(str(name) for name in found)


def labels_for_names(names: Iterable[str]) -> frozenset[int]:
    """Label values of the structures that names of structures and kinds allow, background left out."""
    names = frozenset(names)
    return frozenset(s.label for s in STRUCTURES if s.name in names or s.kind in names)


def names_for_labels(labels: Iterable[int]) -> tuple[str, ...]:
    """The shortest names of a set of structures: the kind where all of a kind are in it."""
    labels, found = frozenset(labels), list[str]()
    for kind in Kind:
        mine = [s for s in STRUCTURES if s.kind is kind]
        inside = [s.name for s in mine if s.label in labels]
        found += [kind.value] if mine and len(inside) == len(mine) and len(mine) > 1 else inside
    return tuple(found)


def value_for_structure(label_table: Mapping[int, Iterable[str]], name: str) -> int:
    """The first value in the table's order that means a structure, 0 where it has none.

    A value for its whole kind counts only in a table that names no structure of this kind.
    """
    kind = structure_by_name(name).kind
    rows = {value: tuple(names) for value, names in label_table.items() if value}
    named = next((value for value, names in rows.items() if name in names), 0)
    if named or any(n not in tuple(Kind) and kind in kinds_from_names([n]) for names in rows.values() for n in names):
        return named
    return next((value for value, names in rows.items() if kind.value in names), 0)


def encode_labels(labels: Array, label_table: Mapping[int, Iterable[str]]) -> Array:
    """Labels in the package's own values, uint8, as another table has them; what it has no value for becomes 0."""
    lookup = np.zeros(256, np.uint8)
    for structure in STRUCTURES:
        lookup[structure.label] = value_for_structure(label_table, structure.name)
    return lookup[labels]


def get_scheme(name: str) -> LabelTable:
    """The table of a scheme; DatasetError when there is none."""
    if name not in SCHEMES:
        raise DatasetError(f"{name!r} is no scheme of label values; choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]


def _own_labels(*kinds: Kind) -> LabelTable:
    return {s.label: (s.name,) for s in STRUCTURES if not kinds or s.kind in kinds}


def _with_background_row(rows: LabelTable) -> LabelTable:
    return {0: unannotated_names(rows.values()), **rows}


def _lumbar_bodies() -> LabelTable:
    return {structure_by_name(level).label: (level,) for level in LUMBAR_LEVELS}


def _lumbar_discs() -> LabelTable:
    return {structure_by_name(disc).label: (disc,) for disc in map(disc_below, LUMBAR_LEVELS)}


def _siegen() -> LabelTable:
    """Bodies from T9 down in the package's own values; 30 is the body of S1, a part of the sacrum."""
    rows: LabelTable = {
        structure_by_name(level).label: (level,)
        for level in REGULAR_VERTEBRAE[REGULAR_VERTEBRAE.index(LUMBAR_LEVELS[0]) - 4 :]
    }
    rows |= {30: (Kind.SACRUM.value,)}
    return {0: unannotated_names(rows.values(), partial_kinds=(Kind.SACRUM,)), **rows}


def _spider() -> LabelTable:
    """SPIDER counts from the lowest vertebra: n, 100 + n partly in view, 200 + n the disc below it; canal 100."""
    upward = [*reversed(REGULAR_VERTEBRAE)]
    table: LabelTable = {100: (Kind.CANAL.value,)}
    for n in range(1, 26):
        level = upward[n - 1] if n <= len(upward) else ""
        table |= dict.fromkeys((n, 100 + n), whole_vertebra(level) if level else UNNAMED_VERTEBRA)
        table[200 + n] = (disc_below(level) if level else Kind.DISC.value,)
    return _with_background_row(table)


def _spider_t2() -> LabelTable:
    """The package's own values, a body's meaning the whole vertebra.

    60 is a vertebra and 62 a disc above T12, 61 a vertebra that is partly in view.
    """
    table = _own_labels(Kind.DISC, Kind.CANAL) | {
        structure_by_name(level).label: whole_vertebra(level) for level in LEVELS
    }
    return table | {
        0: (Kind.BACKGROUND.value, Kind.SACRUM.value),
        60: UNNAMED_VERTEBRA,
        61: UNNAMED_VERTEBRA,
        62: (Kind.DISC.value,),
    }


def _mrspineseg() -> LabelTable:
    """1 sacrum, 2 L5 and upward to 10 T9; 11 the disc on the sacrum and upward to 19."""
    upward = [*reversed(REGULAR_VERTEBRAE)][:9]
    rows: LabelTable = {1: (Kind.SACRUM.value,)}
    rows |= {2 + i: whole_vertebra(level) for i, level in enumerate(upward)}
    return _with_background_row(rows | {11 + i: (disc_below(level),) for i, level in enumerate(upward)})


def _totalsegmentator() -> LabelTable:
    """Task vertebrae_mr: 1 sacrum, 2 L5 and upward to 25, the highest cervical vertebra."""
    upward = [*reversed(REGULAR_VERTEBRAE)]
    rows: LabelTable = {1: (Kind.SACRUM.value,)}
    return _with_background_row(
        rows | {2 + i: whole_vertebra(upward[i]) if i < len(upward) else UNNAMED_VERTEBRA for i in range(24)}
    )


def _spineps() -> LabelTable:
    """VerSe's numbers: cervical 1-7, thoracic from 8, lumbar from 20, sacrum 26, a thirteenth thoracic vertebra 28.

    100 more is the disc below, 200 more its end plates; 60 cord and 61 canal come from the mask of subregions.
    """
    rows: LabelTable = {26: (Kind.SACRUM.value,), 61: (Kind.CANAL.value,), 60: (Kind.CANAL.value,)}
    for value in (*range(1, 26), 28):
        level = LEVELS[value - 8] if 8 <= value < 26 else ""
        rows[value] = whole_vertebra(level) if level else UNNAMED_VERTEBRA
        rows[100 + value] = (disc_below(level) if level else Kind.DISC.value,)
        rows[200 + value] = (Kind.BODY.value, Kind.DISC.value)
    return _with_background_row(rows)


def _spineps_subregions() -> LabelTable:
    """The tissues of SPINEPS: 26 sacrum, 40-50 parts of vertebrae, 60 cord, 61 canal, 62 end plates, 100 discs."""
    rows: LabelTable = dict.fromkeys(range(41, 49), (Kind.ARCH.value,))
    rows |= {26: (Kind.SACRUM.value,), 49: (Kind.BODY.value,), 50: (Kind.BODY.value,), 40: UNNAMED_VERTEBRA}
    rows |= dict.fromkeys((61, 60), (Kind.CANAL.value,)) | {100: (Kind.DISC.value,)}
    return _with_background_row(rows | dict.fromkeys((62, 52, 53), (Kind.BODY.value, Kind.DISC.value)))


def _totalspineseg() -> LabelTable:
    """1 cord, 2 canal; vertebrae 11-17, 21-32, 41-45, sacrum 50; discs 63-67, 71-82, 91-95, on the sacrum 100."""
    rows: LabelTable = dict.fromkeys((2, 1), (Kind.CANAL.value,))
    rows |= dict.fromkeys(range(11, 18), UNNAMED_VERTEBRA) | dict.fromkeys((*range(63, 68), 71), (Kind.DISC.value,))
    rows |= zip((*range(21, 33), *range(41, 46)), map(whole_vertebra, REGULAR_VERTEBRAE), strict=True)
    rows |= zip((*range(72, 83), *range(91, 96), 100), ((disc,) for disc in regular_structures(Kind.DISC)), strict=True)
    return _with_background_row(rows | {50: (Kind.SACRUM.value,)})


_TISSUE_VALUES: LabelTable = {1: UNNAMED_VERTEBRA, 2: (Kind.DISC.value,), 3: (Kind.CANAL.value,)}

SCHEMES: dict[str, LabelTable] = {
    "default": {0: (Kind.BACKGROUND.value,), **_own_labels()},
    "bodies": _with_background_row(_own_labels(Kind.BODY)),
    "lumbar_bodies": _with_background_row(_lumbar_bodies()),
    "lumbar_discs": _with_background_row(_lumbar_discs()),
    "siegen": _siegen(),
    "spider_space": {0: (Kind.BACKGROUND.value, Kind.SACRUM.value), **_TISSUE_VALUES},
    "spider_t2": _spider_t2(),
    "spider": _spider(),
    "mrspineseg": _mrspineseg(),
    "totalsegmentator": _totalsegmentator(),
    "spineps": _spineps(),
    "spineps_subregions": _spineps_subregions(),
    "totalspineseg": _totalspineseg(),
}
"""Tables by name; those of the package's own values first."""
