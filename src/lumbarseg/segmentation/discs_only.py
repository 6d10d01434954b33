"""Discs where the model segments no vertebral bodies: the centerline goes through the centers of the discs.

Each disc stands for the vertebra above it, so levels are counted as with bodies: disc n lies below vertebra n. The
lowest disc is L5-S1 unless the model was trained to find another one; the reasons say how reliable that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import Polynomial

from lumbarseg.components import connected_components
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
from .levels import SACRUM_ANCHOR, LevelAssignment, NamedBody, names_from_user, names_upward, uncertainty_warnings

_DEFAULT_LOWEST = "L5-S1"  # the lowest disc of most people
_MAX_DISC_GAP = 85.0  # mm from center to center of two discs of one spine, of which one between is missing
_DEFAULT_SPACING = 36.0  # mm from disc to disc, where a single one shows none
_MIN_DISC_SHARE = 0.1  # of disc in a plane: less is a plane without a disc
_MIN_COMPONENT_SHARE = 0.05  # of the largest component: less does not count for the centerline
_HEIGHT_PER_DEGREE = 60.0  # mm of height for each degree of the polynomial, up to three
_MIN_VOLUME_SHARE = 0.1  # of the usual disc's volume: less is no disc
_MIN_AREA_SHARE = 0.33  # of the two discs above, in the largest slice: less is the rest of a disc within the sacrum
_MIN_LUMBAR_AREA = 110.0  # mm2 of a disc in its largest slice: lumbar ones have 160 to 470, cervical ones about 60
_MIN_LUMBAR_SPACING = 26.0  # mm from disc to disc: cervical ones follow each other by 18 to 20, lumbar by 32 to 39
_MIN_L5_S1_LEAN = 18.0  # degrees: in 30 of 31 real exams L5-S1 leans forward by 23 or more, L4-L5 mostly by 4 to 19
_MAX_SACRUM_DISTANCE = 20.0  # mm below the lowest disc within which a sacrum lies right below it
_MIN_SACRUM_VOLUME = 500.0  # mm3 in view
_MIDLINE = 6.0  # mm to either side, where a disc is as high as it gets
_NEXT_DISC_SHARE = 0.9  # of the usual spacing below the lowest disc, in which a further disc would lie


def separate_discs(classes: Array, spacing: Array) -> Instances | None:
    """Separate a class map without vertebral bodies into discs.

    Parameters
    ----------
    classes : (slices, A, S) uint8
    spacing : (3,) mm

    Returns
    -------
    The instances; None when the class map shows no disc.
    """
    centerline = fit_centerline_to_discs(classes == DISC, spacing)
    if centerline is None:
        return None
    voxels = np.argwhere(classes == DISC)
    coordinates = centerline.curve_coordinates(voxels, spacing)
    planes = _planes_one_per_level(find_disc_planes(coordinates, np.full(len(voxels), DISC), len(classes) > 4))
    if not planes:
        return None
    nearest = np.stack([np.abs(plane.height_above(coordinates)) for plane in planes]).argmin(axis=0) + 1
    numbers = assign_whole_components(number_map(classes.shape, voxels, nearest, coordinates.distance < MAX_DISTANCE))
    first, last = _first_and_last_disc(numbers)
    discs = np.where((numbers >= first) & (numbers <= last), numbers - first + 1, 0).astype(np.uint8)
    disc_positions = [plane.position for plane in planes[first - 1 : last]]
    pitch = float(np.median(np.diff(disc_positions))) if last > first else _DEFAULT_SPACING
    above = [*disc_positions[1:], disc_positions[-1] + pitch]
    positions = tuple(((np.array(disc_positions) + np.array(above)) / 2).tolist())
    return Instances(
        last - first + 1,
        np.zeros_like(discs),
        discs,
        assign_arches(classes == ARCH, positions, centerline, spacing),
        select_cluster(classes == SACRUM, instance_centers(discs, 1)[0], spacing),
        select_canal(classes == CANAL, centerline, spacing),
        centerline,
        positions,
        spacing,
        discs_only=True,
    )


def _planes_one_per_level(planes: list[DiscPlane]) -> list[DiscPlane]:
    """Drop planes between the levels: those of half steps, where discs follow each other as lumbar ones do.

    Without bodies a chain of half steps costs nothing, since its empty planes score 0.
    """
    full = [plane for plane in planes if plane.disc_share > _MIN_DISC_SHARE]
    if len(full) < 2 or np.median(np.diff([plane.position for plane in planes])) >= _MIN_LUMBAR_SPACING:
        return planes
    usual = float(np.median(np.diff([plane.position for plane in full])))
    if usual < _MIN_LUMBAR_SPACING:
        return planes
    remaining = full[:1]
    for plane in full[1:]:
        previous, gap = remaining[-1].position, plane.position - remaining[-1].position
        steps = int(gap / usual + 0.5)
        for step in range(1, steps):  # levels without a disc
            position = previous + step * gap / steps
            remaining.append(min(planes, key=lambda candidate: abs(candidate.position - position)))
        remaining.append(plane)
    return remaining


def fit_centerline_to_discs(mask: Array, spacing: Array) -> Centerline | None:
    """Fit a polynomial through the centers of discs, weighted by size, twice: the second time without distant ones.

    mask: (slices, A, S) bool; spacing: (3,) mm. Return None when the mask is empty.
    """
    components = connected_components(mask)
    if not components.count:
        return None
    remaining = components.sizes[1:] >= _MIN_COMPONENT_SHARE * components.sizes.max()
    points = instance_centers(components.numbers, components.count)[remaining] * spacing
    points, sizes = _longest_row(points, components.sizes[1:][remaining])
    curve = _fit_polynomial(points, sizes, spacing)
    distance = np.abs([np.interp(p[2], curve[:, 2], curve[:, 1]) - p[1] for p in points])
    near = distance <= MAX_DISTANCE
    if near.any() and not near.all():
        curve = _fit_polynomial(*_longest_row(points[near], sizes[near]), spacing)
    return extend_centerline(curve)


def _longest_row(points: Array, sizes: Array) -> tuple[Array, Array]:
    """Select the points, (n, 3) mm, of the heaviest row of discs that follow each other without a gap in height."""
    order = points[:, 2].argsort()
    rows = np.concatenate([[0], np.cumsum(np.diff(points[order, 2]) > _MAX_DISC_GAP)])
    selected = order[rows == np.bincount(rows, sizes[order]).argmax()]
    return points[selected], sizes[selected]


def _fit_polynomial(points: Array, sizes: Array, spacing: Array) -> Array:
    """Return a curve, (n, 3) mm, one point for each row from the lowest center to the highest, at least 25 mm high."""
    low, high = points[:, 2].min(), points[:, 2].max()
    heights = np.arange(low, max(high, low + 25), spacing[2])
    degree = min(3, int((high - low) // _HEIGHT_PER_DEGREE) + 1) if high - low > 15 else 0
    fits = [Polynomial.fit(points[:, 2], points[:, axis], degree, w=np.sqrt(sizes)) for axis in (0, 1)]
    return np.stack([*(fit(np.minimum(heights, high)) for fit in fits), heights], axis=1)


def _first_and_last_disc(numbers: Array) -> tuple[int, int]:
    """Return the first and the last number that is a disc of the spine.

    A level between them without a disc is counted too; a disc beyond such a level at an end is dropped.
    """
    volumes = np.bincount(numbers.ravel())[1:]
    real = np.flatnonzero(volumes >= _MIN_VOLUME_SHARE * np.median(volumes[volumes > 0])) + 1
    while len(real) > 2 and (real[1] - real[0] > 1 or _is_rudimentary(numbers, real)):
        real = real[1:]
    while len(real) > 2 and real[-1] - real[-2] > 1:
        real = real[:-1]
    return int(real[0]), int(real[-1])


def _is_rudimentary(numbers: Array, real: Array) -> bool:
    """Return whether the lowest of three or more discs is too small compared with the next two."""
    lowest, *others = (_max_slice_area(numbers == n) for n in real[:3])
    return lowest < _MIN_AREA_SHARE * float(np.mean(others))


def _max_slice_area(disc: Array) -> int:
    """Return the area of a disc in its largest slice, pixels."""
    return int(disc.sum(axis=(1, 2)).max())


def require_lumbar_discs(instances: Instances) -> None:
    """Raise SegmentError when the discs are small and follow each other as cervical ones do."""
    areas = [_max_slice_area(instances.discs == n) for n in range(1, instances.count + 1)]
    area = float(np.median([each for each in areas if each])) * instances.spacing[1] * instances.spacing[2]
    pitch = _median_spacing(instances)
    if area < _MIN_LUMBAR_AREA and instances.count > 2 and pitch < _MIN_LUMBAR_SPACING:
        raise SegmentError(
            f"no lumbar spine found: discs of {area:.0f} mm2 that follow each other by {pitch:.0f} mm "
            "are too small for lumbar ones"
        )


def assign_levels_from_discs(
    instances: Instances,
    probabilities: Array,
    named_bodies: Sequence[NamedBody] = (),
    trained_lowest: tuple[str, float] | None = None,
) -> LevelAssignment:
    """Name the vertebrae between the discs; as `levels.assign_levels`, but counted from another anchor.

    Parameters
    ----------
    instances : with `discs_only`
    probabilities : (classes, slices, A, S)
    named_bodies : vertebrae above a disc that the user named
    trained_lowest : the lowest disc that the model was trained to find, and the share of training exams where it was
    """
    default = _count_levels(instances, probabilities, trained_lowest)
    return names_from_user(named_bodies, default) if named_bodies else default


def _count_levels(
    instances: Instances, probabilities: Array, trained_lowest: tuple[str, float] | None
) -> LevelAssignment:
    """Count level names from the sacrum, or from the lowest disc where no sacrum is in view."""
    mean_probability = float(probabilities[DISC][instances.discs > 0].mean())
    if _sacrum_below_lowest_disc(instances):
        reasons = ["counted from the sacrum, by the discs above it"]
        return _assignment(_DEFAULT_LOWEST, instances, SACRUM_ANCHOR, 0.95 * mean_probability, reasons)
    if not trained_lowest:
        anchor = f"none: the lowest disc is assumed to be {_DEFAULT_LOWEST}"
        reasons = ["nothing shows which disc is the lowest"]
        return _assignment(_DEFAULT_LOWEST, instances, anchor, 0.2 * mean_probability, reasons)
    disc, share = trained_lowest
    reasons = [f"counted from the lowest disc: it was {disc} in {share:.0%} of the training exams"]
    confidence = (0.95 if share >= 1 else 0.75) * mean_probability
    if not _has_field_of_view_below(instances):
        reasons.append("the field of view ends close below it, so one below may be missing")
        confidence *= 0.4
    if disc == _DEFAULT_LOWEST and _lean_angle(instances) < _MIN_L5_S1_LEAN:
        reasons.append(
            f"it leans forward by less than {_MIN_L5_S1_LEAN:.0f} degrees, which is rare for {_DEFAULT_LOWEST}"
        )
        confidence *= 0.6
    return _assignment(disc, instances, "the lowest disc, as in training", confidence, reasons)


def _assignment(disc: str, instances: Instances, anchor: str, confidence: float, reasons: list[str]) -> LevelAssignment:
    names = names_upward(disc.partition("-")[0], instances.count)
    return LevelAssignment(names, anchor, confidence, tuple(reasons), uncertainty_warnings(confidence, reasons))


def _sacrum_below_lowest_disc(instances: Instances) -> bool:
    """Return whether there is a sacrum right below the lowest disc."""
    disc, sacrum = np.argwhere(instances.discs == 1), np.argwhere(instances.sacrum)
    if len(sacrum) * np.prod(instances.spacing) < _MIN_SACRUM_VOLUME:
        return False
    distance = np.linalg.norm((sacrum - disc.mean(axis=0)) * instances.spacing, axis=1)
    return bool(distance.min() < _MAX_SACRUM_DISTANCE)


def _lean_angle(instances: Instances) -> float:
    """Return the angle by which the lowest disc leans forward in its middle, degrees."""
    points = np.argwhere(instances.discs == 1) * instances.spacing
    middle = points[np.abs(points[:, 0] - np.median(points[:, 0])) < _MIDLINE, 1:]
    anterior, superior = np.linalg.svd(middle - middle.mean(axis=0), full_matrices=False)[2][0]
    return float(np.rad2deg(np.arctan2(-superior * np.sign(anterior), abs(anterior))))


def _has_field_of_view_below(instances: Instances) -> bool:
    """Return whether a disc below the lowest one would lie in the field of view."""
    height = np.argwhere(instances.discs == 1)[:, 2].mean() * instances.spacing[2]
    return bool(height > _NEXT_DISC_SHARE * _median_spacing(instances))


def _median_spacing(instances: Instances) -> float:
    """Return the usual distance from disc to disc, mm."""
    return float(np.median(np.diff(instances.positions))) if instances.count > 1 else _DEFAULT_SPACING
