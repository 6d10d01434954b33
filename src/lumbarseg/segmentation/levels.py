"""Names for the vertebrae of a column, counted from an anchor, with a confidence and its reasons.

A sacrum in view is the anchor: the lowest body above it is L5. A transitional vertebra shifts such a count; no part of
the picture tells that for certain, so the reasons say that names were counted. Without an anchor the lowest body is
called L5 as an assumption, and every name is marked uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lumbarseg.anatomy import LEVELS, STRUCTURES, levels_upward
from lumbarseg.errors import SegmentError
from lumbarseg.volume import Array

from .centerline import BODY, CORE_RADIUS, DISC
from .instances import Instances, instance_centers
from .sacrum import CUSHION, on_disc

_MIN_FIELD_BELOW = 25.0  # mm below a body in which a further one would show
_MIDLINE = 14.0  # mm to either side, where the sacrum has no wings
MIN_CERTAIN_CONFIDENCE = (
    0.75  # below this a name is marked uncertain: no count from a sacrum went wrong above 0.7 (benchmarks.level_names)
)


class LevelPin(NamedTuple):
    """A vertebra that the user named. point: RAS+ mm."""

    name: str
    point: tuple[float, float, float]


@dataclass(frozen=True)
class Level:
    """One named vertebra, or disc where the model knows no bodies.

    centre: RAS+ mm; partial: cut by the edge of the field of view.
    """

    name: str
    confidence: float
    uncertain: bool
    partial: bool
    reasons: tuple[str, ...]
    centre: tuple[float, float, float]


@dataclass(frozen=True)
class LevelAssignment:
    """names: of the bodies, the lowest first; warnings: what a person should look at."""

    names: tuple[str, ...]
    anchor: str
    confidence: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SacrumEvidence:
    """What is seen below the lowest body. length, gap: mm; cushion: share of the body's underside that is on a disc."""

    length: float
    gap: float
    has_disc: bool
    disc_contact: float


def assign_levels(
    instances: Instances,
    probabilities: Array,
    spacing: Array,
    lowest: str | None,
    pinned_level: tuple[str, int] | None,
    trained_lowest: tuple[str, float] | None = None,
) -> LevelAssignment:
    """Name the bodies of a column.

    scores: (6, slices, A, S) probabilities; lowest: the user's name of the lowest whole body; pinned: the user's name
    for body n, counted from 1 below; taught: the lowest body that the model was taught to find, and in which share of
    its exams it was that one. SegmentError where names are impossible or contradict each other.
    """
    told = levels_from_user(instances, lowest, pinned_level)
    if told:
        return told
    seen = find_sacrum_evidence(instances, spacing)
    sure = float(probabilities[BODY][instances.bodies > 0].mean())
    anchored = seen.length >= 8 and seen.gap < 30
    if trained_lowest and not anchored:
        return _levels_from_trained_lowest(instances, trained_lowest, sure, spacing)
    confidence, reasons = (
        _confidence_from_sacrum(instances, seen, sure, spacing) if anchored else (0.2 * sure, ("no sacrum in view",))
    )
    anchor = "sacrum" if anchored else "none: the lowest body is assumed to be L5"
    warnings = []
    if confidence < MIN_CERTAIN_CONFIDENCE:
        warnings.append(f"names are uncertain ({'; '.join(reasons)}); tell one with --lowest or --pin")
    return LevelAssignment(names_upward("L5", instances.count), anchor, confidence, reasons, tuple(warnings))


def levels_from_user(
    instances: Instances, lowest: str | None, pinned_level: tuple[str, int] | None
) -> LevelAssignment | None:
    """Names as the user told one of them, None where nothing was told."""
    told = [(lowest, _lowest_complete_body(instances))] if lowest else []
    told += [pinned_level] if pinned_level else []
    starts = {lowest_name(level, number) for level, number in told}
    if len(starts) > 1:
        raise SegmentError(f"--lowest and --pin disagree: the lowest body would be {' and '.join(sorted(starts))}")
    if not starts:
        return None
    return LevelAssignment(
        names_upward(starts.pop(), instances.count), "given by the user", 1.0, ("named by the user",), ()
    )


def _lowest_complete_body(found: Instances) -> int:
    """The lowest body that the lower edge of the field of view does not cut."""
    return 1 if not _touches_border(found.bodies == 1) or found.count == 1 else 2


def _levels_from_trained_lowest(
    found: Instances, taught: tuple[str, float], sure: float, spacing: Array
) -> LevelAssignment:
    """Names counted from the lowest body that the model was taught, for one that knows no sacrum."""
    level, share = taught
    first = _lowest_complete_body(found)
    bottom = float(np.argwhere(found.bodies == first)[:, 2].min() * spacing[2])
    whole = first == 1 and bottom >= _MIN_FIELD_BELOW
    reasons = [f"counted from the lowest body: it was {level} in {share:.0%} of the exams the model was taught with"]
    if not whole:
        reasons.append("the field of view ends close below it, so one below may be missing")
    confidence = (0.95 if whole else 0.4) * sure * (1.0 if share >= 1 else 0.75)
    warnings: tuple[str, ...] = ()
    if confidence < MIN_CERTAIN_CONFIDENCE:
        warnings = (f"names are uncertain ({'; '.join(reasons)}); tell one with --lowest or --pin",)
    names = names_upward(lowest_name(level, first), found.count)
    return LevelAssignment(names, "the lowest body, as taught", confidence, tuple(reasons), warnings)


def names_upward(lowest: str, count: int) -> tuple[str, ...]:
    """Names of `count` bodies, the lowest first; SegmentError when there are not so many names."""
    room = LEVELS.index(lowest) + 1
    if count > room:
        raise SegmentError(
            f"{count} vertebrae above and with {lowest} reach past {LEVELS[0]}; name the lowest with --lowest"
        )
    return tuple(levels_upward(lowest, count))


def lowest_name(level: str, number: int) -> str:
    """The name of body 1 when body `number` is called `level`."""
    upward = levels_upward("L6" if level == "L6" else "L5", len(LEVELS) - (level != "L6"))
    index = upward.index(level) - (number - 1)
    if index == -1 and level != "L6":
        return "L6"  # a part of one more lumbar vertebra at the edge of the field of view
    if index < 0:
        raise SegmentError(f"{number - 1} vertebrae lie below the one called {level}; there is no name for the lowest")
    return upward[index]


def find_sacrum_evidence(instances: Instances, spacing: Array) -> SacrumEvidence:
    """Evidence of a sacrum under the lowest body."""
    disc = np.bincount(instances.discs.ravel(), minlength=instances.count + 2)[1:]
    has_disc = bool((disc > 0).any() and disc[0] > 0.15 * np.median(disc[disc > 0]))
    cushion = on_disc(instances.bodies, instances.discs, instances.sacrum)
    body, sacral = np.argwhere(instances.bodies == 1), np.argwhere(instances.sacrum)
    if not len(body) or not len(sacral):
        return SacrumEvidence(0.0, np.inf, has_disc, cushion)
    along, _ = instances.centerline.project(body, spacing)
    foot = body[along <= np.percentile(along, 10)].mean(axis=0)
    away = np.linalg.norm((sacral - foot) * spacing, axis=1)
    away = away[np.abs(sacral[:, 0] - foot[0]) * spacing[0] < _MIDLINE]
    if len(away) <= 20:
        return SacrumEvidence(0.0, np.inf, has_disc, cushion)
    near, far = np.percentile(away, [2, 98])
    return SacrumEvidence(float(far - near), float(near), has_disc, cushion)


def _extent_along_centerline(mask: Array, found: Instances, spacing: Array) -> tuple[float, float]:
    """From where to where a structure reaches along the column, mm."""
    along, away = found.centerline.project(np.argwhere(mask), spacing)
    along = along[away < CORE_RADIUS] if (away < CORE_RADIUS).any() else along
    low, high = np.percentile(along, [3, 97])
    return float(low), float(high)


def _confidence_from_sacrum(
    found: Instances, seen: SacrumEvidence, sure: float, spacing: Array
) -> tuple[float, tuple[str, ...]]:
    """How far the count from the sacrum can be trusted, with the reasons in words."""
    reasons = [f"counted from the sacrum, {seen.length:.0f} mm of it in view"]
    value = np.clip(0.3 + seen.length / 45, 0, 1)  # 20 mm, most of a first sacral body, make names certain
    if not seen.has_disc:
        value *= 0.7
        reasons.append("no disc seen between sacrum and lowest body")
    if seen.disc_contact < CUSHION:
        value *= 0.6
        reasons.append("the lowest body rests on no whole disc: it may be S1")
    if found.excludes_s1:
        value *= 0.6
        reasons.append("a body below was taken for S1: it rests on no whole disc and leans forward")
    spans = [
        _extent_along_centerline(found.bodies == n, found, spacing)
        for n in range(1, min(found.count, 4) + 1)
        if (found.bodies == n).any()
    ]
    heights = [high - low for low, high in spans]
    if len(heights) > 2 and not 0.7 < heights[0] / np.median(heights[1:]) < 1.35:
        value *= 0.6
        reasons.append("the lowest body is unlike its neighbours in height")
    steps = np.diff(found.positions)
    if len(steps) > 2 and steps.max() > 1.6 * np.median(steps):
        value *= 0.5
        reasons.append("a vertebra may be missing: one step is much longer than the others")
    if sure < 0.85:
        value *= sure
        reasons.append("the tissue is hard to tell apart")
    if found.count < 3:
        value *= 0.8
        reasons.append("fewer than three vertebrae in view")
    return float(value), tuple(reasons)


def list_levels(
    instances: Instances, assignment: LevelAssignment, probabilities: Array, to_world: Array
) -> tuple[Level, ...]:
    """The named vertebrae, or discs where there are no bodies, from head to foot.

    to_world: (4, 4), voxel of the instance maps to RAS+ mm.
    """
    out = []
    names = disc_names(instances, assignment.names)[: instances.count] if instances.discs_only else assignment.names
    places = instance_centers(instances.level_map, instances.count)
    for number, (level, centre) in enumerate(zip(names, places, strict=True), start=1):
        mask = instances.level_map == number
        if not level or not mask.any():
            continue
        confidence = assignment.confidence * float(probabilities[DISC if instances.discs_only else BODY][mask].mean())
        world = to_world[:3, :3] @ centre + to_world[:3, 3]
        place = (round(float(world[0]), 1), round(float(world[1]), 1), round(float(world[2]), 1))
        partial = _touches_border(mask)
        reasons = (*assignment.reasons, "cut by the edge of the field of view") if partial else assignment.reasons
        out.append(
            Level(level, round(confidence, 3), assignment.confidence < MIN_CERTAIN_CONFIDENCE, partial, reasons, place)
        )
    return tuple(out[::-1])


def disc_names(instances: Instances, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the discs 1 to count + 1 about bodies with these names.

    "" where the table has none (L3 on the sacrum, say). What lies below the lowest body is the sacrum; where there are
    only discs, it is the next vertebra down.
    """
    top, lowest = LEVELS.index(names[-1]), LEVELS.index(names[0])
    below = LEVELS[lowest + 1] if instances.discs_only and names[0] not in ("L5", "L6") else "S1"
    above = LEVELS[top - 1] if top else ""
    pairs = zip((*names, above), (below, *names), strict=True)
    known = {s.name for s in STRUCTURES}
    return tuple(disc if (disc := f"{upper}-{lower}") in known else "" for upper, lower in pairs)


def _touches_border(mask: Array) -> bool:
    """Whether a structure touches the upper or lower edge of the field of view."""
    return bool(mask[:, :, 0].any() or mask[:, :, -1].any())


def pinned_body(
    pins: Sequence[LevelPin], instances: Instances, to_index: Array, spacing: Array
) -> tuple[str, int] | None:
    """The pinned name and the body that lies nearest to its point; SegmentError when none is within 30 mm."""
    chosen: tuple[str, int] | None = None
    for level, point in pins:
        place = to_index[:3, :3] @ np.array(point) + to_index[:3, 3]
        away = np.full(instances.count, np.inf)
        for number in range(1, instances.count + 1):
            voxels = np.argwhere(instances.bodies == number)
            if instances.discs_only:
                voxels = instances.centerline.point_at(instances.positions[number - 1])[None] / spacing
            if len(voxels):
                away[number - 1] = np.linalg.norm((voxels - place) * spacing, axis=1).min()
        if away.min() > 30:
            raise SegmentError(f"--pin {level}: no vertebra within 30 mm of {point}; the point is RAS+ mm")
        pinned = (level, int(away.argmin()) + 1)
        if chosen and lowest_name(*chosen) != lowest_name(*pinned):
            raise SegmentError(f"--pin {chosen[0]} and --pin {level} contradict each other; give one of them")
        chosen = pinned
    return chosen
