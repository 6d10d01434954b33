"""Whether the lowest vertebral body is the first of the sacrum, as where S1 and S2 have a disc between them.

Such an S1 may be as square as a lumbar body, but two things distinguish it: below it lie less than a complete disc and
the rest of the sacrum, and the line from its center to that of the next body leans forward, against the spine above,
as nothing but the lumbosacral step does. In 31 SPIDER exams (the training half) the line from L5 to L4 leans by -7 to
27 degrees, median 7.
"""

from __future__ import annotations

import numpy as np

from lumbarseg.volume import Array

MIN_DISC_CONTACT = 0.45
"""Share of its lower endplate on a disc below which the lowest body may be S1 itself."""
MIN_SACRAL_LEAN = 30.0
"""Degrees by which the line to the next body leans forward from the grid's superior axis if the lowest body is S1."""
_MIN_BEND = 20.0  # degrees that the line leans more than the spine above
_SEARCH_DEPTH = 10  # pixels below a body in which its disc or the sacrum is looked for
_MIDLINE = 8.0  # mm to either side of a body's center


def is_first_sacral_body(bodies: Array, discs: Array, sacrum: Array, spacing: Array) -> bool:
    """Return whether body 1 is S1.

    Parameters
    ----------
    bodies, discs : (slices, A, S) uint8, 1 the lowest
    sacrum : (slices, A, S) bool
    spacing : (3,) mm
    """
    if not sacrum.any() or disc_contact_share(bodies, discs, sacrum) >= MIN_DISC_CONTACT:
        return False
    lean = lean_angle(bodies, spacing, 1, 2)
    return lean > MIN_SACRAL_LEAN and lean - lean_angle(bodies, spacing, 2, int(bodies.max())) > _MIN_BEND


def lean_angle(bodies: Array, spacing: Array, lower: int, upper: int) -> float:
    """Return the angle between the line through two bodies' centers and the grid's superior axis.

    Degrees in the sagittal plane, positive when the line leans forward; 0 when a body is missing.
    """
    centers = []
    for number in (lower, upper):
        voxels = np.argwhere(bodies == number)
        if not len(voxels):
            return 0.0
        lateral = np.abs(voxels[:, 0] - np.median(voxels[:, 0])) * spacing[0]
        centers.append((voxels[lateral <= _MIDLINE] * spacing).mean(axis=0))
    _, anterior, superior = centers[1] - centers[0]
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
