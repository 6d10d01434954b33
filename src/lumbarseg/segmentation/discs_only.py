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

from .centerline import ARCH, CANAL, DISC, MAX_DISTANCE, SACRUM, Centerline, extend_centerline
from .disc_planes import DiscPlane, find_disc_planes
from .instances import (
    Instances,
    assign_arches,
    assign_whole_components,
    instance_centers,
    number_map,
    select_canal,
    select_cluster,
)
from .levels import MIN_CERTAIN_CONFIDENCE, LevelAssignment, levels_from_user, names_upward

_DEFAULT_LOWEST = "L5-S1"  # the lowest disc of most people
_MAX_DISC_GAP = 85.0  # mm from middle to middle of two discs of one column, of which one between was not seen
_DEFAULT_SPACING = 36.0  # mm, where a single disc tells none
_MIN_DISC_SHARE = 0.1  # share of disc in a plane: less is a plane without one
_MIN_COMPONENT_SHARE = 0.05  # of the largest piece: less says nothing about the column
_HEIGHT_PER_DEGREE = 60.0  # mm of height for each degree of the curve, up to three
_MIN_VOLUME_SHARE = 0.1  # of the usual disc's volume: less is none
_MIN_AREA_SHARE = 0.33  # of the two above it, in its largest slice: less is the rest of a disc within the sacrum
_MIN_LUMBAR_AREA = 110.0  # mm2 of a disc in its largest slice: lumbar ones have 160 to 470, cervical ones about 60
_MIN_LUMBAR_SPACING = 26.0  # mm from disc to disc: cervical ones follow each other by 18 to 20, lumbar ones by 32 to 39
_MIN_L5_S1_LEAN = 18.0  # degrees: in 30 of 31 real exams L5-S1 leans forward by 23 or more, L4-L5 mostly by 4 to 19
_MAX_SACRUM_DISTANCE = 20.0  # mm below the lowest disc within which a sacrum is what it rests on
_MIN_SACRUM_VOLUME = 500.0  # mm3 of it in view
_MIDLINE = 6.0  # mm to either side, where a disc is as high as it gets
_NEXT_DISC_SHARE = 0.9  # of the usual step below the lowest disc, in which a further one would show


def separate_discs(classes: Array, spacing: Array) -> Instances | None:
    """Take a class map (slices, A, S) without bodies apart; spacing: (3,) mm. None when it shows no disc."""
    column = fit_centerline_to_discs(classes == DISC, spacing)
    if column is None:
        return None
    voxels = np.argwhere(classes == DISC)
    places = column.curve_coordinates(voxels, spacing)
    planes = _planes_one_per_level(find_disc_planes(places, np.full(len(voxels), DISC), len(classes) > 4))
    if not planes:
        return None
    away = np.stack([_distance_to_plane(plane, places.along, places.anterior, places.lateral) for plane in planes])
    found = number_map(classes.shape, voxels, away.argmin(axis=0) + 1, places.distance < MAX_DISTANCE)
    found = assign_whole_components(found)
    first, last = _first_and_last_disc(found)
    count, at = last - first + 1, [plane.position for plane in planes[first - 1 : last]]
    discs = np.where((found >= first) & (found <= last), found - first + 1, 0).astype(np.uint8)
    step = float(np.median(np.diff(at))) if count > 1 else _DEFAULT_SPACING
    between = tuple(((np.array(at) + np.array([*at[1:], at[-1] + step])) / 2).tolist())
    arches = assign_arches(classes == ARCH, between, column, spacing)
    sacrum = select_cluster(classes == SACRUM, instance_centers(discs, 1)[0], spacing)
    canal = select_canal(classes == CANAL, column, spacing)
    return Instances(count, np.zeros_like(discs), discs, arches, sacrum, canal, column, between, discs_only=True)


def _planes_one_per_level(planes: list[DiscPlane]) -> list[DiscPlane]:
    """Where discs follow each other as lumbar ones do, and the planes twice as close: one plane for each level.

    Without bodies a chain of half steps costs nothing, for its empty planes are worth nothing.
    """
    full = [plane for plane in planes if plane.disc_share > _MIN_DISC_SHARE]
    if len(full) < 2 or np.median(np.diff([plane.position for plane in planes])) >= _MIN_LUMBAR_SPACING:
        return planes
    usual = float(np.median(np.diff([plane.position for plane in full])))
    if usual < _MIN_LUMBAR_SPACING:
        return planes
    kept = full[:1]
    for plane in full[1:]:
        before, gap = kept[-1].position, plane.position - kept[-1].position
        steps = int(gap / usual + 0.5)
        kept += [_nearest(planes, before + n * gap / steps) for n in range(1, steps)]  # levels without a disc
        kept.append(plane)
    return kept


def _nearest(planes: list[DiscPlane], at: float) -> DiscPlane:
    return min(planes, key=lambda plane: abs(plane.position - at))


def _distance_to_plane(plane: DiscPlane, along: Array, front: Array, side: Array) -> Array:
    """Distance from a plane along the column, mm."""
    return np.abs(along - plane.position - plane.anterior_slope * front - plane.lateral_slope * side)


def fit_centerline_to_discs(mask: Array, spacing: Array) -> Centerline | None:
    """The curve through the middles of discs, mask: (slices, A, S); None where there are none.

    A polynomial through the middles of the pieces, weighed by their sizes, the second time without what lies far away.
    """
    pieces, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    kept = np.flatnonzero(sizes >= _MIN_COMPONENT_SHARE * sizes.max()) + 1
    points = np.array(ndimage.center_of_mass(mask, pieces, kept)) * spacing
    sizes = sizes[kept - 1]
    points, sizes = _longest_row(points, sizes)
    curve = _fit_polynomial(points, sizes, spacing)
    off = np.abs([np.interp(p[2], curve[:, 2], curve[:, 1]) - p[1] for p in points])
    if (off > MAX_DISTANCE).any() and (off <= MAX_DISTANCE).any():
        curve = _fit_polynomial(*_longest_row(points[off <= MAX_DISTANCE], sizes[off <= MAX_DISTANCE]), spacing)
    return extend_centerline(curve)


def _longest_row(points: Array, sizes: Array) -> tuple[Array, Array]:
    """Of (n, 3) mm those that follow each other in height without a gap, the heaviest such row of them."""
    order = points[:, 2].argsort()
    rows = np.concatenate([[0], np.cumsum(np.diff(points[order, 2]) > _MAX_DISC_GAP)])
    mine = order[rows == np.bincount(rows, sizes[order]).argmax()]
    return points[mine], sizes[mine]


def _fit_polynomial(points: Array, sizes: Array, spacing: Array) -> Array:
    """(n, 3) mm, one place per row of height from the lowest point to the highest, 25 mm at least."""
    low, high = points[:, 2].min(), points[:, 2].max()
    heights = np.arange(low, max(high, low + 25), spacing[2])
    degree = min(3, int((high - low) // _HEIGHT_PER_DEGREE) + 1) if high - low > 15 else 0
    fits = [Polynomial.fit(points[:, 2], points[:, axis], degree, w=np.sqrt(sizes)) for axis in (0, 1)]
    return np.stack([*(fit(np.minimum(heights, high)) for fit in fits), heights], axis=1)


def _first_and_last_disc(found: Array) -> tuple[int, int]:
    """First and last number that is a disc of the column.

    A level between that shows no disc is counted all the same; a disc beyond such a level at an end is none.
    """
    volumes = np.bincount(found.ravel())[1:]
    real = np.flatnonzero(volumes >= _MIN_VOLUME_SHARE * np.median(volumes[volumes > 0])) + 1
    while len(real) > 2 and (real[1] - real[0] > 1 or _is_rudimentary(found, real)):
        real = real[1:]
    while len(real) > 2 and real[-1] - real[-2] > 1:
        real = real[:-1]
    return int(real[0]), int(real[-1])


def _is_rudimentary(found: Array, real: Array) -> bool:
    """Whether the lowest of three or more discs is too small beside the next two."""
    lowest, *others = (_max_slice_area(found == n) for n in real[:3])
    return lowest < _MIN_AREA_SHARE * float(np.mean(others))


def _max_slice_area(disc: Array) -> int:
    """Pixels of a disc in its largest slice."""
    return int(disc.sum(axis=(1, 2)).max())


def require_lumbar_discs(instances: Instances, spacing: Array) -> Instances:
    """The column, unless its discs are small and follow each other as cervical ones do; else SegmentError."""
    areas = [_max_slice_area(instances.discs == n) for n in range(1, instances.count + 1)]
    area = float(np.median([each for each in areas if each])) * spacing[1] * spacing[2]
    if area < _MIN_LUMBAR_AREA and instances.count > 2 and (step := _median_spacing(instances)) < _MIN_LUMBAR_SPACING:
        raise SegmentError(
            f"no lumbar spine found: discs of {area:.0f} mm2 that follow each other by {step:.0f} mm "
            "are too small for lumbar ones"
        )
    return instances


def assign_levels_from_discs(
    instances: Instances,
    probabilities: Array,
    spacing: Array,
    lowest: str | None,
    pinned_level: tuple[str, int] | None,
    trained_lowest: tuple[str, float] | None = None,
) -> LevelAssignment:
    """Name the vertebrae between the discs of a column; as `levels.name`, but for what the count can begin from.

    lowest: the user's name of the vertebra above the lowest disc; taught: the lowest disc that the model was taught.
    """
    told = levels_from_user(instances, lowest, pinned_level)
    if told:
        return told
    sure = float(probabilities[DISC][instances.discs > 0].mean())
    if _sacrum_below_lowest_disc(instances, spacing):
        value, reasons = 0.95 * sure, ["counted from the sacrum, by the discs above it"]
        return _assignment(_DEFAULT_LOWEST, instances, "sacrum", value, reasons)
    if not trained_lowest:
        anchor = f"none: the lowest disc is assumed to be {_DEFAULT_LOWEST}"
        return _assignment(_DEFAULT_LOWEST, instances, anchor, 0.2 * sure, ["nothing tells which disc the lowest is"])
    disc, share = trained_lowest
    reasons = [f"counted from the lowest disc: it was {disc} in {share:.0%} of the exams the model was taught with"]
    value = (0.95 if share >= 1 else 0.75) * sure
    if not _has_field_of_view_below(instances, spacing):
        reasons.append("the field of view ends close below it, so one below may be missing")
        value *= 0.4
    if disc == _DEFAULT_LOWEST and _lean_angle(instances, spacing) < _MIN_L5_S1_LEAN:
        reasons.append(
            f"it leans forward by less than {_MIN_L5_S1_LEAN:.0f} degrees, as {_DEFAULT_LOWEST} hardly ever does"
        )
        value *= 0.6
    return _assignment(disc, instances, "the lowest disc, as taught", value, reasons)


def _assignment(disc: str, found: Instances, anchor: str, confidence: float, reasons: list[str]) -> LevelAssignment:
    warnings: tuple[str, ...] = ()
    if confidence < MIN_CERTAIN_CONFIDENCE:
        warnings = (f"names are uncertain ({'; '.join(reasons)}); tell one with --lowest or --pin",)
    return LevelAssignment(
        names_upward(disc.partition("-")[0], found.count), anchor, confidence, tuple(reasons), warnings
    )


def _sacrum_below_lowest_disc(found: Instances, spacing: Array) -> bool:
    """Whether there is a sacrum right below the lowest disc."""
    disc, sacral = np.argwhere(found.discs == 1), np.argwhere(found.sacrum)
    if len(sacral) * np.prod(spacing) < _MIN_SACRUM_VOLUME:
        return False
    return bool(np.linalg.norm((sacral - disc.mean(axis=0)) * spacing, axis=1).min() < _MAX_SACRUM_DISTANCE)


def _lean_angle(found: Instances, spacing: Array) -> float:
    """How far the lowest disc leans forward in its middle, degrees."""
    places = np.argwhere(found.discs == 1) * spacing
    middle = places[np.abs(places[:, 0] - np.median(places[:, 0])) < _MIDLINE, 1:]
    forward, up = np.linalg.svd(middle - middle.mean(axis=0), full_matrices=False)[2][0]
    return float(np.rad2deg(np.arctan2(-up * np.sign(forward), abs(forward))))


def _has_field_of_view_below(found: Instances, spacing: Array) -> bool:
    """Whether a disc below the lowest one would be in the field of view."""
    return bool(np.argwhere(found.discs == 1)[:, 2].mean() * spacing[2] > _NEXT_DISC_SHARE * _median_spacing(found))


def _median_spacing(found: Instances) -> float:
    """The usual distance from disc to disc, mm."""
    return float(np.median(np.diff(found.positions))) if found.count > 1 else _DEFAULT_SPACING
