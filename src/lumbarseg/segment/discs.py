"""Discs named where the network knows no bodies: the column is what their middles lie on.

A vertebra is thought of above each disc, so that names are counted as ever: disc n lies below vertebra n. The lowest
disc is L5-S1 unless the model was taught to end at another one; how far that can be trusted, the reasons say.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial
from scipy import ndimage

from lumbarseg.errors import SegmentError
from lumbarseg.volume import Array

from .column import ARCH, CANAL, DISC, REACH, SACRUM, Column, extended
from .cuts import Cut, cuts
from .instances import Instances, arches_of, behind, centres, connected, painted, whole_pieces
from .levels import CERTAIN, Naming, given, names_upward

_USUAL = "L5-S1"  # the lowest disc of most people
_GAP = 85.0  # mm from middle to middle of two discs of one column, of which one between was not seen
_PITCH = 36.0  # mm, where a single disc tells none
_EMPTY = 0.1  # share of disc in a plane: less is a plane without one
_SPECK = 0.05  # of the largest piece: less says nothing about the column
_BEND = 60.0  # mm of height for each degree of the curve, up to three
_LEAST = 0.1  # of the usual disc's volume: less is none
_SLENDER = 0.33  # of the two above it, in its largest slice: less is the rest of a disc within the sacrum
_SMALL = 110.0  # mm2 of a disc in its largest slice: lumbar ones have 160 to 470, cervical ones about 60
_CLOSE = 26.0  # mm from disc to disc: cervical ones follow each other by 18 to 20, lumbar ones by 32 to 39
_FLAT = 18.0  # degrees: in 30 of 31 real exams L5-S1 leans forward by 23 or more, L4-L5 mostly by 4 to 19
_RESTS = 20.0  # mm below the lowest disc within which a sacrum is what it rests on
_SACRUM = 500.0  # mm3 of it in view
_MIDDLE = 6.0  # mm to either side, where a disc is as high as it gets
_ROOM = 0.9  # of the usual step below the lowest disc, in which a further one would show


def split(classes: Array, spacing: Array) -> Instances | None:
    """Take a class map (slices, A, S) without bodies apart; spacing: (3,) mm. None when it shows no disc."""
    column = trace(classes == DISC, spacing)
    if column is None:
        return None
    voxels = np.argwhere(classes == DISC)
    places = column.place(voxels, spacing)
    planes = _whole_steps(cuts(places, np.full(len(voxels), DISC), len(classes) > 4))
    if not planes:
        return None
    away = np.stack([_off(plane, places.along, places.front, places.side) for plane in planes])
    found = painted(classes.shape, voxels, away.argmin(axis=0) + 1, places.away < REACH)
    found = whole_pieces(found)
    first, last = _ends(found)
    count, at = last - first + 1, [plane.at for plane in planes[first - 1 : last]]
    discs = np.where((found >= first) & (found <= last), found - first + 1, 0).astype(np.uint8)
    step = float(np.median(np.diff(at))) if count > 1 else _PITCH
    between = tuple(((np.array(at) + np.array([*at[1:], at[-1] + step])) / 2).tolist())
    arches = arches_of(classes == ARCH, between, column, spacing)
    sacrum = connected(classes == SACRUM, centres(discs, 1)[0], spacing)
    canal = behind(classes == CANAL, column, spacing)
    return Instances(count, np.zeros_like(discs), discs, arches, sacrum, canal, column, between, bodyless=True)


def _whole_steps(planes: list[Cut]) -> list[Cut]:
    """Where discs follow each other as lumbar ones do, and the planes twice as close: one plane for each level.

    Without bodies a chain of half steps costs nothing, for its empty planes are worth nothing.
    """
    full = [plane for plane in planes if plane.disc > _EMPTY]
    if len(full) < 2 or np.median(np.diff([plane.at for plane in planes])) >= _CLOSE:
        return planes
    usual = float(np.median(np.diff([plane.at for plane in full])))
    if usual < _CLOSE:
        return planes
    kept = full[:1]
    for plane in full[1:]:
        before, gap = kept[-1].at, plane.at - kept[-1].at
        steps = int(gap / usual + 0.5)
        kept += [_nearest(planes, before + n * gap / steps) for n in range(1, steps)]  # levels without a disc
        kept.append(plane)
    return kept


def _nearest(planes: list[Cut], at: float) -> Cut:
    return min(planes, key=lambda plane: abs(plane.at - at))


def _off(plane: Cut, along: Array, front: Array, side: Array) -> Array:
    """Distance from a plane along the column, mm."""
    return np.abs(along - plane.at - plane.forward * front - plane.sideways * side)


def trace(mask: Array, spacing: Array) -> Column | None:
    """The curve through the middles of discs, mask: (slices, A, S); None where there are none.

    A polynomial through the middles of the pieces, weighed by their sizes, the second time without what lies far away.
    """
    pieces, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    kept = np.flatnonzero(sizes >= _SPECK * sizes.max()) + 1
    points = np.array(ndimage.center_of_mass(mask, pieces, kept)) * spacing
    sizes = sizes[kept - 1]
    points, sizes = _longest(points, sizes)
    curve = _through(points, sizes, spacing)
    off = np.abs([np.interp(p[2], curve[:, 2], curve[:, 1]) - p[1] for p in points])
    if (off > REACH).any() and (off <= REACH).any():
        curve = _through(*_longest(points[off <= REACH], sizes[off <= REACH]), spacing)
    return extended(curve)


def _longest(points: Array, sizes: Array) -> tuple[Array, Array]:
    """Of (n, 3) mm those that follow each other in height without a gap, the heaviest such row of them."""
    order = points[:, 2].argsort()
    rows = np.concatenate([[0], np.cumsum(np.diff(points[order, 2]) > _GAP)])
    mine = order[rows == np.bincount(rows, sizes[order]).argmax()]
    return points[mine], sizes[mine]


def _through(points: Array, sizes: Array, spacing: Array) -> Array:
    """(n, 3) mm, one place per row of height from the lowest point to the highest, 25 mm at least."""
    low, high = points[:, 2].min(), points[:, 2].max()
    heights = np.arange(low, max(high, low + 25), spacing[2])
    degree = min(3, int((high - low) // _BEND) + 1) if high - low > 15 else 0
    fits = [Polynomial.fit(points[:, 2], points[:, axis], degree, w=np.sqrt(sizes)) for axis in (0, 1)]
    return np.stack([*(fit(np.minimum(heights, high)) for fit in fits), heights], axis=1)


def _ends(found: Array) -> tuple[int, int]:
    """First and last number that is a disc of the column.

    A level between that shows no disc is counted all the same; a disc beyond such a level at an end is none.
    """
    volumes = np.bincount(found.ravel())[1:]
    real = np.flatnonzero(volumes >= _LEAST * np.median(volumes[volumes > 0])) + 1
    while len(real) > 2 and (real[1] - real[0] > 1 or _slender(found, real)):
        real = real[1:]
    while len(real) > 2 and real[-1] - real[-2] > 1:
        real = real[:-1]
    return int(real[0]), int(real[-1])


def _slender(found: Array, real: Array) -> bool:
    """Whether the lowest of three or more discs is too small beside the next two."""
    lowest, *others = (_largest(found == n) for n in real[:3])
    return lowest < _SLENDER * float(np.mean(others))


def _largest(disc: Array) -> int:
    """Pixels of a disc in its largest slice."""
    return int(disc.sum(axis=(1, 2)).max())


def lumbar(found: Instances, spacing: Array) -> Instances:
    """The column, unless its discs are small and follow each other as cervical ones do; else SegmentError."""
    areas = [_largest(found.discs == n) for n in range(1, found.count + 1)]
    area = float(np.median([each for each in areas if each])) * spacing[1] * spacing[2]
    if area < _SMALL and found.count > 2 and (step := _step(found)) < _CLOSE:
        raise SegmentError(
            f"no lumbar spine found: discs of {area:.0f} mm2 that follow each other by {step:.0f} mm "
            "are too small for lumbar ones"
        )
    return found


def name(
    found: Instances,
    scores: Array,
    spacing: Array,
    lowest: str | None,
    pinned: tuple[str, int] | None,
    taught: tuple[str, float] | None = None,
) -> Naming:
    """Name the vertebrae between the discs of a column; as `levels.name`, but for what the count can begin from.

    lowest: the user's name of the vertebra above the lowest disc; taught: the lowest disc that the model was taught.
    """
    told = given(found, lowest, pinned)
    if told:
        return told
    sure = float(scores[DISC][found.discs > 0].mean())
    if _rests(found, spacing):
        value, reasons = 0.95 * sure, ["counted from the sacrum, by the discs above it"]
        return _naming(_USUAL, found, "sacrum", value, reasons)
    if not taught:
        anchor = f"none: the lowest disc is assumed to be {_USUAL}"
        return _naming(_USUAL, found, anchor, 0.2 * sure, ["nothing tells which disc the lowest is"])
    disc, share = taught
    reasons = [f"counted from the lowest disc: it was {disc} in {share:.0%} of the exams the model was taught with"]
    value = (0.95 if share >= 1 else 0.75) * sure
    if not _room(found, spacing):
        reasons.append("the field of view ends close below it, so one below may be missing")
        value *= 0.4
    if disc == _USUAL and _lean(found, spacing) < _FLAT:
        reasons.append(f"it leans forward by less than {_FLAT:.0f} degrees, as {_USUAL} hardly ever does")
        value *= 0.6
    return _naming(disc, found, "the lowest disc, as taught", value, reasons)


def _naming(disc: str, found: Instances, anchor: str, confidence: float, reasons: list[str]) -> Naming:
    warnings: tuple[str, ...] = ()
    if confidence < CERTAIN:
        warnings = (f"names are uncertain ({'; '.join(reasons)}); tell one with --lowest or --pin",)
    return Naming(names_upward(disc.partition("-")[0], found.count), anchor, confidence, tuple(reasons), warnings)


def _rests(found: Instances, spacing: Array) -> bool:
    """Whether there is a sacrum right below the lowest disc."""
    disc, sacral = np.argwhere(found.discs == 1), np.argwhere(found.sacrum)
    if len(sacral) * np.prod(spacing) < _SACRUM:
        return False
    return bool(np.linalg.norm((sacral - disc.mean(axis=0)) * spacing, axis=1).min() < _RESTS)


def _lean(found: Instances, spacing: Array) -> float:
    """How far the lowest disc leans forward in its middle, degrees."""
    places = np.argwhere(found.discs == 1) * spacing
    middle = places[np.abs(places[:, 0] - np.median(places[:, 0])) < _MIDDLE, 1:]
    forward, up = np.linalg.svd(middle - middle.mean(axis=0), full_matrices=False)[2][0]
    return float(np.rad2deg(np.arctan2(-up * np.sign(forward), abs(forward))))


def _room(found: Instances, spacing: Array) -> bool:
    """Whether a disc below the lowest one would be in the field of view."""
    return bool(np.argwhere(found.discs == 1)[:, 2].mean() * spacing[2] > _ROOM * _step(found))


def _step(found: Instances) -> float:
    """The usual distance from disc to disc, mm."""
    return float(np.median(np.diff(found.at))) if found.count > 1 else _PITCH
