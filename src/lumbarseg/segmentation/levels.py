"""Names for the vertebrae of a spine, counted from an anchor, with a confidence and its reasons.

A sacrum in view is the anchor: the lowest body above it is L5. A transitional vertebra shifts such a count, which the
image cannot show for certain, so the reasons say how the names were counted. Without an anchor the lowest body is
assumed to be L5, and every name is marked uncertain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lumbarseg.anatomy import LEVELS, STRUCTURES, levels_upward
from lumbarseg.components import label_boxes
from lumbarseg.errors import SegmentError
from lumbarseg.volume import Array, Grid

from .centerline import BODY, CORE_RADIUS, DISC
from .instances import Instances, instance_centers
from .prediction import Prediction
from .sacrum import SIGN_COUNT, describe_s1_signs, disc_contact_share

MIN_CERTAIN_CONFIDENCE = 0.75
"""Below this a name is marked uncertain: no count from a sacrum was wrong above 0.7 (benchmarks.level_names)."""
SACRUM_ANCHOR = "sacrum, assuming five lumbar vertebrae"
"""Nothing that the network segments shows where the ribs are, so no count of lumbar vertebrae can be verified."""
_MIN_FIELD_BELOW = 25.0  # mm below a body in which a further one would be seen
_MIDLINE = 14.0  # mm to either side, where the sacrum has no wings
_MIN_SACRUM_LENGTH = 8.0  # mm in view
_MAX_GAP = 30.0  # mm from the lowest body to the sacrum
_MAX_GAP_BELOW_DISC = 40.0  # mm, below a complete disc: room for an S1 that was not segmented, not for L5 and its disc
_MIN_COMPLETE_CONTACT = 0.6  # share of the lower endplate on a disc that is complete: S1 taken for L5 had at most 0.52
_CONTRADICTED_CONFIDENCE = 0.5  # of names from the user that a clearly visible sacrum contradicts
_MAX_PIN_DISTANCE = 30.0  # mm from a pin to its vertebra

NamedBody = tuple[str, int]
"""A level name that the user gave to body n, counted from 1 below."""


class LevelPin(NamedTuple):
    """A vertebra that the user named. point: RAS+ mm."""

    name: str
    point: tuple[float, float, float]


@dataclass(frozen=True)
class UserLevels:
    """Level names that the user knows. lowest: of the lowest complete vertebra; pins: vertebrae at points."""

    lowest: str | None = None
    pins: tuple[LevelPin, ...] = ()


@dataclass(frozen=True)
class Level:
    """One named vertebra, or disc where the model segments no bodies.

    Attributes
    ----------
    confidence : of the name and the voxels, 0..1
    partial : cut by the edge of the field of view
    centre : RAS+ mm
    """

    name: str
    confidence: float
    uncertain: bool
    partial: bool
    reasons: tuple[str, ...]
    centre: tuple[float, float, float]


@dataclass(frozen=True)
class LevelAssignment:
    """Level names of the bodies, the lowest first. anchor: what they were counted from; confidence: 0..1."""

    names: tuple[str, ...]
    anchor: str
    confidence: float
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class SacrumEvidence:
    """What lies below the lowest body.

    Attributes
    ----------
    length : mm of sacrum in view, in the midline
    gap : mm between the body and the sacrum
    has_disc : whether there is a disc below the body
    disc_contact : share of the body's lower endplate on a disc
    """

    length: float
    gap: float
    has_disc: bool
    disc_contact: float


def assign_levels(
    instances: Instances,
    probabilities: Array,
    named_bodies: Sequence[NamedBody] = (),
    trained_lowest: tuple[str, float] | None = None,
) -> LevelAssignment:
    """Name the vertebral bodies of a spine.

    Parameters
    ----------
    instances : the separated bodies
    probabilities : (classes, slices, A, S)
    named_bodies : bodies that the user named; they override the count, with a warning if a sacrum contradicts them
    trained_lowest : the lowest body that the model was trained to find, and the share of training exams where it was

    Raises
    ------
    SegmentError
        When names are impossible or contradict each other.
    """
    default = _count_levels(instances, probabilities, trained_lowest)
    return names_from_user(named_bodies, default) if named_bodies else default


def _count_levels(
    instances: Instances, probabilities: Array, trained_lowest: tuple[str, float] | None
) -> LevelAssignment:
    """Count level names from the sacrum, or from the lowest body where no sacrum is in view."""
    evidence = find_sacrum_evidence(instances)
    mean_probability = float(probabilities[BODY][instances.bodies > 0].mean())
    anchored = evidence.length >= _MIN_SACRUM_LENGTH and evidence.gap < _max_gap_to_sacrum(evidence)
    if trained_lowest and not anchored:
        return _levels_from_trained_lowest(instances, trained_lowest, mean_probability)
    if anchored:
        anchor, (confidence, reasons) = SACRUM_ANCHOR, _confidence_from_sacrum(instances, evidence, mean_probability)
    else:
        anchor = "none: the lowest body is assumed to be L5"
        confidence, reasons = 0.2 * mean_probability, ["no sacrum in view"]
    names = names_upward("L5", instances.count)
    return LevelAssignment(names, anchor, confidence, tuple(reasons), uncertainty_warnings(confidence, reasons))


def _max_gap_to_sacrum(evidence: SacrumEvidence) -> float:
    """Return the largest gap to the sacrum at which the lowest body counts as the last one above it, mm."""
    return _MAX_GAP_BELOW_DISC if evidence.disc_contact >= _MIN_COMPLETE_CONTACT else _MAX_GAP


def uncertainty_warnings(confidence: float, reasons: Sequence[str]) -> tuple[str, ...]:
    """Return a warning with the reasons when names of this confidence are uncertain."""
    if confidence >= MIN_CERTAIN_CONFIDENCE:
        return ()
    return (f"names are uncertain ({'; '.join(reasons)}); name a level with --lowest or --pin",)


def names_from_user(named_bodies: Sequence[NamedBody], default: LevelAssignment) -> LevelAssignment:
    """Name the bodies from those that the user named; SegmentError when these contradict each other.

    default: the names without the user.
    """
    lowest = {lowest_name(level, number) for level, number in named_bodies}
    if len(lowest) > 1:
        raise SegmentError(f"--lowest and --pin disagree: the lowest body would be {' and '.join(sorted(lowest))}")
    return override_names(names_upward(lowest.pop(), len(default.names)), default, "named by the user")


def override_names(names: tuple[str, ...], default: LevelAssignment, reason: str) -> LevelAssignment:
    """Return names that the user gave, with a warning when they contradict a clearly visible sacrum."""
    is_sacrum_clear = default.anchor == SACRUM_ANCHOR and default.confidence >= MIN_CERTAIN_CONFIDENCE
    if not is_sacrum_clear or default.names[0] == names[0]:
        return LevelAssignment(names, "given by the user", 1.0, (reason,), ())
    conflict = (
        f"the names given by the user contradict the sacrum in view: counted from it, the lowest body is "
        f"{default.names[0]}, not {names[0]}; check them, a different number of lumbar vertebrae is rare"
    )
    return LevelAssignment(names, "given by the user", _CONTRADICTED_CONFIDENCE, (reason, conflict), (conflict,))


def locate_user_levels(user_levels: UserLevels | None, instances: Instances, grid: Grid) -> list[NamedBody]:
    """Find the bodies that the user named: the lowest complete one, and those next to the pins.

    grid: of the instance maps. SegmentError when no body is near a pin, or when pins contradict each other.
    """
    if user_levels is None:
        return []
    known_levels = [(user_levels.lowest, _lowest_complete_body(instances))] if user_levels.lowest else []
    pinned: NamedBody | None = None
    for pin in user_levels.pins:
        body = (pin.name, _nearest_body(pin, instances, grid))
        if pinned and lowest_name(*pinned) != lowest_name(*body):
            raise SegmentError(f"--pin {pinned[0]} and --pin {pin.name} contradict each other; give one of them")
        pinned = body
    return [*known_levels, pinned] if pinned else known_levels


def _nearest_body(pin: LevelPin, instances: Instances, grid: Grid) -> int:
    """Return the number of the body nearest to a pin; SegmentError when none is near."""
    voxel = grid.to_index(np.array(pin.point))
    distances = np.full(instances.count, np.inf)
    for number in range(1, instances.count + 1):
        voxels = np.argwhere(instances.bodies == number)
        if instances.discs_only:
            voxels = instances.centerline.point_at(instances.positions[number - 1])[None] / instances.spacing
        if len(voxels):
            distances[number - 1] = np.linalg.norm((voxels - voxel) * instances.spacing, axis=1).min()
    if distances.min() > _MAX_PIN_DISTANCE:
        raise SegmentError(
            f"--pin {pin.name}: no vertebra within {_MAX_PIN_DISTANCE:.0f} mm of {pin.point}; the point is RAS+ mm"
        )
    return int(distances.argmin()) + 1


def _lowest_complete_body(instances: Instances) -> int:
    """Return the lowest body that the lower edge of the field of view does not cut."""
    lowest = instances.bodies == 1
    is_cut = lowest[:, :, 0].any() or lowest[:, :, -1].any()
    return 2 if is_cut and instances.count > 1 else 1


def _levels_from_trained_lowest(
    instances: Instances, trained_lowest: tuple[str, float], mean_probability: float
) -> LevelAssignment:
    """Count names from the lowest body that the model was trained to find, for a model that segments no sacrum."""
    level, share = trained_lowest
    lowest = _lowest_complete_body(instances)
    bottom = float(np.argwhere(instances.bodies == lowest)[:, 2].min() * instances.spacing[2])
    nothing_missing = lowest == 1 and bottom >= _MIN_FIELD_BELOW
    reasons = [f"counted from the lowest body: it was {level} in {share:.0%} of the training exams"]
    if not nothing_missing:
        reasons.append("the field of view ends close below it, so one below may be missing")
    confidence = (0.95 if nothing_missing else 0.4) * mean_probability * (1.0 if share >= 1 else 0.75)
    names = names_upward(lowest_name(level, lowest), instances.count)
    warnings = uncertainty_warnings(confidence, reasons)
    return LevelAssignment(names, "the lowest body, as in training", confidence, tuple(reasons), warnings)


def names_upward(lowest: str, count: int) -> tuple[str, ...]:
    """Return the names of `count` bodies, the lowest first; SegmentError when there are not so many names."""
    if count > LEVELS.index(lowest) + 1:
        raise SegmentError(
            f"{count} vertebrae above and with {lowest} reach past {LEVELS[0]}; name the lowest with --lowest"
        )
    return tuple(levels_upward(lowest, count))


def lowest_name(level: str, number: int) -> str:
    """Return the name of body 1 when body `number` is called `level`."""
    upward = levels_upward("L6" if level == "L6" else "L5", len(LEVELS) - (level != "L6"))
    index = upward.index(level) - (number - 1)
    if index == -1 and level != "L6":
        return "L6"  # a part of one more lumbar vertebra at the edge of the field of view
    if index < 0:
        raise SegmentError(f"{number - 1} vertebrae lie below the one called {level}; there is no name for the lowest")
    return upward[index]


def find_sacrum_evidence(instances: Instances) -> SacrumEvidence:
    """Measure the disc and the sacrum below the lowest body."""
    spacing = instances.spacing
    volumes = np.bincount(instances.discs.ravel(), minlength=instances.count + 2)[1:]
    has_disc = bool((volumes > 0).any() and volumes[0] > 0.15 * np.median(volumes[volumes > 0]))
    disc_contact = disc_contact_share(instances.bodies, instances.discs, instances.sacrum)
    length, gap = 0.0, np.inf
    body, sacrum = np.argwhere(instances.bodies == 1), np.argwhere(instances.sacrum)
    if len(body) and len(sacrum):
        along = instances.centerline.curve_coordinates(body, spacing).along
        endplate = body[along <= np.percentile(along, 10)].mean(axis=0)
        distance = np.linalg.norm((sacrum - endplate) * spacing, axis=1)
        distance = distance[np.abs(sacrum[:, 0] - endplate[0]) * spacing[0] < _MIDLINE]
        if len(distance) > 20:
            near, far = np.percentile(distance, [2, 98])
            length, gap = float(far - near), float(near)
    return SacrumEvidence(length, gap, has_disc, disc_contact)


def _confidence_from_sacrum(
    instances: Instances, evidence: SacrumEvidence, mean_probability: float
) -> tuple[float, list[str]]:
    """Return the confidence of a count from the sacrum, with its reasons."""
    numbers = [n for n in range(1, min(instances.count, 4) + 1) if (instances.bodies == n).any()]
    heights = [_body_height(instances, number) for number in numbers]
    steps = np.diff(instances.positions)
    unlike = len(heights) > 2 and not 0.7 < heights[0] / np.median(heights[1:]) < 1.35
    gap = len(steps) > 2 and steps.max() > 1.6 * np.median(steps)
    s1_reason = describe_s1_signs(instances.sacral_signs)
    excluded = instances.excluded_s1_signs
    factors = (
        (not evidence.has_disc, 0.7, "no disc visible between the sacrum and the lowest body"),
        (bool(s1_reason), 0.6, s1_reason),
        (
            bool(excluded),
            1.0 if len(excluded) == SIGN_COUNT else 0.6,
            f"the body below was counted as S1: {', '.join(excluded)}",
        ),
        (
            unlike and evidence.disc_contact < _MIN_COMPLETE_CONTACT,
            0.6,
            "the lowest body differs from its neighbours in height",
        ),
        (gap, 0.5, "a vertebra may be missing: one distance between vertebrae is much longer than the others"),
        (mean_probability < 0.85, mean_probability, "the network is uncertain about the vertebral bodies"),
        (instances.count < 3, 0.8, "fewer than three vertebrae in view"),
    )
    confidence = np.clip(0.3 + evidence.length / 45, 0, 1)  # 20 mm, most of S1, make names certain
    reasons = [f"counted from the sacrum, {evidence.length:.0f} mm of it in view"]
    for applies, factor, reason in factors:
        if applies:
            confidence *= factor
            reasons.append(reason)
    return float(confidence), reasons


def _body_height(instances: Instances, number: int) -> float:
    """Return the extent of a body along the centerline, mm."""
    coordinates = instances.centerline.curve_coordinates(np.argwhere(instances.bodies == number), instances.spacing)
    core = coordinates.distance < CORE_RADIUS
    low, high = np.percentile(coordinates.along[core] if core.any() else coordinates.along, [3, 97])
    return float(high) - float(low)


def list_levels(instances: Instances, assignment: LevelAssignment, prediction: Prediction) -> tuple[Level, ...]:
    """List the named vertebrae, or the discs where the model segments no bodies, from head to foot."""
    names = disc_names(instances, assignment.names)[: instances.count] if instances.discs_only else assignment.names
    probabilities = prediction.probabilities[DISC if instances.discs_only else BODY]
    centers = prediction.grid.to_world(instance_centers(instances.level_map, instances.count))
    uncertain = assignment.confidence < MIN_CERTAIN_CONFIDENCE
    boxes, height = label_boxes(instances.level_map), instances.level_map.shape[2]
    levels = []
    for number, (name, center) in enumerate(zip(names, centers, strict=True), start=1):
        if not name or number not in boxes:
            continue
        box = boxes[number]
        mask = instances.level_map[box] == number
        confidence = round(assignment.confidence * float(probabilities[box][mask].mean()), 3)
        x, y, z = (round(float(value), 1) for value in center)
        partial = box[2].start == 0 or box[2].stop == height
        reasons = (*assignment.reasons, *(("cut by the edge of the field of view",) if partial else ()))
        levels.append(Level(name, confidence, uncertain, partial, reasons, (x, y, z)))
    return tuple(levels[::-1])


def disc_names(instances: Instances, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of discs 1 to count + 1 between bodies with these names, the lowest first.

    "" where the table of structures has none (L3 on the sacrum, say). Below the lowest body lies the sacrum; where the
    model segments discs only, the next vertebra down.
    """
    top, lowest = LEVELS.index(names[-1]), LEVELS.index(names[0])
    below = LEVELS[lowest + 1] if instances.discs_only and names[0] not in ("L5", "L6") else "S1"
    above = LEVELS[top - 1] if top else ""
    pairs = zip((*names, above), (below, *names), strict=True)
    existing = {s.name for s in STRUCTURES}
    return tuple(disc if (disc := f"{upper}-{lower}") in existing else "" for upper, lower in pairs)
