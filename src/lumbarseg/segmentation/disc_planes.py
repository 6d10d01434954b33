"""Where discs cut the column: planes, each tilted as its disc is, found together by the best chain of steps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage

from lumbarseg.volume import Array

from .centerline import BODY, CORE_RADIUS, DISC, CurveCoordinates

_ANTERIOR_SLOPES = np.tan(np.deg2rad([-30, -22, -15, -7, 0, 7, 15, 22, 30]))  # slopes of a disc against the column
_LATERAL_SLOPES = np.tan(np.deg2rad([-16, -8, 0, 8, 16]))
_STEP_RANGE = (13, 52)  # mm from disc to disc: a crushed child's thoracic vertebra to a tall man's lumbar one
_PITCHES = np.arange(19.0, 44.0, 3.0)  # mm, tried as the usual step
_STEP_PENALTY = 6.0  # cost of a step, times the square of its logarithm against the usual one
_LONG_STEP_PENALTY = (
    44.0,
    0.1,
)  # mm from which a step costs more, and how much per mm: no vertebra with its disc is longer
_TAPER = 0.001  # by which the logarithm of the usual step falls per mm upward, as vertebrae get smaller
_PLANE_BONUS = 0.4  # of a plane that holds as much disc as body; an empty one is worth nothing
_TILT_PENALTY = 0.15  # cost of a slope of one


@dataclass(frozen=True)
class DiscPlane:
    """A plane across the column. at: mm along it; forward, sideways: its slopes; disc: share of disc in it, 0..1."""

    position: float
    anterior_slope: float
    lateral_slope: float
    disc_share: float

    def is_below(self, coordinates: CurveCoordinates) -> Array:
        """(m,) bool: whether the plane lies below each place."""
        return (
            coordinates.along
            > self.position + self.anterior_slope * coordinates.anterior + self.lateral_slope * coordinates.lateral
        )


def find_disc_planes(coordinates: CurveCoordinates, classes: Array, thick: bool) -> list[DiscPlane]:
    """The planes between the bodies, the lowest first; none where there is too little to cut.

    kinds: (m,) classes of the places; thick: whether there are enough slices to see a sideways tilt.

    At each millimetre and for each tilt, a plane gains the share of disc in it and loses the share of body. A chain
    of planes gains what its planes gain, and loses by how far its steps are from the usual one, which is the one
    whose best chain is best. So a fused pair or a missing disc is cut where its neighbours say, a false disc is not.
    """
    core = (np.hypot(coordinates.anterior, coordinates.lateral) < CORE_RADIUS) & ((classes == BODY) | (classes == DISC))
    if core.sum() < 50:
        return []
    gain, slopes = _plane_scores(coordinates, classes, core, thick)
    low, high = (int(v) for v in np.percentile(coordinates.along[core].clip(0), [0.5, 99.5]))
    return [_plane_at(low + place, gain, slopes) for place in _best_chain(gain[low : high + 1])]


def _plane_at(place: int, gain: Array, slopes: Array) -> DiscPlane:
    forward, sideways = slopes[place]
    return DiscPlane(
        place + 0.5, float(forward), float(sideways), float(np.clip(gain[place] / (1 + _PLANE_BONUS), 0, 1))
    )


def _plane_scores(places: CurveCoordinates, kinds: Array, core: Array, thick: bool) -> tuple[Array, Array]:
    """Per mm of the curve: (length,) what the best plane there gains, and (length, 2) its slopes."""
    along, front, side = places.along[core].clip(0), places.anterior[core], places.lateral[core]
    worth = np.where(kinds[core] == DISC, 1.0, -1.0) + _PLANE_BONUS
    length = int(along.max()) + 30
    size = _smooth(np.bincount(along.astype(int), minlength=length))
    size = np.maximum(ndimage.maximum_filter1d(size, 41), 0.3 * size.max())
    slopes = np.array(list(product(_ANTERIOR_SLOPES, _LATERAL_SLOPES if thick else [0.0])))
    every = np.empty((len(slopes), length))
    for i, (forward, sideways) in enumerate(slopes):
        at = np.clip(along - forward * front - sideways * side, 0, length - 1).astype(int)
        every[i] = np.bincount(at, worth, length)
    every = _smooth(every) / size
    first = (every - _TILT_PENALTY * np.abs(slopes).sum(axis=1)[:, None]).argmax(axis=0)
    return every[first, np.arange(length)], slopes[first]


def _smooth(values: Array) -> Array:
    return ndimage.gaussian_filter1d(values.astype(float), 0.7, mode="constant")


def _best_chain(gain: Array) -> list[int]:
    """The best chain of places in `gain`, (length,), over all usual steps of `_PITCHES`; rows below are pitches."""
    count, rows = len(gain), np.arange(len(_PITCHES))
    usual = np.log(_PITCHES)[:, None] - _TAPER * np.arange(count)  # (pitches, length)
    lengths = np.arange(count + _STEP_RANGE[1] + 1)
    logs, long = np.log(np.maximum(lengths, 1)), _LONG_STEP_PENALTY[1] * np.maximum(lengths - _LONG_STEP_PENALTY[0], 0)

    def end(length: Array, usual: Array) -> Array:  # a body at the edge of the field of view may be cut short
        return _STEP_PENALTY * np.maximum(logs[length] - usual, 0) ** 2 + long[length]

    whole = np.arange(count)
    best, before = gain - end(whole, usual), np.full((len(rows), count), -1)
    steps = np.arange(_STEP_RANGE[0], _STEP_RANGE[1] + 1)
    for place in range(_STEP_RANGE[0], count):
        possible = steps[: place - _STEP_RANGE[0] + 1]
        cost = _STEP_PENALTY * (logs[possible] - usual[:, place, None]) ** 2 + long[possible]
        values = best[:, place - possible] - cost
        top = values.argmax(axis=1)
        value = gain[place] + values[rows, top]
        better = value > best[:, place]
        best[better, place] = value[better]
        before[better, place] = place - possible[top[better]]
    best -= end(whole[::-1], usual)
    alone = -end(np.full(len(rows), count), usual[:, -1])
    prior = 0.5 * np.log(_PITCHES / 33) ** 2
    row = int((np.maximum(best.max(axis=1), alone) - prior).argmax())
    if best[row].max() < alone[row]:
        return []
    chain = [int(best[row].argmax())]
    while before[row, chain[-1]] >= 0:
        chain.append(int(before[row, chain[-1]]))
    return chain[::-1]
