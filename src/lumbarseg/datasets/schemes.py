"""Label values of other programs and datasets: what each value means, in names of the table of structures.

One table for importers, layouts and results in another program's numbers. Where vertebrae are drawn whole, body and
posterior elements share a value; a kind in the row of 0 was drawn nowhere, a structure there was not drawn though its
kind was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from lumbarseg.anatomy import LEVELS, LUMBAR, STRUCTURES, Kind, arch_of, by_name, classes_of, column
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array

from .folder import Table

_SIXTH = LEVELS[-1]
COLUMN = tuple(reversed(column(LUMBAR[-1], len(LEVELS) - 1)))
"""The regular vertebrae from head to foot."""
_NAMED = tuple(s.name for s in STRUCTURES if s.kind is Kind.DISC)
WHOLE = (Kind.BODY.value, Kind.ARCH.value)
"""Body and posterior elements of a vertebra that nobody named."""


def disc_below(level: str) -> str:
    """The disc under a vertebra of a regular spine, under L6 the one on the sacrum."""
    row = (*COLUMN, "") if level in COLUMN else (level, "")
    lower = row[row.index(level) + 1]
    return next(name for name in _NAMED if _ends(name)[0] == level and (_ends(name)[1] == lower or _on(name, lower)))


def whole(level: str) -> tuple[str, str]:
    """A vertebra with its posterior elements."""
    return level, arch_of(level).name


def _ends(name: str) -> tuple[str, str]:
    upper, _, lower = name.partition("-")
    return upper, lower


def _on(name: str, lower: str) -> bool:
    """Whether no vertebra is named below and the disc lies on the sacrum."""
    return not lower and _ends(name)[1] not in LEVELS


def regular(kind: Kind) -> tuple[str, ...]:
    """Names of one kind in a spine of five lumbar vertebrae, from head to foot."""
    if kind is Kind.DISC:
        return tuple(disc_below(level) for level in COLUMN)
    if kind is Kind.ARCH:
        return tuple(arch_of(level).name for level in COLUMN)
    return COLUMN if kind is Kind.BODY else tuple(s.name for s in STRUCTURES if s.kind is kind)


def undrawn(rows: Iterable[Iterable[str]], partly: Iterable[Kind] = ()) -> tuple[str, ...]:
    """What the unlabelled voxels of a source may be whose other values mean `rows`: the row of value 0.

    Kinds that no row allows; and, of a kind that rows only give by name, the regular structures without a row. partly:
    kinds that are drawn in part, which says nothing about the rest.
    """
    rows = [tuple(row) for row in rows if Kind.BACKGROUND not in classes_of(row)]
    drawn = set().union(*map(classes_of, rows)) - set(partly)
    names = {name for row in rows for name in row}
    found: list[str] = [Kind.BACKGROUND]
    for kind in Kind:
        if kind is not Kind.BACKGROUND and kind not in drawn:
            found.append(kind.value)
        elif kind is not Kind.BACKGROUND and kind.value not in names:
            found += [name for name in regular(kind) if name not in names]
    return tuple(str(name) for name in found)


def labels_of(names: Iterable[str]) -> frozenset[int]:
    """Label values of the structures that names of structures and kinds allow, background left out."""
    names = frozenset(names)
    return frozenset(s.label for s in STRUCTURES if s.name in names or s.kind in names)


def names_of(labels: Iterable[int]) -> tuple[str, ...]:
    """The shortest names of a set of structures: the kind where all of a kind are in it."""
    labels, found = frozenset(labels), list[str]()
    for kind in Kind:
        mine = [s for s in STRUCTURES if s.kind is kind]
        inside = [s.name for s in mine if s.label in labels]
        found += [kind.value] if mine and len(inside) == len(mine) and len(mine) > 1 else inside
    return tuple(found)


def value_of(table: Mapping[int, Iterable[str]], name: str) -> int:
    """The first value in the table's order that means a structure, 0 where it has none.

    A value for its whole kind counts only in a table that names no structure of this kind.
    """
    kind = by_name(name).kind
    rows = {value: tuple(names) for value, names in table.items() if value}
    named = next((value for value, names in rows.items() if name in names), 0)
    if named or any(n not in tuple(Kind) and kind in classes_of([n]) for names in rows.values() for n in names):
        return named
    return next((value for value, names in rows.items() if kind.value in names), 0)


def encode(labels: Array, table: Mapping[int, Iterable[str]]) -> Array:
    """Labels in the package's own values, uint8, as another table has them; what it has no value for becomes 0."""
    lookup = np.zeros(256, np.uint8)
    for structure in STRUCTURES:
        lookup[structure.label] = value_of(table, structure.name)
    return lookup[labels]


def scheme(name: str) -> Table:
    """The table of a scheme; DatasetError when there is none."""
    if name not in SCHEMES:
        raise DatasetError(f"{name!r} is no scheme of label values; choose one of {', '.join(SCHEMES)}")
    return SCHEMES[name]


def _own(*kinds: Kind) -> Table:
    return {s.label: (s.name,) for s in STRUCTURES if not kinds or s.kind in kinds}


def _drawn(rows: Table) -> Table:
    return {0: undrawn(rows.values()), **rows}


def _lumbar_bodies() -> Table:
    return {by_name(level).label: (level,) for level in LUMBAR}


def _lumbar_discs() -> Table:
    return {by_name(disc).label: (disc,) for disc in map(disc_below, LUMBAR)}


def _siegen() -> Table:
    """Bodies from T9 down in the package's own values; 30 is the body of S1, a part of the sacrum."""
    rows: Table = {by_name(level).label: (level,) for level in COLUMN[COLUMN.index(LUMBAR[0]) - 4 :]}
    rows |= {30: (Kind.SACRUM.value,)}
    return {0: undrawn(rows.values(), partly=(Kind.SACRUM,)), **rows}


def _spider() -> Table:
    """SPIDER counts from the lowest vertebra: n, 100 + n partly in view, 200 + n the disc below it; canal 100."""
    upward = [*reversed(COLUMN)]
    table: Table = {100: (Kind.CANAL.value,)}
    for n in range(1, 26):
        level = upward[n - 1] if n <= len(upward) else ""
        table |= dict.fromkeys((n, 100 + n), whole(level) if level else WHOLE)
        table[200 + n] = (disc_below(level) if level else Kind.DISC.value,)
    return _drawn(table)


def _spider_t2() -> Table:
    """The package's own values, a body's meaning the whole vertebra.

    60 is a vertebra and 62 a disc above T12, 61 a vertebra that is partly in view.
    """
    table = _own(Kind.DISC, Kind.CANAL) | {by_name(level).label: whole(level) for level in LEVELS}
    return table | {0: (Kind.BACKGROUND.value, Kind.SACRUM.value), 60: WHOLE, 61: WHOLE, 62: (Kind.DISC.value,)}


def _mrspineseg() -> Table:
    """1 sacrum, 2 L5 and upward to 10 T9; 11 the disc on the sacrum and upward to 19."""
    upward = [*reversed(COLUMN)][:9]
    rows: Table = {1: (Kind.SACRUM.value,)}
    rows |= {2 + i: whole(level) for i, level in enumerate(upward)}
    return _drawn(rows | {11 + i: (disc_below(level),) for i, level in enumerate(upward)})


def _totalsegmentator() -> Table:
    """Task vertebrae_mr: 1 sacrum, 2 L5 and upward to 25, the highest cervical vertebra."""
    upward = [*reversed(COLUMN)]
    rows: Table = {1: (Kind.SACRUM.value,)}
    return _drawn(rows | {2 + i: whole(upward[i]) if i < len(upward) else WHOLE for i in range(24)})


def _spineps() -> Table:
    """VerSe's numbers: cervical 1-7, thoracic from 8, lumbar from 20, sacrum 26, a thirteenth thoracic vertebra 28.

    100 more is the disc below, 200 more its end plates; 60 cord and 61 canal come from the mask of subregions.
    """
    rows: Table = {26: (Kind.SACRUM.value,), 61: (Kind.CANAL.value,), 60: (Kind.CANAL.value,)}
    for value in (*range(1, 26), 28):
        level = LEVELS[value - 8] if 8 <= value < 26 else ""
        rows[value] = whole(level) if level else WHOLE
        rows[100 + value] = (disc_below(level) if level else Kind.DISC.value,)
        rows[200 + value] = (Kind.BODY.value, Kind.DISC.value)
    return _drawn(rows)


def _spineps_subregions() -> Table:
    """The tissues of SPINEPS: 26 sacrum, 40-50 parts of vertebrae, 60 cord, 61 canal, 62 end plates, 100 discs."""
    rows: Table = dict.fromkeys(range(41, 49), (Kind.ARCH.value,))
    rows |= {26: (Kind.SACRUM.value,), 49: (Kind.BODY.value,), 50: (Kind.BODY.value,), 40: WHOLE}
    rows |= dict.fromkeys((61, 60), (Kind.CANAL.value,)) | {100: (Kind.DISC.value,)}
    return _drawn(rows | dict.fromkeys((62, 52, 53), (Kind.BODY.value, Kind.DISC.value)))


def _totalspineseg() -> Table:
    """1 cord, 2 canal; vertebrae 11-17, 21-32, 41-45, sacrum 50; discs 63-67, 71-82, 91-95, on the sacrum 100."""
    rows: Table = dict.fromkeys((2, 1), (Kind.CANAL.value,))
    rows |= dict.fromkeys(range(11, 18), WHOLE) | dict.fromkeys((*range(63, 68), 71), (Kind.DISC.value,))
    rows |= zip((*range(21, 33), *range(41, 46)), map(whole, COLUMN), strict=True)
    rows |= zip((*range(72, 83), *range(91, 96), 100), ((disc,) for disc in regular(Kind.DISC)), strict=True)
    return _drawn(rows | {50: (Kind.SACRUM.value,)})


_TISSUES: Table = {1: WHOLE, 2: (Kind.DISC.value,), 3: (Kind.CANAL.value,)}

SCHEMES: dict[str, Table] = {
    "default": {0: (Kind.BACKGROUND.value,), **_own()},
    "bodies": _drawn(_own(Kind.BODY)),
    "lumbar_bodies": _drawn(_lumbar_bodies()),
    "lumbar_discs": _drawn(_lumbar_discs()),
    "siegen": _siegen(),
    "spider_space": {0: (Kind.BACKGROUND.value, Kind.SACRUM.value), **_TISSUES},
    "spider_t2": _spider_t2(),
    "spider": _spider(),
    "mrspineseg": _mrspineseg(),
    "totalsegmentator": _totalsegmentator(),
    "spineps": _spineps(),
    "spineps_subregions": _spineps_subregions(),
    "totalspineseg": _totalspineseg(),
}
"""Tables by name; those of the package's own values first."""
