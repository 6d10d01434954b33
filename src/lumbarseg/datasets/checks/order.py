"""Whether named levels stand as they do in a spine: in order, discs between their vertebrae, none left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lumbarseg.anatomy import LEVELS, Kind
from lumbarseg.datasets.folder import Case

from .finding import Finding
from .pieces import Part

_NEIGHBOURS = 1.5  # of the usual distance of neighbours: less, where a level is left out, is a name left out
_FAR = 1.6  # of the usual distance: more between neighbours is a level in between
_USUAL = 36.0  # mm between neighbouring lumbar vertebrae, where there are too few to tell


def order(case: Case, parts: Sequence[Part]) -> list[Finding]:
    """The column of one case; parts: of its label map."""
    found = []
    for kind in (Kind.BODY, Kind.DISC):
        found += _sorted(case, _column(parts, kind))
    if not found:
        found += _between(case, parts) + _gaps(case, _column(parts, Kind.BODY), drawn_whole(parts))
    return found


def drawn_whole(parts: Sequence[Part]) -> bool:
    """Whether vertebrae are drawn with their posterior elements."""
    return any(Kind.BODY in part.kinds and Kind.ARCH in part.kinds for part in parts)


def _column(parts: Sequence[Part], kind: Kind) -> list[Part]:
    """Named levels of a kind from head to foot, as their names say."""
    named = [part for part in parts if part.level and part.level.kind is kind]
    return sorted(named, key=lambda part: part.level.order if part.level else 0)


def _height(part: Part) -> float:
    return float(part.main.centre[2])


def upside_down(parts: Sequence[Part]) -> bool:
    """Whether every name stands on the wrong side of every other."""
    columns = [_column(parts, kind) for kind in (Kind.BODY, Kind.DISC)]
    pairs = [_height(a) <= _height(b) for column in columns for a, b in pairwise(column)]
    return len(pairs) > 1 and all(pairs)


def _sorted(case: Case, column: Sequence[Part]) -> list[Finding]:
    wrong = [(a, b) for a, b in pairwise(column) if _height(a) <= _height(b)]
    if not wrong:
        return []
    if len(wrong) == len(column) - 1 > 1:
        text = f"the names run from foot to head: {column[0].called} is lowest, {column[-1].called} highest"
    else:
        text = "; ".join(f"{a.called} lies below {b.called}" for a, b in wrong)
    return [Finding(case.name, "order", "error", f"{text}; put the names right")]


def _between(case: Case, parts: Sequence[Part]) -> list[Finding]:
    """A disc lies below the vertebra it is named after first, and above the second; a sacrum may reach above its own
    disc, where it lies flat."""
    heights = {part.level.name: _height(part) for part in parts if part.level and part.level.kind is Kind.BODY}
    wrong = []
    for disc in _column(parts, Kind.DISC):
        upper, lower = disc.called.split("-")
        if heights.get(upper, np.inf) < _height(disc):
            wrong.append(f"disc {disc.called} lies above {upper}")
        if heights.get(lower, -np.inf) > _height(disc):
            wrong.append(f"disc {disc.called} lies below {lower}")
    return [Finding(case.name, "order", "error", f"{text}; put the names right") for text in wrong]


def _gaps(case: Case, column: Sequence[Part], whole: bool) -> list[Finding]:
    """Levels that are left out: known to be undrawn, not drawn, or not there at all."""
    present = [part.called for part in column]
    line = [level for level in LEVELS if level != "L6" or "L6" in present]
    steps = [line.index(b) - line.index(a) for a, b in pairwise(present)]
    if not steps:
        return []
    # whole vertebrae: a single slice shows now the body, now the arch of a level; distances say less
    apart = [float(np.linalg.norm((a.main.centre - b.main.centre)[1:])) for a, b in pairwise(column)]
    usual = float(np.median([d for d, n in zip(apart, steps, strict=True) if n == 1] or [_USUAL]))
    found = []
    for i, (step, distance) in enumerate(zip(steps, apart, strict=True)):
        upper, lower = present[i], present[i + 1]
        left = line[line.index(upper) + 1 : line.index(lower)]
        told = ", ".join(left)
        if left and distance < _NEIGHBOURS * usual and not whole:
            text = f"{upper} and {lower} are neighbours ({distance:.0f} mm apart): the names leave out {told}"
            found.append(Finding(case.name, "gap", "error", f"{text}; put the names right"))
        elif left and not set(left) <= set(case.table[0]) and Kind.BODY.value not in case.table[0]:
            text = f"{told} is not drawn between {upper} and {lower}, and value 0 does not say so"
            found.append(Finding(case.name, "gap", "warning", f"{text}; draw it, or write its name in the row of 0"))
        elif step == 1 and distance > _FAR * usual and not (column[i].main.cut or column[i + 1].main.cut):
            text = f"{upper} and {lower} lie {distance:.0f} mm apart, others {usual:.0f}: is a level left out?"
            found.append(Finding(case.name, "gap", "warning", text))
    return found
