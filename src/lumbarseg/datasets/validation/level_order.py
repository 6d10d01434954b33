"""Whether named levels stand as they do in a spine: in order, discs between their vertebrae, none left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lumbarseg.anatomy import LEVELS, Kind

from ..dataset import Case
from .components import LabelRegion
from .finding import Finding

_NEIGHBOUR_DISTANCE = 1.5  # of the usual distance of neighbours: less, where a level is left out, is a name left out
_GAP_DISTANCE = 1.6  # of the usual distance: more between neighbours is a level in between
_USUAL_DISTANCE = 36.0  # mm between neighbouring lumbar vertebrae, where there are too few to tell


def check_level_order(case: Case, regions: Sequence[LabelRegion]) -> list[Finding]:
    """The column of one case; parts: of its label map."""
    found = []
    for kind in (Kind.BODY, Kind.DISC):
        found += _check_sequence(case, _named_levels(regions, kind))
    if not found:
        found += _check_discs(case, regions) + _check_gaps(
            case, _named_levels(regions, Kind.BODY), has_whole_vertebrae(regions)
        )
    return found


def has_whole_vertebrae(parts: Sequence[LabelRegion]) -> bool:
    """Whether vertebrae are drawn with their posterior elements."""
    return any(Kind.BODY in part.kinds and Kind.ARCH in part.kinds for part in parts)


def _named_levels(parts: Sequence[LabelRegion], kind: Kind) -> list[LabelRegion]:
    """Named levels of a kind from head to foot, as their names say."""
    named = [part for part in parts if part.level and part.level.kind is kind]
    return sorted(named, key=lambda part: part.level.order if part.level else 0)


def _height(part: LabelRegion) -> float:
    return float(part.largest.centre[2])


def is_upside_down(parts: Sequence[LabelRegion]) -> bool:
    """Whether every name stands on the wrong side of every other."""
    columns = [_named_levels(parts, kind) for kind in (Kind.BODY, Kind.DISC)]
    pairs = [_height(a) <= _height(b) for column in columns for a, b in pairwise(column)]
    return len(pairs) > 1 and all(pairs)


def _check_sequence(case: Case, column: Sequence[LabelRegion]) -> list[Finding]:
    wrong = [(a, b) for a, b in pairwise(column) if _height(a) <= _height(b)]
    if not wrong:
        return []
    if len(wrong) == len(column) - 1 > 1:
        text = f"the names run from foot to head: {column[0].display_name} is lowest, {column[-1].display_name} highest"
    else:
        text = "; ".join(f"{a.display_name} lies below {b.display_name}" for a, b in wrong)
    return [Finding(case.name, "order", "error", f"{text}; put the names right")]


def _check_discs(case: Case, parts: Sequence[LabelRegion]) -> list[Finding]:
    """A disc lies below the vertebra it is named after first, and above the second; a sacrum may reach above its own
    disc, where it lies flat."""
    heights = {part.level.name: _height(part) for part in parts if part.level and part.level.kind is Kind.BODY}
    wrong = []
    for disc in _named_levels(parts, Kind.DISC):
        upper, lower = disc.display_name.split("-")
        if heights.get(upper, np.inf) < _height(disc):
            wrong.append(f"disc {disc.display_name} lies above {upper}")
        if heights.get(lower, -np.inf) > _height(disc):
            wrong.append(f"disc {disc.display_name} lies below {lower}")
    return [Finding(case.name, "order", "error", f"{text}; put the names right") for text in wrong]


def _check_gaps(case: Case, column: Sequence[LabelRegion], whole: bool) -> list[Finding]:
    """Levels that are left out: known to be undrawn, not drawn, or not there at all."""
    present = [part.display_name for part in column]
    line = [level for level in LEVELS if level != "L6" or "L6" in present]
    steps = [line.index(b) - line.index(a) for a, b in pairwise(present)]
    if not steps:
        return []
    # whole vertebrae: a single slice shows now the body, now the arch of a level; distances say less
    apart = [float(np.linalg.norm((a.largest.centre - b.largest.centre)[1:])) for a, b in pairwise(column)]
    usual = float(np.median([d for d, n in zip(apart, steps, strict=True) if n == 1] or [_USUAL_DISTANCE]))
    found = []
    for i, (step, distance) in enumerate(zip(steps, apart, strict=True)):
        upper, lower = present[i], present[i + 1]
        left = line[line.index(upper) + 1 : line.index(lower)]
        told = ", ".join(left)
        if left and distance < _NEIGHBOUR_DISTANCE * usual and not whole:
            text = f"{upper} and {lower} are neighbours ({distance:.0f} mm apart): the names leave out {told}"
            found.append(Finding(case.name, "gap", "error", f"{text}; put the names right"))
        elif left and not set(left) <= set(case.label_table[0]) and Kind.BODY.value not in case.label_table[0]:
            text = f"{told} is not drawn between {upper} and {lower}, and value 0 does not say so"
            found.append(Finding(case.name, "gap", "warning", f"{text}; draw it, or write its name in the row of 0"))
        elif (
            step == 1
            and distance > _GAP_DISTANCE * usual
            and not (column[i].largest.touches_edge or column[i + 1].largest.touches_edge)
        ):
            text = f"{upper} and {lower} lie {distance:.0f} mm apart, others {usual:.0f}: is a level left out?"
            found.append(Finding(case.name, "gap", "warning", text))
    return found
