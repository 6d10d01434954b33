"""Named levels: in the order of a spine, discs between their vertebrae, none left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lumbarseg.anatomy import LEVELS, Kind

from ..dataset import Case
from . import Finding
from .components import LabelRegion

_NEIGHBOUR_DISTANCE = 1.5  # times the usual distance: less, where a level is left out, means that a name is left out
_GAP_DISTANCE = 1.6  # times the usual distance: more between neighbours is a level in between
_USUAL_DISTANCE = 36.0  # mm between neighbouring lumbar vertebrae, where too few are in view


def check_level_order(case: Case, regions: Sequence[LabelRegion]) -> list[Finding]:
    """Report names out of order and levels left out."""
    findings = []
    for kind in (Kind.BODY, Kind.DISC):
        findings += _check_sequence(case, _named_levels(regions, kind))
    if not findings:
        findings += _check_discs(case, regions)
        findings += _check_gaps(case, _named_levels(regions, Kind.BODY), has_whole_vertebrae(regions))
    return findings


def has_whole_vertebrae(regions: Sequence[LabelRegion]) -> bool:
    """Return whether vertebrae share a value with their posterior elements."""
    return any({Kind.BODY, Kind.ARCH} <= region.kinds for region in regions)


def _named_levels(regions: Sequence[LabelRegion], kind: Kind) -> list[LabelRegion]:
    """Return the named levels of a kind from head to foot, as their names say."""
    named_regions = [region for region in regions if region.level and region.level.kind is kind]
    return sorted(named_regions, key=lambda region: region.level.order if region.level else 0)


def _height(region: LabelRegion) -> float:
    return float(region.largest.center[2])


def is_upside_down(regions: Sequence[LabelRegion]) -> bool:
    """Return whether all names are in the reverse order."""
    columns = [_named_levels(regions, kind) for kind in (Kind.BODY, Kind.DISC)]
    is_reversed = [_height(a) <= _height(b) for column in columns for a, b in pairwise(column)]
    return len(is_reversed) > 1 and all(is_reversed)


def _check_sequence(case: Case, column: Sequence[LabelRegion]) -> list[Finding]:
    wrong = [(a, b) for a, b in pairwise(column) if _height(a) <= _height(b)]
    if not wrong:
        return []
    if len(wrong) == len(column) - 1 > 1:
        first, last = column[0].display_name, column[-1].display_name
        text = f"the names run from foot to head: {first} is lowest, {last} highest"
    else:
        text = "; ".join(f"{a.display_name} lies below {b.display_name}" for a, b in wrong)
    return [Finding(case.name, "order", "error", f"{text}; correct the names")]


def _check_discs(case: Case, regions: Sequence[LabelRegion]) -> list[Finding]:
    """Report discs that do not lie between their vertebrae; a flat sacrum may reach above its own disc."""
    bodies = _named_levels(regions, Kind.BODY)
    heights = {region.level.name: _height(region) for region in bodies if region.level}
    wrong = []
    for disc in _named_levels(regions, Kind.DISC):
        upper, lower = disc.display_name.split("-")
        if heights.get(upper, np.inf) < _height(disc):
            wrong.append(f"disc {disc.display_name} lies above {upper}")
        if heights.get(lower, -np.inf) > _height(disc):
            wrong.append(f"disc {disc.display_name} lies below {lower}")
    return [Finding(case.name, "order", "error", f"{text}; correct the names") for text in wrong]


def _check_gaps(case: Case, column: Sequence[LabelRegion], has_arches: bool) -> list[Finding]:
    """Report levels left out: missing names, missing annotations, or missing structures.

    has_arches: vertebrae include posterior elements. A single slice may then show the body of one level and the arch of
    another, so that distances say less.
    """
    names = [region.display_name for region in column]
    levels = [level for level in LEVELS if level != "L6" or "L6" in names]
    steps = [levels.index(b) - levels.index(a) for a, b in pairwise(names)]
    if not steps:
        return []
    distances = [float(np.linalg.norm((a.largest.center - b.largest.center)[1:])) for a, b in pairwise(column)]
    usual = float(np.median([d for d, n in zip(distances, steps, strict=True) if n == 1] or [_USUAL_DISTANCE]))
    background = case.label_table[0]
    findings = []
    for (upper, lower), step, distance in zip(pairwise(column), steps, distances, strict=True):
        pair = f"{upper.display_name} and {lower.display_name}"
        skipped = levels[levels.index(upper.display_name) + 1 : levels.index(lower.display_name)]
        listed = ", ".join(skipped)
        touches_edge = upper.largest.touches_edge or lower.largest.touches_edge
        if skipped and distance < _NEIGHBOUR_DISTANCE * usual and not has_arches:
            text = f"{pair} are neighbours ({distance:.0f} mm apart): the names leave out {listed}; correct the names"
            findings.append(Finding(case.name, "gap", "error", text))
        elif skipped and not set(skipped) <= set(background) and Kind.BODY.value not in background:
            text = f"{listed} is not annotated between {pair}, and the row of 0 does not say so"
            findings.append(Finding(case.name, "gap", "warning", f"{text}; annotate it, or add its name to that row"))
        elif step == 1 and distance > _GAP_DISTANCE * usual and not touches_edge:
            text = f"{pair} lie {distance:.0f} mm apart, others {usual:.0f}: is a level left out?"
            findings.append(Finding(case.name, "gap", "warning", text))
    return findings
