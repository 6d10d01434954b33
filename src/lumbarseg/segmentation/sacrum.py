"""Whether the lowest vertebral body is the first of the sacrum, as where S1 and S2 have a disc between them.

A reader looks at these signs. S1 leans forward against the spine above, as nothing but the lumbosacral step does; it is
smaller than the bodies above; it narrows from top to bottom; and below it lie less than a complete disc and the rest of
the sacrum. Of lean, size and taper, 167 S1 annotated on T1 exams (sudirman/train) show two in 88 %, one in all; of 167
L5 17 % show one and 0.6 % two.
"""

from __future__ import annotations

import numpy as np

from lumbarseg.components import Box, label_boxes
from lumbarseg.volume import Array

MIN_DISC_CONTACT = 0.45
"""Share of its lower endplate on a disc below which the lowest body may be S1 itself."""
_MIN_BEND = 22.0  # degrees that the line to the next body leans forward more than the spine above
_MIN_STEEP_LEAN = 30.0  # degrees that this line leans forward from the grid's superior axis: no L5 of 167 did
_MAX_AREA_RATIO = 0.85  # of its midsagittal area to that of the bodies above
_MAX_TAPER = 0.85  # of its depth near the lower endplate to that near the upper one
_END_PERCENT = 30.0  # of the body's voxels that count as near an endplate
_RIM_PERCENT = 3.0  # of the voxels there that are no part of the depth
_SEARCH_DEPTH = 10  # pixels below a body in which its disc or the sacrum is looked for
_MIDLINE = 8.0  # mm to either side of a body's center

NO_COMPLETE_DISC = "no complete disc below"
LEANS, STEEP = "leans forward", "steeper than L5"
SMALL, TAPERS = "small body", "wedge-shaped body"
SIGN_COUNT = 5


def find_sacral_signs(bodies: Array, discs: Array, sacrum: Array, spacing: Array) -> tuple[str, ...]:
    """Return the signs that body 1 is S1, in words; () without a sacrum. Fewer than three bodies show only the disc.

    Parameters
    ----------
    bodies, discs : (slices, A, S) uint8, 1 the lowest
    sacrum : (slices, A, S) bool
    spacing : (3,) mm
    """
    count = int(bodies.max())
    if not sacrum.any() or not (bodies == 1).any():
        return ()
    no_complete_disc = disc_contact_share(bodies, discs, sacrum) < MIN_DISC_CONTACT
    if count < 3:
        return (NO_COMPLETE_DISC,) * no_complete_disc
    boxes = label_boxes(bodies)
    first, second, third, last = (_midsagittal_points(bodies, n, boxes.get(n), spacing) for n in (1, 2, 3, count))
    lean = lean_angle(first, second)
    bend = lean - lean_angle(second, last)
    usual_area = max((len(second) + len(third)) / 2, 1.0)
    signs = {
        LEANS: bend > _MIN_BEND,
        STEEP: lean > _MIN_STEEP_LEAN,
        SMALL: len(first) < _MAX_AREA_RATIO * usual_area,
        TAPERS: _taper(first, lean) < _MAX_TAPER,
        NO_COMPLETE_DISC: no_complete_disc,
    }
    return tuple(sign for sign, is_present in signs.items() if is_present)


def is_first_sacral_body(signs: tuple[str, ...]) -> bool:
    """Return whether body 1 is S1: it has no complete disc below, and leans steeply or shows three other signs."""
    return NO_COMPLETE_DISC in signs and ({LEANS, STEEP} <= set(signs) or len(signs) > 3)


def describe_s1_signs(signs: tuple[str, ...]) -> str:
    """Return in words why body 1 may be S1 and not a lumbar body; "" where a complete disc and too few signs say no."""
    others = [sign for sign in signs if sign != NO_COMPLETE_DISC]
    if len(others) < len(signs):
        return f"the lowest body may be S1: {', '.join(signs)}"
    if LEANS in others and (SMALL in others or STEEP in others):
        shape = [*others, *(() if TAPERS in others else ("square body",)), "complete disc below"]
        return f"S1 may be lumbarised: {', '.join(shape)}"
    return ""


def _taper(points: Array, lean: float) -> float:
    """Return the depth of a body near its lower endplate relative to that near its upper one.

    points: (n, 2) mm (anterior, superior); lean: degrees of its axis forward from superior.
    """
    axis = np.array([np.sin(np.radians(lean)), np.cos(np.radians(lean))])
    along, across = points @ axis, points @ (axis[1], -axis[0])
    low, high = np.percentile(along, (_END_PERCENT, 100 - _END_PERCENT))
    rims = (_RIM_PERCENT, 100 - _RIM_PERCENT)
    lower, upper = (np.ptp(np.percentile(across[end], rims)) for end in (along <= low, along >= high))
    return float(lower / max(upper, 1e-6))


def _midsagittal_points(bodies: Array, number: int, box: Box | None, spacing: Array) -> Array:
    """Return the points of a body near its median plane, (n, 2) mm (anterior, superior); none without its box."""
    if box is None:
        return np.zeros((0, 2))
    voxels = np.argwhere(bodies[box] == number) + [side.start for side in box]
    lateral = np.abs(voxels[:, 0] - np.median(voxels[:, 0])) * spacing[0]
    return (voxels[lateral <= _MIDLINE] * spacing)[:, 1:]


def lean_angle(lower: Array, upper: Array) -> float:
    """Return the angle between the line through two bodies' centers and the grid's superior axis.

    Degrees in the sagittal plane, positive when the line leans forward; 0 when a body is missing. lower, upper: the
    points of the bodies, (n, 2) mm (anterior, superior).
    """
    if not len(lower) or not len(upper):
        return 0.0
    anterior, superior = upper.mean(axis=0) - lower.mean(axis=0)
    return float(np.degrees(np.arctan2(anterior, superior)))


def disc_contact_share(bodies: Array, discs: Array, sacrum: Array) -> float:
    """Return the share of body 1's lower endplate that lies on disc 1, and not on the sacrum or nothing; 0..1."""
    body, disc = bodies == 1, discs == 1
    i, a = np.nonzero(body.any(axis=2))
    endplate = body.argmax(axis=2)[i, a]
    below = np.zeros(len(endplate), np.int8)  # 1: disc, 2: sacrum
    for step in range(1, _SEARCH_DEPTH + 1):
        s = np.maximum(endplate - step, 0)
        below = np.where(below > 0, below, np.where(disc[i, a, s], 1, np.where(sacrum[i, a, s], 2, 0)))
    return float((below == 1).mean()) if len(below) else 0.0
