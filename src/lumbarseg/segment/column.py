"""The column as a curve: how far along it a voxel lies, and where the discs cut it.

Everything is on the network's grid; points are (slice, anterior, up) in mm of that grid, not of the scanner.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.volume import Array

BODY, DISC, CANAL, SACRUM, ARCH = (CLASSES.index(k) for k in (Kind.BODY, Kind.DISC, Kind.CANAL, Kind.SACRUM, Kind.ARCH))

REACH = 45.0  # mm from the curve; beyond it nothing is body or disc of this column
CORE = 11.0  # mm from the curve, where bodies and discs follow each other undisturbed by rims and osteophytes
_SMOOTH = 9.0  # mm along the curve
_PITCH = (17.0, 46.0)  # mm from disc to disc: a child's thoracic to a tall man's lumbar vertebra


@dataclass(frozen=True, eq=False)
class Column:
    """points: (n, 3) mm, one per mm of height from the lowest upward; at: (n,) length along the curve, mm, rising."""

    points: Array
    at: Array

    def project(self, voxels: Array, spacing: Array) -> tuple[Array, Array]:
        """voxels: (m, 3) indices to the length along the curve of their nearest place and the distance from it, mm.

        From the place at a voxel's own height it slides along the tangent to the foot of the perpendicular; the curve
        is so smooth that three steps find it to a tenth of a millimetre.
        """
        where = (voxels * spacing).astype(np.float32)
        points, at = self.points.astype(np.float32), self.at.astype(np.float32)
        tangents = np.gradient(points, at, axis=0).astype(np.float32)
        along = np.interp(where[:, 2], points[:, 2], at).astype(np.float32)
        for _ in range(3):
            index = np.clip(np.searchsorted(at, along), 0, len(at) - 1)
            along = at[index] + ((where - points[index]) * tangents[index]).sum(axis=1)
        index = np.clip(np.searchsorted(at, along), 0, len(at) - 1)
        return along, np.linalg.norm(where - points[index], axis=1)


def trace(classes: Array, spacing: Array) -> Column | None:
    """The curve through the bodies and discs of a class map (slices, A, S); None when there is no column.

    The middle of what is body or disc at each height, smoothed, twice: the second time without what lies far away. It
    goes on straight at both ends, so that the sacrum and cut vertebrae have a place along it, too.
    """
    mask = (classes == BODY) | (classes == DISC)
    curve = None
    for _ in range(2):
        curve = _middle(mask, spacing)
        if curve is None:
            return None
        here = curve[np.clip(np.arange(mask.shape[2]) - int(curve[0, 2]), 0, len(curve) - 1)]
        far = np.abs(np.arange(mask.shape[1])[:, None] * spacing[1] - here[None, :, 1]) > REACH
        mask = mask & ~far[None]
    assert curve is not None
    ends = [np.polynomial.polynomial.polyfit(np.arange(len(p)), p, 1)[1] for p in (curve[:25], curve[-25:])]
    steps = np.arange(1, 81)[:, None]
    points = np.concatenate([curve[0] - ends[0] * steps[::-1], curve, curve[-1] + ends[1] * steps])
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return Column(points, np.concatenate([[0.0], np.cumsum(lengths)]))


def _middle(mask: Array, spacing: Array) -> Array | None:
    """(n, 3) mm, one place per row of height that holds the column, gaps closed; None when it is too short."""
    count = mask.sum(axis=(0, 1))
    if not count.any():
        return None
    labelled, _ = ndimage.label(count > 0.15 * np.percentile(count[count > 0], 80))
    spans = [s[0] for s in ndimage.find_objects(labelled)]
    longest = max(spans, key=lambda s: count[s].sum())
    used = [s for s in spans if max(s.start - longest.stop, longest.start - s.stop) * spacing[2] < 20]
    rows = np.concatenate([np.arange(s.start, s.stop) for s in used])
    if len(rows) * spacing[2] < 25:
        return None
    planes = mask[:, :, rows].astype(np.float32)
    total = planes.sum(axis=(0, 1))
    slices = (planes.sum(axis=1) * np.arange(len(mask))[:, None]).sum(axis=0) / total * spacing[0]
    front = (planes.sum(axis=0) * np.arange(mask.shape[1])[:, None]).sum(axis=0) / total * spacing[1]
    every = np.arange(rows.min(), rows.max() + 1)
    points = [np.interp(every, rows, values) for values in (slices, front)] + [every * spacing[2]]
    smooth = [ndimage.gaussian_filter1d(p, _SMOOTH / spacing[2], mode="nearest") for p in points[:2]]
    return np.stack([*smooth, points[2]], axis=1)


def profile(along: Array, away: Array, kinds: Array, length: int) -> tuple[Array, Array]:
    """Volumes of body and of disc per mm of the curve near its core, smoothed: two arrays of `length`."""
    core = away < CORE
    place = np.clip(along[core].astype(int), 0, length - 1)
    volumes = [
        ndimage.gaussian_filter1d(np.bincount(place[kinds[core] == kind], minlength=length).astype(float), 1.5)
        for kind in (BODY, DISC)
    ]
    return volumes[0], volumes[1]


def cuts(body: Array, disc: Array) -> list[int]:
    """Places along the curve, mm, where discs lie, the lowest first.

    The best chain of places by dynamic programming: each gains the share of disc there, and a step between two discs
    costs by how far it is from the usual one. So a missing or fused disc is bridged, and a false one is passed over.
    """
    filled = body + disc
    inside = np.flatnonzero(filled > 0.1 * filled.max())
    first, last = int(inside[0]), int(inside[-1])
    gain = disc / np.maximum(filled, 0.15 * filled.max())
    pitch = _usual_step(gain[first : last + 1])
    best = gain.copy()
    before = np.full(len(gain), -1)
    for place in range(first, last + 1):
        low, high = max(first, place - int(_PITCH[1])), place - int(_PITCH[0])
        if high < low:
            continue
        steps = place - np.arange(low, high + 1)
        values = best[low : high + 1] - 2.5 * np.log(steps / pitch) ** 2
        top = int(values.argmax())
        if values[top] > 0:
            best[place], before[place] = gain[place] + values[top], low + top
    chain = [int(first + best[first : last + 1].argmax())]
    while before[chain[-1]] >= 0:
        chain.append(int(before[chain[-1]]))
    return _trimmed(chain[::-1], gain)


def _usual_step(gain: Array) -> float:
    """The usual distance between the clear discs of this column, mm."""
    peaks = [i for i in range(1, len(gain) - 1) if gain[i] > 0.4 and gain[i] == gain[max(0, i - 8) : i + 9].max()]
    steps = np.diff(peaks)
    usual = steps[(steps >= _PITCH[0]) & (steps <= _PITCH[1])]
    return float(np.median(usual)) if len(usual) else 34.0


def _trimmed(chain: list[int], gain: Array) -> list[int]:
    """Without places at either end where there is no disc at all."""
    while chain and gain[chain[0]] < 0.2:
        chain = chain[1:]
    while chain and gain[chain[-1]] < 0.2:
        chain = chain[:-1]
    return chain
