"""Separation of the predicted classes into vertebral bodies, discs and posterior elements, numbered along the spine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy

from lumbarseg.components import bounding_box, connected_components
from lumbarseg.volume import Array

from .centerline import ARCH, BODY, CANAL, DISC, MAX_DISTANCE, SACRUM, Centerline, CurveCoordinates, fit_centerline
from .disc_planes import DiscPlane, find_disc_planes
from .sacrum import find_sacral_signs, is_first_sacral_body

_WHOLE_COMPONENT_SHARE = 0.85  # a component of which this share lies between two discs belongs there completely
_SPECK_SHARE = 0.02  # of the largest component of the same number
_MIN_VOLUME_SHARE = 0.04  # of the usual body's volume: less is no vertebra
_CERTAIN_VOLUME_SHARE = 0.7  # of the usual body's volume: more is a vertebra even among sacrum
_CLUSTER_GAP = 9  # pixels within which components of the sacrum belong together
_CANAL_RANGE = (90.0, 35.0)  # mm behind the centerline, where the sacral canal bends away from it, and lateral to it
_MIDLINE = 14.0  # mm to either side
_PEDICLE_DISTANCE = 26.0  # mm from the centerline to the pedicles
_DROP_PER_MM = 1 / 65.0  # of a level, by which posterior elements hang lower for each mm further back
_DEFAULT_PITCH = 34.0  # mm from body to body, where a single one shows none


@dataclass(frozen=True, eq=False)
class Instances:
    """Vertebrae and discs on the network grid.

    Attributes
    ----------
    count : number of bodies, or of discs when `discs_only`
    bodies, arches : (slices, A, S) uint8, 1 for the lowest body, rising
    discs : (slices, A, S) uint8, disc n lies below body n
    sacrum, canal : (slices, A, S) bool
    centerline : of the spine
    positions : mm along the centerline of the center of each body
    spacing : (3,) mm
    discs_only : the model segments no bodies; each disc stands for the body above it
    sacral_signs : signs that the lowest body is S1, in words
    excluded_s1_signs : why the lowest body of the prediction was counted as sacrum; () where it was not
    """

    count: int
    bodies: Array
    discs: Array
    arches: Array
    sacrum: Array
    canal: Array
    centerline: Centerline
    positions: tuple[float, ...]
    spacing: Array
    discs_only: bool = False
    sacral_signs: tuple[str, ...] = ()
    excluded_s1_signs: tuple[str, ...] = ()

    @property
    def level_map(self) -> Array:
        """Return the instances that levels are counted by: bodies, or discs when the model segments no bodies."""
        return self.discs if self.discs_only else self.bodies


def separate_vertebrae(classes: Array, spacing: Array) -> Instances | None:
    """Separate a class map into instances.

    Parameters
    ----------
    classes : (slices, A, S) uint8
    spacing : (3,) mm

    Returns
    -------
    The instances; None when the class map shows no spine.
    """
    box = bounding_box(classes > 0)
    if box is None:
        return None
    crop = (slice(None), *box[1:])  # the spine fills half of the field of view or less
    instances = _separate_in_crop(np.ascontiguousarray(classes[crop]), spacing)
    if instances is None:
        return None

    def uncrop(part: Array) -> Array:
        out = np.zeros(classes.shape, part.dtype)
        out[crop] = part
        return out

    offset = np.array([0, box[1].start, box[2].start]) * spacing
    return replace(
        instances,
        bodies=uncrop(instances.bodies),
        discs=uncrop(instances.discs),
        arches=uncrop(instances.arches),
        sacrum=uncrop(instances.sacrum),
        canal=uncrop(instances.canal),
        centerline=replace(instances.centerline, points=instances.centerline.points + offset),
    )


def _separate_in_crop(classes: Array, spacing: Array) -> Instances | None:
    centerline = fit_centerline(classes, spacing)
    if centerline is None:
        return None
    voxels = np.argwhere((classes == BODY) | (classes == DISC) | (classes == SACRUM))
    coordinates = centerline.curve_coordinates(voxels, spacing)
    kinds = classes[tuple(voxels.T)]
    near = coordinates.distance < MAX_DISTANCE
    planes = find_disc_planes(coordinates, kinds, len(classes) > 4)
    segments, planes = _merge_slivers(coordinates, kinds, planes)
    low, high = _first_and_last_body(segments, kinds, coordinates)
    if high < low:
        return None
    body_segments = assign_whole_components(number_map(classes.shape, voxels, segments + 1, (kinds == BODY) & near))
    disc_planes = np.zeros(classes.shape, np.uint8)
    if planes:  # disc j of `planes`, from 1, lies below segment j
        nearest = np.abs(coordinates.along[:, None] - np.array([plane.position for plane in planes])).argmin(axis=1)
        disc_planes = assign_whole_components(number_map(classes.shape, voxels, nearest + 1, (kinds == DISC) & near))
    excluded_signs: tuple[str, ...] = ()
    while True:
        bodies, discs = _renumbered(body_segments, disc_planes, low, high)
        sacral = (classes == SACRUM) | ((body_segments > 0) & (body_segments <= low))  # with S1 where taken for a body
        sacrum = select_cluster(sacral, instance_centers(bodies, 1)[0], spacing)
        signs = find_sacral_signs(bodies, discs, sacrum, spacing)
        if excluded_signs or not is_first_sacral_body(signs):
            break
        excluded_signs, low = signs, low + 1
    count = high - low + 1
    positions = _body_positions(bodies, count, centerline, spacing)
    return Instances(
        count,
        bodies,
        discs,
        assign_arches(classes == ARCH, positions, centerline, spacing),
        sacrum,
        select_canal(classes == CANAL, centerline, spacing),
        centerline,
        positions,
        spacing,
        sacral_signs=signs,
        excluded_s1_signs=excluded_signs,
    )


def _renumbered(body_segments: Array, disc_planes: Array, low: int, high: int) -> tuple[Array, Array]:
    """Number bodies and discs from segment `low` upward. body_segments: segment + 1; disc_planes: plane + 1; uint8."""
    numbers = np.arange(256)
    bodies = np.where((numbers > low) & (numbers <= high + 1), numbers - low, 0).astype(np.uint8)
    discs = np.where(numbers > 0, np.clip(numbers - low + 1, 0, high - low + 2), 0).astype(np.uint8)
    return bodies[body_segments], discs[disc_planes]


def number_map(shape: tuple[int, ...], voxels: Array, numbers: Array, selected: Array) -> Array:
    """Return a map, (slices, A, S) uint8, with the numbers (m,) of the selected of voxels (m, 3); 0 elsewhere."""
    out = np.zeros(shape, np.uint8)
    out[tuple(voxels[selected].T)] = numbers[selected]
    return out


def _merge_slivers(
    coordinates: CurveCoordinates, kinds: Array, planes: list[DiscPlane]
) -> tuple[Array, list[DiscPlane]]:
    """Drop one of two planes with next to nothing between them; return the segment of each voxel, and the planes.

    Segment 0 lies below the lowest plane. What lies below all bodies, such as the rest of a disc within the sacrum,
    stays a segment of its own.
    """
    while True:
        segments = sum((plane.is_below(coordinates).astype(np.intp) for plane in planes), np.zeros(len(kinds), np.intp))
        volumes = np.bincount(
            segments[(kinds == BODY) & (coordinates.distance < MAX_DISTANCE)], minlength=len(planes) + 1
        )
        usual = np.median(volumes[volumes > 0]) if (volumes > 0).any() else 0
        full = np.flatnonzero(volumes >= max(_MIN_VOLUME_SHARE * usual, 1))
        empty = [s for s in range(1, len(planes)) if s not in full and len(full) and full[0] < s < full[-1]]
        if not empty:
            return segments, planes
        pair = planes[empty[0] - 1 : empty[0] + 1]
        planes = [plane for plane in planes if plane is not min(pair, key=lambda p: p.disc_share)]


def _first_and_last_body(segments: Array, kinds: Array, coordinates: CurveCoordinates) -> tuple[int, int]:
    """Return the first and the last segment that hold a vertebral body; (1, 0) when there is none."""
    count = int(segments.max()) + 1 if len(segments) else 0
    # the sacrum's wings reach up beside a vertebra
    near = (np.abs(coordinates.lateral) < _MIDLINE) & (coordinates.distance < MAX_DISTANCE)
    volumes = np.bincount(segments[near & (kinds == BODY)], minlength=count)
    sacral = np.bincount(segments[near & (kinds == SACRUM)], minlength=count)
    usual = np.median(volumes[volumes > 0]) if (volumes > 0).any() else 0
    certain = volumes > _CERTAIN_VOLUME_SHARE * usual  # the lowest vertebra may hang on the sacrum without a disc
    real = np.flatnonzero((volumes > max(_MIN_VOLUME_SHARE * usual, 1)) & (certain | (volumes > 2 * sacral)))
    return (int(real[0]), int(real[-1])) if len(real) else (1, 0)


def assign_whole_components(numbers: Array) -> Array:
    """Give components that lie almost completely in one segment its number throughout; the others stay cut.

    numbers: (slices, A, S) uint8, the segment of each voxel, 0 for none. Specks are removed.
    """
    components = connected_components(numbers > 0)
    if not components.count:
        return numbers
    inside = np.nonzero(components.numbers)
    component, number = components.numbers[inside], numbers[inside].astype(np.intp)
    kinds = int(number.max()) + 1
    votes = np.bincount(component * kinds + number, minlength=(components.count + 1) * kinds).reshape(-1, kinds)
    sizes, top, most = votes.sum(axis=1), votes.argmax(axis=1), votes.max(axis=1)
    largest = np.zeros(kinds, int)
    np.maximum.at(largest, top, sizes)
    specks = sizes < _SPECK_SHARE * largest[top]
    complete = most >= _WHOLE_COMPONENT_SHARE * np.maximum(sizes, 1)
    out = np.zeros(numbers.shape, np.uint8)
    out[inside] = np.where(specks[component], 0, np.where(complete[component], top[component], number))
    return out


def select_cluster(mask: Array, voxel: Array, spacing: Array) -> Array:
    """Select the cluster of a mask that is largest and nearest to a voxel; its components lie a few pixels apart.

    voxel: (3,) index; nan when it is unknown, then the largest cluster is selected.
    """
    voxels = np.nonzero(mask)
    if not len(voxels[0]):
        return mask
    size = (3 if len(mask) > 1 else 1, _CLUSTER_GAP, _CLUSTER_GAP)
    clusters = connected_components(scipy.ndimage.maximum_filter(mask, size)).numbers
    cluster = clusters[voxels]
    nearest = np.full(int(cluster.max()) + 1, np.inf)
    distance = np.linalg.norm((np.stack(voxels, axis=1) - voxel) * spacing, axis=1)
    np.minimum.at(nearest, cluster, np.where(np.isfinite(distance), distance, 1.0))
    return mask & (clusters == (np.bincount(cluster) / nearest**2).argmax())


def select_canal(mask: Array, centerline: Centerline, spacing: Array) -> Array:
    """Select the voxels of a mask that lie where a canal can lie: behind the centerline, not far to its sides."""
    voxels = np.nonzero(mask)
    coordinates = centerline.curve_coordinates(np.stack(voxels, axis=1), spacing)
    out = np.zeros_like(mask)
    out[voxels] = (
        (coordinates.anterior < 0)
        & (coordinates.anterior > -_CANAL_RANGE[0])
        & (np.abs(coordinates.lateral) < _CANAL_RANGE[1])
    )
    return out


def instance_centers(numbers: Array, count: int) -> Array:
    """Return the center of each of the instances 1..count, (count, 3) voxels; nan for one without voxels."""
    voxels = np.nonzero(numbers)
    number = numbers[voxels]
    size = np.bincount(number, minlength=count + 1)[1 : count + 1].astype(float)
    size[size == 0] = np.nan
    return np.stack([np.bincount(number, axis, minlength=count + 1)[1 : count + 1] / size for axis in voxels], axis=1)


def _body_positions(bodies: Array, count: int, centerline: Centerline, spacing: Array) -> tuple[float, ...]:
    """Return the position of each body's center along the centerline, mm; a missing one lies between its neighbours."""
    centers = instance_centers(bodies, count)
    present = np.flatnonzero(np.isfinite(centers[:, 0]))
    along = centerline.curve_coordinates(centers[present], spacing).along
    return tuple(np.interp(np.arange(count), present, along).tolist())


def assign_arches(mask: Array, positions: tuple[float, ...], centerline: Centerline, spacing: Array) -> Array:
    """Assign posterior elements to bodies, component by component in each slice.

    The further behind the centerline a component lies, the lower it hangs: pedicles stand on the upper half of their
    body, spinous processes reach the disc below. A component that spans two levels is cut along the centerline.

    Returns
    -------
    (slices, A, S) uint8, the number of the body of each voxel
    """
    out = np.zeros(mask.shape, np.uint8)
    components = connected_components(mask, "sagittal")
    if not components.count:
        return out
    voxels = np.argwhere(mask)
    coordinates = centerline.curve_coordinates(voxels, spacing)
    component = components.numbers[tuple(voxels.T)]
    pitch = float(np.median(np.diff(positions))) if len(positions) > 1 else _DEFAULT_PITCH
    level = coordinates.along + pitch * np.clip((coordinates.distance - _PEDICLE_DISTANCE) * _DROP_PER_MM, 0, 0.5)
    size = np.maximum(components.sizes, 1)
    mean = np.bincount(component, level) / size
    spread = np.sqrt(np.bincount(component, (level - mean[component]) ** 2) / size)
    position = np.where(spread[component] < 0.36 * pitch, mean[component], level)
    nearest = np.abs(position[:, None] - np.array(positions)).argmin(axis=1)
    fits = np.abs(position - np.array(positions)[nearest]) < 0.8 * pitch
    out[tuple(voxels.T)] = np.where(fits, nearest + 1, 0)
    return out
