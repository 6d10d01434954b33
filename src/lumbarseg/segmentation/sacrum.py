"""Whether the lowest body of a column is the first of the sacrum, as where S1 and S2 have a disc between them.

Such an S1 may be as square as a lumbar body, but two things give it away: below it lie less than a whole disc and the
rest of the sacrum, and the line from its middle to that of the next body leans forward, against the column above, as
nothing but the lumbosacral step does. In 31 SPIDER slabs (the training half) the line from L5 to L4 leans by -7 to 27
degrees, median 7.
"""

from __future__ import annotations

import numpy as np

from lumbarseg.volume import Array

CUSHION = 0.45
"""Share of its underside on a disc below which the lowest body may be S1 itself."""
LEAN = 30.0
"""Degrees by which the line to the next body leans forward from the grid's upward axis, from which it is."""
_BEND = 20.0  # degrees more than the column above
_UNDER = 10  # pixels below a body in which its disc or the sacrum is looked for
_CENTRAL = 8.0  # mm to either side of a body's middle


def is_sacral(bodies: Array, discs: Array, sacrum: Array, spacing: Array) -> bool:
    """Whether body 1 is S1. bodies, discs: (slices, A, S) uint8, 1 the lowest; sacrum: bool; spacing: (3,) mm."""
    if not sacrum.any() or on_disc(bodies, discs, sacrum) >= CUSHION:
        return False
    step = lean(bodies, spacing, 1, 2)
    return step > LEAN and step - lean(bodies, spacing, 2, int(bodies.max())) > _BEND


def lean(bodies: Array, spacing: Array, lower: int, upper: int) -> float:
    """Degrees by which the line between two bodies' middles leans forward, upward; 0 where one is missing.

    In plane, from their central slices; the angle is that with the grid's upward axis.
    """
    middles = []
    for number in (lower, upper):
        voxels = np.argwhere(bodies == number)
        if not len(voxels):
            return 0.0
        aside = np.abs(voxels[:, 0] - np.median(voxels[:, 0])) * spacing[0]
        middles.append((voxels[aside <= _CENTRAL] * spacing).mean(axis=0))
    _, forward, up = middles[1] - middles[0]
    return float(np.degrees(np.arctan2(forward, up)))


def on_disc(bodies: Array, discs: Array, sacrum: Array) -> float:
    """The share of body 1's underside that rests on a disc and not on the sacrum or on nothing; 0..1."""
    body, disc = bodies == 1, discs == 1
    i, a = np.nonzero(body.any(axis=2))
    low = body.argmax(axis=2)[i, a]
    met = np.zeros(len(low), np.int8)
    for step in range(1, _UNDER + 1):
        at = np.maximum(low - step, 0)
        met = np.where(met > 0, met, np.where(disc[i, a, at], 1, np.where(sacrum[i, a, at], 2, 0)))
    return float((met == 1).mean()) if len(met) else 0.0
