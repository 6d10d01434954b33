"""Class maps to separate: of phantoms, and of columns of blocks with random faults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from lumbarseg import anatomy
from lumbarseg.anatomy import CLASSES
from lumbarseg.phantom import Phantom

SPACING = np.array([4.0, 1.0, 1.0])
SHAPE = (9, 150, 380)  # room for the tallest column that is drawn
BODY, DISC, CANAL, SACRUM, ARCH = (CLASSES.index(k) for k in CLASSES[1:])
LOOKUP = np.zeros(256, np.uint8)
for structure in anatomy.STRUCTURES:
    LOOKUP[structure.label] = CLASSES.index(structure.kind)


def classes_of(phantom: Phantom) -> np.ndarray:
    """The true tissue classes of a phantom, (slices, A, S)."""
    return LOOKUP[phantom.labels.array]


@dataclass(frozen=True)
class Blocks:
    """A column of blocks, all sizes in mm. gaps: disc heights from the lowest disc up; 0 is a fused pair."""

    heights: tuple[float, ...]
    gaps: tuple[float, ...]
    slips: tuple[float, ...]
    lean: float
    sway: float
    sacrum: bool

    def paint(self) -> tuple[np.ndarray, np.ndarray]:
        """Class map (slices, A, S) and the number of the body at each voxel, 1 for the lowest."""
        classes, numbers = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        up = 30.0
        if self.sacrum:
            self._block(classes, up, up + 30, SACRUM, 0.0)
            up += 30
        for n, (height, gap, slip) in enumerate(zip(self.heights, self.gaps, self.slips, strict=True), start=1):
            self._block(classes, up, up + gap, DISC, slip)
            up += gap
            self._block(classes, up, up + height, BODY, slip)
            self._block(numbers, up, up + height, n, slip)
            up += height
        return classes, numbers

    def _block(self, out: np.ndarray, low: float, high: float, value: int, slip: float) -> None:
        for k in range(round(low), min(round(high), SHAPE[2])):
            front = 70 + self.lean * (k - 150) + slip
            side = 4.5 + self.sway * np.sin(k / 60)
            rows = slice(max(0, round(front - 16)), round(front + 16))
            out[max(0, round(side - 2.5)) : round(side + 2.5), rows, k] = value


@st.composite
def blocks(draw: st.DrawFn, sacrum: bool = True) -> Blocks:
    """Columns of two to eight bodies; one in a few has a fused pair, a slip, a lean or a sideways curve."""
    count = draw(st.integers(2, 8))
    size = draw(st.floats(0.85, 1.15))
    heights = tuple(size * (27 - 0.6 * n) * draw(st.floats(0.93, 1.07)) for n in range(count))
    gaps = [size * (8.5 - 0.4 * n) * draw(st.floats(0.7, 1.2)) for n in range(count)]
    if count > 3 and draw(st.booleans()):
        gaps[draw(st.integers(1, count - 2))] = 0.0
    slips = tuple(draw(st.sampled_from([0.0] * 4 + [-6.0, 8.0])) for _ in range(count))
    return Blocks(heights, tuple(gaps), slips, draw(st.floats(-0.15, 0.15)), draw(st.floats(0, 1.5)), sacrum)
