"""Tissue classes taken apart into single vertebral bodies, discs and posterior elements, in the order of the column."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from lumbarseg.volume import Array

from .centerline import ARCH, BODY, CANAL, DISC, MAX_DISTANCE, SACRUM, Centerline, CurveCoordinates, fit_centerline
from .disc_planes import DiscPlane, find_disc_planes
from .sacrum import is_sacral

_WHOLE_COMPONENT_SHARE = 0.85  # a piece of which this share lies between two discs belongs there as a whole
_MIN_VOLUME_SHARE = 0.04  # of the usual body's volume: less is no vertebra
_CERTAIN_VOLUME_SHARE = 0.7  # of the usual body's volume: more is a vertebra even among sacrum
_CLUSTER_GAP = 9  # pixels within which pieces of the sacrum belong together
_CANAL_RANGE = (90.0, 35.0)  # mm behind the column, where the sacral canal bends away from it, and to its sides
_MIDLINE = 14.0  # mm to either side
_PEDICLE_DISTANCE = 26.0  # mm from the column's middle to the pedicles
_DROP_PER_MM = 1 / 65.0  # of a level per mm further back
_IN_PLANE = ndimage.generate_binary_structure(3, 1) & np.array([[[False]], [[True]], [[False]]])


@dataclass(frozen=True, eq=False)
class Instances:
    """bodies, arches: (slices, A, S) uint8, 1 for the lowest body, rising; discs: disc n lies below body n.

    sacrum, canal: (slices, A, S) bool; at: mm along the column of each body's middle; bodyless: the network knows no
    bodies, so they are thought of, one above each disc; sacral: the lowest body that was found counts as sacrum.
    """

    count: int
    bodies: Array
    discs: Array
    arches: Array
    sacrum: Array
    canal: Array
    centerline: Centerline
    positions: tuple[float, ...]
    discs_only: bool = False
    excludes_s1: bool = False

    @property
    def level_map(self) -> Array:
        """What names are counted along: bodies, or discs where no bodies are known."""
        return self.discs if self.discs_only else self.bodies


def separate_instances(classes: Array, spacing: Array) -> Instances | None:
    """Take a class map (slices, A, S) apart; spacing: (3,) mm. None when it shows no column."""
    (box,) = ndimage.find_objects((classes > 0).view(np.uint8)) or (None,)
    if box is None:
        return None
    inside = (slice(None), *box[1:])  # the spine is half of the field or less, and all below takes time with it
    found = _separate_in_crop(np.ascontiguousarray(classes[inside]), spacing)
    if found is None:
        return None

    def back(part: Array) -> Array:
        out = np.zeros(classes.shape, part.dtype)
        out[inside] = part
        return out

    shift = np.array([0, box[1].start, box[2].start]) * spacing
    return replace(
        found,
        bodies=back(found.bodies),
        discs=back(found.discs),
        arches=back(found.arches),
        sacrum=back(found.sacrum),
        canal=back(found.canal),
        centerline=replace(found.centerline, points=found.centerline.points + shift),
    )


def _separate_in_crop(classes: Array, spacing: Array) -> Instances | None:
    """The same, of all the field there is."""
    column = fit_centerline(classes, spacing)
    if column is None:
        return None
    voxels = np.argwhere((classes == BODY) | (classes == DISC) | (classes == SACRUM))
    places = column.curve_coordinates(voxels, spacing)
    away, kinds = places.distance, classes[tuple(voxels.T)]
    planes = find_disc_planes(places, kinds, len(classes) > 4)
    segments, planes = _without_slivers(places, kinds, planes)
    low, high = _first_and_last_body(segments, kinds, places)
    if high < low:
        return None
    between = number_map(classes.shape, voxels, segments + 1, (kinds == BODY) & (away < MAX_DISTANCE))
    between = assign_whole_components(between)
    found = np.zeros(classes.shape, np.uint8)
    if planes:
        nearest = np.abs(places.along[:, None] - np.array([plane.position for plane in planes])).argmin(axis=1)
        found = number_map(classes.shape, voxels, nearest + 1, (kinds == DISC) & (away < MAX_DISTANCE))
        found = assign_whole_components(found)  # disc j of `planes`, from 1, lies below segment j
    bodies, discs = _renumbered(between, found, low, high)
    sacral = high - low > 1 and is_sacral(bodies, discs, classes == SACRUM, spacing)
    if sacral:
        low += 1
        bodies, discs = _renumbered(between, found, low, high)
    count = high - low + 1
    stray = (between > 0) & (between <= low)  # the top of S1, taken for a body
    at = _body_positions(bodies, count, column, spacing)
    arches = assign_arches(classes == ARCH, at, column, spacing)
    sacrum = select_cluster((classes == SACRUM) | stray, instance_centers(bodies, 1)[0], spacing)
    canal = select_canal(classes == CANAL, column, spacing)
    return Instances(count, bodies, discs, arches, sacrum, canal, column, at, excludes_s1=sacral)


def _renumbered(between: Array, found: Array, low: int, high: int) -> tuple[Array, Array]:
    """Bodies and discs numbered from the segment `low` upward. between: segment + 1; found: disc + 1, both uint8."""
    numbers = np.arange(256)
    bodies = np.where((numbers > low) & (numbers <= high + 1), numbers - low, 0).astype(np.uint8)
    discs = np.where(numbers > 0, np.clip(numbers - low + 1, 0, high - low + 2), 0).astype(np.uint8)
    return bodies[between], discs[found]


def number_map(shape: tuple[int, ...], voxels: Array, numbers: Array, selected: Array) -> Array:
    """(slices, A, S) uint8 with the numbers of those voxels, (m, 3) indices, for which `where` is true."""
    out = np.zeros(shape, np.uint8)
    out[tuple(voxels[selected].T)] = numbers[selected]
    return out


def _without_slivers(places: CurveCoordinates, kinds: Array, planes: list[DiscPlane]) -> tuple[Array, list[DiscPlane]]:
    """The segment of each voxel, 0 below the lowest plane; of two planes with next to nothing between, one is given up.

    What lies below all bodies, such as the rest of a disc within the sacrum, stays apart.
    """
    while True:
        segments = sum((plane.is_below(places).astype(np.intp) for plane in planes), np.zeros(len(kinds), np.intp))
        volumes = np.bincount(segments[(kinds == BODY) & (places.distance < MAX_DISTANCE)], minlength=len(planes) + 1)
        usual = np.median(volumes[volumes > 0]) if (volumes > 0).any() else 0
        full = np.flatnonzero(volumes >= max(_MIN_VOLUME_SHARE * usual, 1))
        empty = [s for s in range(1, len(planes)) if s not in full and len(full) and full[0] < s < full[-1]]
        if not empty:
            return segments, planes
        pair = planes[empty[0] - 1 : empty[0] + 1]
        planes = [plane for plane in planes if plane is not min(pair, key=lambda p: p.disc_share)]


def _first_and_last_body(segments: Array, kinds: Array, places: CurveCoordinates) -> tuple[int, int]:
    """First and last segment that hold a vertebral body; below the first may be the sacrum."""
    count = int(segments.max()) + 1 if len(segments) else 0
    near = (np.abs(places.lateral) < _MIDLINE) & (
        places.distance < MAX_DISTANCE
    )  # the sacrum's wings reach up beside a vertebra
    volumes = np.bincount(segments[near & (kinds == BODY)], minlength=count)
    sacral = np.bincount(segments[near & (kinds == SACRUM)], minlength=count)
    usual = np.median(volumes[volumes > 0]) if (volumes > 0).any() else 0
    whole = volumes > _CERTAIN_VOLUME_SHARE * usual  # the lowest vertebra may hang on the sacrum without a disc
    real = np.flatnonzero((volumes > max(_MIN_VOLUME_SHARE * usual, 1)) & (whole | (volumes > 2 * sacral)))
    return (int(real[0]), int(real[-1])) if len(real) else (1, 0)


def assign_whole_components(numbers: Array) -> Array:
    """Pieces that lie almost wholly in one segment get its number throughout; pieces across two stay cut."""
    pieces, count = ndimage.label(numbers > 0)
    if not count:
        return numbers
    inside = np.nonzero(pieces)
    piece, number = pieces[inside], numbers[inside].astype(np.intp)
    kinds = int(number.max()) + 1
    votes = np.bincount(piece * kinds + number, minlength=(count + 1) * kinds).reshape(-1, kinds)
    sizes, top, most = votes.sum(axis=1), votes.argmax(axis=1), votes.max(axis=1)
    biggest = np.zeros(kinds, int)
    np.maximum.at(biggest, top, sizes)
    specks = sizes < 0.02 * biggest[top]  # of the largest piece of the same number
    sure = most >= _WHOLE_COMPONENT_SHARE * np.maximum(sizes, 1)
    out = np.zeros(numbers.shape, np.uint8)
    out[inside] = np.where(specks[piece], 0, np.where(sure[piece], top[piece], number))
    return out


def select_cluster(mask: Array, voxel: Array, spacing: Array) -> Array:
    """Of a mask, the cluster that is largest and nearest to a voxel; its pieces lie a few pixels apart at most.

    The largest where the voxel is unknown, nan.
    """
    voxels = np.nonzero(mask)
    if not len(voxels[0]):
        return mask
    clusters, count = ndimage.label(
        ndimage.maximum_filter(mask, (3 if len(mask) > 1 else 1, _CLUSTER_GAP, _CLUSTER_GAP))
    )
    of = clusters[voxels]
    away = np.full(count + 1, np.inf)
    distance = np.linalg.norm((np.stack(voxels, axis=1) - voxel) * spacing, axis=1)
    np.minimum.at(away, of, np.where(np.isfinite(distance), distance, 1.0))
    return mask & (clusters == (np.bincount(of, minlength=count + 1) / away**2).argmax())


def select_canal(mask: Array, centerline: Centerline, spacing: Array) -> Array:
    """What lies where a canal can lie: behind the column, not far to its sides."""
    voxels = np.nonzero(mask)
    places = centerline.curve_coordinates(np.stack(voxels, axis=1), spacing)
    out = np.zeros_like(mask)
    out[voxels] = (
        (places.anterior < 0) & (places.anterior > -_CANAL_RANGE[0]) & (np.abs(places.lateral) < _CANAL_RANGE[1])
    )
    return out


def instance_centers(numbers: Array, count: int) -> Array:
    """(count, 3) voxel coordinates of the centre of each of the instances 1..count; nan for one without voxels."""
    voxels = np.nonzero(numbers)
    of = numbers[voxels]
    size = np.bincount(of, minlength=count + 1)[1 : count + 1].astype(float)
    size[size == 0] = np.nan
    return np.stack([np.bincount(of, axis, minlength=count + 1)[1 : count + 1] / size for axis in voxels], axis=1)


def _body_positions(bodies: Array, count: int, column: Centerline, spacing: Array) -> tuple[float, ...]:
    """Where the middle of each body lies along the column, mm; a missing one between its neighbours."""
    places = instance_centers(bodies, count)
    known = np.flatnonzero(np.isfinite(places[:, 0]))
    along, _ = column.project(places[known], spacing)
    return tuple(np.interp(np.arange(count), known, along).tolist())


def assign_arches(mask: Array, positions: tuple[float, ...], centerline: Centerline, spacing: Array) -> Array:
    """Posterior elements, slice by slice: each piece goes to the body it hangs from.

    The further behind the column a piece lies, the lower it hangs: pedicles stand on the upper half of their body,
    spinous processes reach the disc below. A piece that spans two levels is cut along the column.
    """
    out = np.zeros(mask.shape, np.uint8)
    pieces, count = ndimage.label(mask, structure=_IN_PLANE)
    if not count:
        return out
    voxels = np.argwhere(mask)
    along, away = centerline.project(voxels, spacing)
    piece = pieces[tuple(voxels.T)]
    pitch = float(np.median(np.diff(positions))) if len(positions) > 1 else 34.0
    level = along + pitch * np.clip((away - _PEDICLE_DISTANCE) * _DROP_PER_MM, 0, 0.5)
    size = np.maximum(np.bincount(piece), 1)
    mean = np.bincount(piece, level) / size
    spread = np.sqrt(np.bincount(piece, (level - mean[piece]) ** 2) / size)
    place = np.where(spread[piece] < 0.36 * pitch, mean[piece], level)
    nearest = np.abs(place[:, None] - np.array(positions)).argmin(axis=1)
    fits = np.abs(place - np.array(positions)[nearest]) < 0.8 * pitch
    out[tuple(voxels.T)] = np.where(fits, nearest + 1, 0)
    return out
