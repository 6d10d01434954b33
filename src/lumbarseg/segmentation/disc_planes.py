"""Planes through the discs, each tilted as its disc is, found together by dynamic programming along the centerline."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import scipy

from lumbarseg.volume import Array

from .centerline import BODY, CORE_RADIUS, DISC, CurveCoordinates

_ANTERIOR_SLOPES = np.tan(np.deg2rad([-30, -22, -15, -7, 0, 7, 15, 22, 30]))  # of a disc against the centerline
_LATERAL_SLOPES = np.tan(np.deg2rad([-16, -8, 0, 8, 16]))
_STEP_RANGE = (13, 52)  # mm from disc to disc: a child's crushed thoracic vertebra to a tall man's lumbar one
_PITCHES = np.arange(19.0, 44.0, 3.0)  # mm, candidates for the usual step
_STEP_PENALTY = 6.0  # of a step, times the square of its logarithm relative to the usual one
_LONG_STEP_PENALTY = (44.0, 0.1)  # mm from which a step costs more, cost per mm: no vertebra with its disc is longer
_TAPER = 0.001  # decrease of the logarithm of the usual step per mm upward, as vertebrae get smaller
_PLANE_BONUS = 0.4  # score of a plane that holds as much disc as body; an empty plane scores 0
_TILT_PENALTY = 0.15  # of a slope of one


@dataclass(frozen=True)
class DiscPlane:
    """A plane across the spine. position: mm along the centerline; disc_share: share of disc in the plane, 0..1."""

    position: float
    anterior_slope: float
    lateral_slope: float
    disc_share: float

    def is_below(self, coordinates: CurveCoordinates) -> Array:
        """Return whether the plane lies below each voxel, (m,) bool."""
        tilt = self.anterior_slope * coordinates.anterior + self.lateral_slope * coordinates.lateral
        return coordinates.along > self.position + tilt

    def height_above(self, coordinates: CurveCoordinates) -> Array:
        """Return how far each voxel lies above the plane, (m,) mm along the centerline."""
        height = coordinates.along - self.position - self.anterior_slope * coordinates.anterior
        return height - self.lateral_slope * coordinates.lateral


def find_disc_planes(coordinates: CurveCoordinates, classes: Array, thick: bool) -> list[DiscPlane]:
    """Find the planes between the vertebral bodies.

    At each millimetre and for each tilt, a plane scores by the share of disc in it minus the share of body. A chain of
    planes scores the sum of its planes, minus penalties for steps that differ from the usual step, which is the one
    whose best chain scores highest. So a fused pair or a missing disc is cut where its neighbours predict, and a false
    disc is not.

    Parameters
    ----------
    coordinates : of m voxels
    classes : (m,) class of each voxel
    thick : whether there are enough slices to see a lateral tilt

    Returns
    -------
    The planes, the lowest first; empty when there is too little to cut.
    """
    core = (coordinates.distance < CORE_RADIUS) & ((classes == BODY) | (classes == DISC))
    if core.sum() < 50:
        return []
    scores, slopes = _plane_scores(coordinates, classes, core, thick)
    low, high = (int(v) for v in np.percentile(coordinates.along[core].clip(0), [0.5, 99.5]))
    positions = [low + position for position in _best_chain(scores[low : high + 1])]
    fractions = np.clip(scores / (1 + _PLANE_BONUS), 0, 1)
    return [DiscPlane(p + 0.5, float(slopes[p, 0]), float(slopes[p, 1]), float(fractions[p])) for p in positions]


def _plane_scores(coordinates: CurveCoordinates, classes: Array, core: Array, thick: bool) -> tuple[Array, Array]:
    """Return for each mm of the centerline the score of the best plane there, (length,), and its slopes (length, 2)."""
    along = coordinates.along[core].clip(0)
    anterior, lateral = coordinates.anterior[core], coordinates.lateral[core]
    gains = np.where(classes[core] == DISC, 1.0, -1.0) + _PLANE_BONUS
    length = int(along.max()) + 30
    area = _smooth(np.bincount(along.astype(int), minlength=length))
    area = np.maximum(scipy.ndimage.maximum_filter1d(area, 41), 0.3 * area.max())
    slopes = np.array(list(product(_ANTERIOR_SLOPES, _LATERAL_SLOPES if thick else [0.0])))
    scores = np.empty((len(slopes), length))
    for i, (anterior_slope, lateral_slope) in enumerate(slopes):
        position = np.clip(along - anterior_slope * anterior - lateral_slope * lateral, 0, length - 1).astype(int)
        scores[i] = np.bincount(position, gains, length)
    scores = _smooth(scores) / area
    best = (scores - _TILT_PENALTY * np.abs(slopes).sum(axis=1)[:, None]).argmax(axis=0)
    return scores[best, np.arange(length)], slopes[best]


def _smooth(values: Array) -> Array:
    return scipy.ndimage.gaussian_filter1d(values.astype(float), 0.7, mode="constant")


def _best_chain(scores: Array) -> list[int]:
    """Return the positions of the best chain of planes, over all candidates of the usual step.

    scores: (length,) of the best plane at each mm. Arrays below have one row for each of `_PITCHES`.
    """
    count, rows = len(scores), np.arange(len(_PITCHES))
    usual = np.log(_PITCHES)[:, None] - _TAPER * np.arange(count)  # (pitches, length)
    lengths = np.arange(count + _STEP_RANGE[1] + 1)
    logs = np.log(np.maximum(lengths, 1))
    long = _LONG_STEP_PENALTY[1] * np.maximum(lengths - _LONG_STEP_PENALTY[0], 0)
    remaining = np.arange(count)[::-1]
    # a body at the edge of the field of view may be cut short
    start_cost = _STEP_PENALTY * np.maximum(logs[:count] - usual, 0) ** 2 + long[:count]
    end_cost = _STEP_PENALTY * np.maximum(logs[remaining] - usual, 0) ** 2 + long[remaining]
    empty_cost = _STEP_PENALTY * np.maximum(logs[count] - usual[:, -1], 0) ** 2 + long[count]
    best, previous = scores - start_cost, np.full((len(rows), count), -1)
    steps = np.arange(_STEP_RANGE[0], _STEP_RANGE[1] + 1)
    for position in range(_STEP_RANGE[0], count):
        possible = steps[: position - _STEP_RANGE[0] + 1]
        cost = _STEP_PENALTY * (logs[possible] - usual[:, position, None]) ** 2 + long[possible]
        values = best[:, position - possible] - cost
        top = values.argmax(axis=1)
        value = scores[position] + values[rows, top]
        better = value > best[:, position]
        best[better, position] = value[better]
        previous[better, position] = position - possible[top[better]]
    best -= end_cost
    prior = 0.5 * np.log(_PITCHES / 33) ** 2
    row = int((np.maximum(best.max(axis=1), -empty_cost) - prior).argmax())
    if best[row].max() < -empty_cost[row]:
        return []
    chain = [int(best[row].argmax())]
    while previous[row, chain[-1]] >= 0:
        chain.append(int(previous[row, chain[-1]]))
    return chain[::-1]
