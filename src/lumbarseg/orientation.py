"""Orientation of an exam, estimated from its anatomy alone: whether axes point where the header says.

Each cue gives evidence, positive when the header is right and negative when it is reversed. Labels (the canal lies
behind the bodies) weigh more than shapes (a body is round in front and flat behind), and these more than grey values.
The scales were determined on phantoms. Left and right look the same and cannot be distinguished.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import Polynomial

from lumbarseg.anatomy import Kind, kinds_from_names, structure_by_name
from lumbarseg.components import connected_components, label_boxes
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

LabelTable = Mapping[int, tuple[str, ...]]

MIN_EVIDENCE = 1.5
"""Evidence below which nothing is claimed of annotated labels."""
MIN_PREDICTION_EVIDENCE = 3.0
"""Evidence below which nothing is claimed of labels that a network predicted: in 1 of 208 real exams it was wrong."""

_LABEL_EVIDENCE = 6.0  # of a label that leaves no doubt
_MIN_VOLUME = 2000.0  # mm3 of canal or sacrum in view: less is less evidence
_MIN_AREA_RATIO = 0.9  # of the axial area of the bodies next to the sacrum to that of the bodies furthest from it
_WHOLE_VERTEBRA = frozenset({Kind.BODY, Kind.ARCH})
_FULL_ROW_FRACTION = 0.6  # of the usual size of a row: less is the end of a body, or a gap between two
_MIDLINE_MARGIN = 7.0  # mm to either side of the middle of the column
_PROFILE_DISTANCES = np.arange(2.0, 47.0)  # mm from the edge of the bodies, where grey values are compared
_CANAL_DEPTH = 22  # mm of these in which the canal lies


@dataclass(frozen=True)
class OrientationEstimate:
    """Whether axes point where the header says: +1 as it says, -1 reversed, 0 uncertain; reasons: all evidence."""

    anterior_posterior: int
    superior_inferior: int
    reasons: tuple[str, ...]

    @property
    def flips(self) -> tuple[bool, bool]:
        """Return whether the anterior and the superior axis are reversed."""
        return self.anterior_posterior < 0, self.superior_inferior < 0


@dataclass(frozen=True, eq=False)
class _Component:
    """One vertebra or disc.

    Attributes
    ----------
    points : (n, 3) mm (right, anterior, superior)
    voxel : mm3
    order : from head to foot, where the label table names the structure
    is_complete : it does not touch the upper or lower end of the image
    """

    points: Array
    voxel: float
    kinds: frozenset[Kind]
    order: int | None
    is_complete: bool


@dataclass(frozen=True, eq=False)
class _Column:
    """Bodies and discs, or one of both, about a smooth curve through them.

    Attributes
    ----------
    points : (n, 3) mm (right, anterior, superior)
    rows : (n,) voxel row of each point
    anterior, lateral : position of the curve, mm, at a height, mm
    curvature : mm by which the middle of the curve lies anterior to its ends
    """

    points: Array
    rows: Array
    anterior: Polynomial
    lateral: Polynomial
    curvature: float

    @cached_property
    def anterior_offset(self) -> Array:
        """Return the distance of the points from the curve, (n,) mm."""
        return self.points[:, 1] - self.anterior(self.points[:, 2])

    @cached_property
    def lateral_offset(self) -> Array:
        """Return the distance of the points from the curve, (n,) mm."""
        return self.points[:, 0] - self.lateral(self.points[:, 2])


def estimate_orientation(
    image: Volume, labels: Volume, label_table: LabelTable, min_evidence: float = MIN_EVIDENCE
) -> OrientationEstimate:
    """Estimate whether front and back, head and feet lie as the header says.

    The first needs bodies or discs; the second also names, a sacrum, or enough levels to see them grow downward.

    Parameters
    ----------
    labels : on the image's grid
    min_evidence : below which an axis is uncertain
    """
    image, labels = reorient(image, "RAS"), reorient(labels, "RAS")
    components = _label_components(labels, label_table)
    bodies_and_discs = [c for c in components if c.kinds <= {Kind.BODY, Kind.DISC}]
    vertebrae = [c for c in components if c.kinds >= _WHOLE_VERTEBRA]
    column = _fit_column(bodies_and_discs or vertebrae, labels.grid.spacing)
    if column is None:
        return OrientationEstimate(0, 0, ("no vertebrae or discs are labelled",))
    anterior = _anterior_label_evidence(column, components)
    anterior |= {"the column's curve": 1.5 * np.tanh(column.curvature / 8)}
    if bodies_and_discs:
        anterior |= _anterior_shape_evidence(column) | _anterior_intensity_evidence(image, column)
    else:
        anterior |= {"vertebrae reach back": _process_evidence(column)}
    superior = _superior_label_evidence(column, components) | _superior_size_evidence(components)
    reasons = [f"front-back, {name}: {value:+.1f}" for name, value in anterior.items()]
    reasons += [f"head-foot, {name}: {value:+.1f}" for name, value in superior.items()]
    return OrientationEstimate(_decide(anterior, min_evidence), _decide(superior, min_evidence), tuple(reasons))


def _decide(cues: dict[str, float], min_evidence: float) -> int:
    total = sum(cues.values())
    return 0 if abs(total) < min_evidence else 1 if total > 0 else -1


def _label_components(labels: Volume, label_table: LabelTable) -> list[_Component]:
    """Return the labelled structures; a value that names only a kind is separated into connected components."""
    components = []
    spacing, height = np.array(labels.grid.spacing), labels.array.shape[2]
    boxes = label_boxes(labels.array)
    for value, names in label_table.items():
        kinds = kinds_from_names(names)
        if value not in boxes or not (len(kinds) == 1 or kinds == _WHOLE_VERTEBRA) or Kind.BACKGROUND in kinds:
            continue
        box = boxes[value]
        mask = labels.array[box] == value
        orders = [structure_by_name(name).order for name in names if name not in tuple(Kind)]
        is_single = bool(orders) or not kinds & {Kind.BODY, Kind.DISC}
        parts = [np.argwhere(mask)] if is_single else connected_components(mask).voxels()
        largest = max(map(len, parts))
        for voxels in (part + [s.start for s in box] for part in parts if len(part) >= 0.1 * largest):
            is_complete = bool(voxels[:, 2].min() > 0 and voxels[:, 2].max() < height - 1)
            components.append(
                _Component(voxels * spacing, float(np.prod(spacing)), kinds, min(orders, default=None), is_complete)
            )
    return components


def _fit_column(components: list[_Component], spacing: tuple[float, float, float]) -> _Column | None:
    """Fit a smooth curve through the components; None when they fill fewer than eight rows."""
    if not components:
        return None
    points = np.concatenate([component.points for component in components])
    rows = np.rint(points[:, 2] / spacing[2]).astype(int)
    counts = np.bincount(rows)
    full = np.flatnonzero(counts > 0.15 * np.median(counts[counts > 0]))
    if len(full) < 8:
        return None
    heights, weights = full * spacing[2], np.sqrt(counts[full])
    lateral, anterior = (np.bincount(rows, points[:, axis])[full] / counts[full] for axis in (0, 1))
    return _Column(
        points,
        rows,
        Polynomial.fit(heights, anterior, 3, w=weights),
        Polynomial.fit(heights, lateral, 2, w=weights),
        curvature=-float(Polynomial.fit(heights, anterior, 2, w=weights).coef[2]),
    )


def _anterior_label_evidence(column: _Column, components: list[_Component]) -> dict[str, float]:
    """Return evidence of other labels: canal, posterior elements and vertebrae lie behind the bodies and discs."""
    cues = {}
    low, high = column.points[:, 2].min(), column.points[:, 2].max()
    groups = {
        frozenset({Kind.CANAL}): ("canal", 5),
        frozenset({Kind.ARCH}): ("posterior elements", 5),
        _WHOLE_VERTEBRA: ("vertebrae", 25),
    }
    for kinds, (name, min_distance) in groups.items():
        points, weight = _merge_components([c for c in components if c.kinds == kinds])
        points = points[(points[:, 2] >= low) & (points[:, 2] <= high)]
        offset = points[:, 1] - column.anterior(points[:, 2])
        distant = offset[np.abs(offset) > min_distance]
        if len(distant) > 30:
            cues[f"{name} behind"] = weight * float((distant < 0).mean() - (distant > 0).mean())
    return cues


def _merge_components(components: list[_Component]) -> tuple[Array, float]:
    """Return the points of components, (n, 3) mm, and the evidence that their volume can give."""
    volume = sum(len(c.points) * c.voxel for c in components)
    points = np.concatenate([np.zeros((0, 3)), *(c.points for c in components)])
    return points, _LABEL_EVIDENCE * min(1.0, volume / _MIN_VOLUME)


def _process_evidence(column: _Column) -> float:
    """Return evidence of vertebrae without discs: thick bodies in front, thin processes far behind (skewness)."""
    offset = column.anterior_offset
    return 3 * float(np.tanh(-np.mean(offset**3) / np.mean(offset**2) ** 1.5 / 0.3))


def _anterior_shape_evidence(column: _Column) -> dict[str, float]:
    """Return evidence of shape: bodies and discs are round in front, so their sides lie behind their middle."""
    lateral = np.abs(column.lateral_offset)
    half_width = float(np.percentile(lateral, 90))
    outer = column.anterior_offset[lateral > 0.75 * half_width]
    middle = column.anterior_offset[lateral < 0.4 * half_width]
    if half_width < 10 or not len(outer) or not len(middle):  # a slab of slices does not show the sides
        return {}
    return {"round in front": 2 * float(np.tanh((middle.mean() - outer.mean()) / 0.6))}


def _anterior_intensity_evidence(image: Volume, column: _Column) -> dict[str, float]:
    """Return evidence of grey values: behind the bodies lie a tube of one grey value and more signal."""
    back, front, rows = _body_edges(column)
    if len(rows) < 20:
        return {}
    behind = _intensity_profiles(image, column, rows, back, -1)
    ahead = _intensity_profiles(image, column, rows, front, 1)
    inside = np.isfinite(behind).all(axis=0) & np.isfinite(ahead).all(axis=0)
    if inside.sum() < _CANAL_DEPTH:
        return {}
    brightness = np.log((behind[:, inside].mean() + 1e-3) / (ahead[:, inside].mean() + 1e-3))
    tube = _tube_contrast(behind[:, :_CANAL_DEPTH]) - _tube_contrast(ahead[:, :_CANAL_DEPTH])
    return {"signal of the back": 1.5 * float(np.tanh(brightness / 0.5)), "canal's tube": float(np.tanh(tube / 1.5))}


def _body_edges(column: _Column) -> tuple[Array, Array, Array]:
    """Return the smoothed back and front edge of the bodies in middle slices, mm, and the rows; empty if too few."""
    is_near = np.abs(column.lateral_offset) < _MIDLINE_MARGIN
    rows, positions = column.rows[is_near], column.points[is_near, 1]
    order = np.argsort(rows, kind="stable")
    numbers, starts = np.unique(rows[order], return_index=True)
    parts = np.split(positions[order], starts[1:])
    edges = np.array([np.percentile(part, (5, 95)) for part in parts]).reshape(-1, 2)
    depth = edges[:, 1] - edges[:, 0]
    full = depth > _FULL_ROW_FRACTION * np.median(depth) if len(depth) else np.zeros(0, bool)
    if full.sum() < 20:
        return np.zeros(0), np.zeros(0), np.zeros(0, int)
    every_row = np.arange(numbers[0], numbers[-1] + 1)
    back, front = (Polynomial.fit(numbers[full], edges[full, side], 4)(every_row) for side in (0, 1))
    return back, front, every_row


def _intensity_profiles(image: Volume, column: _Column, rows: Array, edge: Array, sign: int) -> Array:
    """Return grey values (rows, distances) outward from an edge, averaged over middle slices; nan outside the image."""
    spacing, shape = np.array(image.grid.spacing), image.array.shape
    lateral = column.lateral(rows * spacing[2])
    offsets = (-4.0, 0.0, 4.0) if shape[0] > 1 else (0.0,)
    j = np.rint((edge[:, None] + sign * _PROFILE_DISTANCES) / spacing[1]).astype(int)
    total = np.zeros(j.shape)
    for offset in offsets:
        i = np.clip(np.rint((lateral + offset) / spacing[0]).astype(int), 0, shape[0] - 1)
        total += image.array[i[:, None], np.clip(j, 0, shape[1] - 1), rows[:, None]]
    return np.where((j >= 0) & (j < shape[1]), total / len(offsets), np.nan)


def _tube_contrast(profiles: Array) -> float:
    """Return the log ratio of the variance of grey values across the tube to that along it."""
    across, along = np.var(profiles.mean(axis=0)), np.mean(np.var(profiles, axis=0))
    return float(np.log((across + 1e-6) / (along + 1e-6)))


def _superior_label_evidence(column: _Column, components: list[_Component]) -> dict[str, float]:
    """Return evidence of names, which run from head to foot, and of the sacrum, which ends the column below."""
    cues = {}
    sacrum = structure_by_name(Kind.SACRUM.value).order
    named_heights = [(c.order, c.points[:, 2].mean()) for c in components if c.kinds != {Kind.CANAL}]
    named_heights = [(order, height) for order, height in named_heights if order not in (None, sacrum)]
    if len({order for order, _ in named_heights}) > 1:
        orders, heights = np.array(named_heights, float).T
        first, second = np.triu_indices(len(named_heights), 1)
        agreement = np.sign((orders[second] - orders[first]) * (heights[first] - heights[second]))
        cues["names in order"] = _LABEL_EVIDENCE * float(agreement[agreement != 0].mean())
    points, weight = _merge_components([c for c in components if c.kinds == {Kind.SACRUM}])
    if len(points):
        is_below = points[:, 2] < np.median(column.points[:, 2])
        evidence = weight * float(2 * is_below.mean() - 1)
        if evidence > 0 or not _are_upper_bodies_smaller(components):
            cues["sacrum below"] = evidence
    return cues


def _are_upper_bodies_smaller(components: list[_Component]) -> bool:
    """Return whether bodies shrink upward: what looks like a sacrum above such a column is a thoracic vertebra."""
    bodies = [c for c in components if c.kinds == {Kind.BODY}]
    if not bodies:
        return False
    _, areas = np.unique(np.concatenate([c.points[:, 2] for c in bodies]), return_counts=True)
    areas = areas[areas > 0.5 * np.median(areas)]  # not those at the height of discs
    third = max(1, len(areas) // 3)
    return bool(np.median(areas[-third:]) <= _MIN_AREA_RATIO * np.median(areas[:third]))


def _superior_size_evidence(components: list[_Component]) -> dict[str, float]:
    """Return evidence of sizes: vertebrae grow, and stand further apart, from head to foot."""
    groups = [[c for c in components if c.kinds == kinds] for kinds in ({Kind.BODY}, {Kind.DISC}, _WHOLE_VERTEBRA)]
    min_share = _FULL_ROW_FRACTION / 2
    groups = [[c for c in group if len(c.points) > min_share * max(len(o.points) for o in group)] for group in groups]
    levels = next((group for group in groups if len(group) > 3), [])
    centers = np.array(sorted((c.points.mean(axis=0) for c in levels), key=lambda m: m[2])).reshape(-1, 3)
    steps = np.linalg.norm(np.diff(centers[:, 1:], axis=0), axis=1)
    cues = {}
    if len(steps) > 2 and steps.max() < 1.8 * np.median(steps):
        growth = -_relative_growth((centers[1:, 2] + centers[:-1, 2]) / 2, steps)
        cues["levels further apart below"] = 2 * float(np.tanh(growth / 0.1))
    bodies = [c for c in groups[0] if c.is_complete]
    if len(bodies) > 2:
        heights = np.array([c.points[:, 2].mean() for c in bodies])
        growth = -_relative_growth(heights, np.array([len(c.points) for c in bodies]))
        cues["bodies larger below"] = 1.5 * float(np.tanh(growth / 0.15))
        widths = np.array([np.ptp(np.percentile(c.points[:, 0], (5, 95))) for c in bodies])
        if widths.min() > 0:
            cues["bodies broader below"] = float(np.tanh(-_relative_growth(heights, widths) / 0.12))
    return cues


def _relative_growth(heights: Array, sizes: Array) -> float:
    """Return the median relative growth of sizes per 100 mm of height (Theil-Sen estimator)."""
    first, second = np.triu_indices(len(heights), 1)
    distance = heights[second] - heights[first]
    usable = np.abs(distance) > 1
    slopes = (np.log(sizes[second]) - np.log(sizes[first]))[usable] / distance[usable]
    return float(np.median(slopes)) * 100 if len(slopes) else 0.0
