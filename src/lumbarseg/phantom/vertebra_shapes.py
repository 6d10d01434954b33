"""Real vertebrae as shapes for phantoms: read from meshes, and looked up in the frame of a phantom's vertebra.

A shape is a signed distance field in its own frame: mm, origin at the centre of the body, x right, y anterior, z up
along the body's axis. A phantom's vertebra of other dimensions looks the field up at warped positions: the body is
scaled to its width, depth and endplates, the posterior elements to the depth of its canal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from lumbarseg.anatomy import LEVELS
from lumbarseg.errors import FileError

from .spine import Body

Array = np.ndarray

PITCH = 0.8  # mm between the samples of a distance field: half of the thinnest lamina's wall
_SMOOTHING = 0.8  # mm, standard deviation: takes the steps of the voxelised surface away


@dataclass(frozen=True, eq=False)
class VertebraShape:
    """A vertebra as a signed distance field, and the dimensions that place it.

    distance: (X, Y, Z) float32 mm, negative inside; origin: (3,) mm of its first sample; width, depth: of the body in
    its middle, mm; back: y of the body's back wall, mm; front_height, back_height: between the endplates, mm;
    canal_depth: from the back wall to the laminae in the midline, mm.
    """

    source: str
    level: str
    distance: Array
    origin: Array
    width: float
    depth: float
    back: float
    front_height: float
    back_height: float
    canal_depth: float

    def sample(self, x: Array, y: Array, z: Array) -> Array:
        """Return the signed distance at positions in the shape's frame, mm; linear, 20 mm outside of the field."""
        indices = np.stack([(c - o) / PITCH for c, o in zip((x, y, z), self.origin, strict=True)])
        return ndimage.map_coordinates(self.distance, indices, order=1, mode="constant", cval=20.0, prefilter=False)

    def warped_distance(
        self, body: Body, canal_depth: float, warp: Warp, position: tuple[Array, Array, Array]
    ) -> Array:
        """Return the distance field at positions (lateral, anterior, up) in the frame of a phantom's body.

        canal_depth: half the depth of the phantom's canal, mm. The result is in mm of the shape, which is near enough
        to mm of the phantom for the thickness of cortical bone.
        """
        x, a, u = position
        behind = np.maximum(-(a + body.depth), 0.0)  # mm behind the back wall
        canal_scale = np.clip(self.canal_depth / (2.3 * canal_depth), 0.75, 1.35) / warp.length
        within = np.clip(a, -body.depth, None)
        y = self.back + (within + body.depth) * (self.depth / (2 * body.depth)) - behind * canal_scale
        share = np.clip(within / body.depth, -1, 1) / 2 + 0.5  # 0 at the back wall, 1 in front
        own = (self.back_height + (self.front_height - self.back_height) * share) / 2
        target = np.maximum(body.height + body.wedge * np.clip(within, -body.depth, body.depth), 4.0)
        x = (x - warp.deviation * np.clip(behind / 50, 0, 1)) / np.where(x < 0, warp.left, warp.right)
        outside = np.maximum(np.abs(x) - 1.3 * body.width, 0)  # the transverse processes
        x = np.sign(x) * (np.minimum(np.abs(x), 1.3 * body.width) + outside / warp.transverse)
        return self.sample(x * (self.width / (2 * body.width)), y, (u + warp.tilt * behind) * (own / target))


@dataclass(frozen=True)
class Warp:
    """How one vertebra differs from its shape. left, right: widths of its sides; deviation: of the spinous process to
    the right, mm; length, transverse: of the spinous and the transverse processes, shares; tilt: of the posterior
    elements downward, slope.
    """

    left: float
    right: float
    deviation: float
    length: float
    transverse: float
    tilt: float


@dataclass(frozen=True)
class ShapeChoice:
    """The shapes of one phantom. sources, weights: which are blended, and how much of each; warps: one per body."""

    sources: tuple[str, ...]
    weights: tuple[float, ...]
    warps: tuple[Warp, ...]


def choice_from_dict(values: dict[str, Any]) -> ShapeChoice:
    """Return a choice from the values of a recipe, tuples already restored."""
    return ShapeChoice(**{**values, "warps": tuple(Warp(**warp) for warp in values["warps"])})


def sample_shapes(rng: Generator, sources: Sequence[str], count: int) -> ShapeChoice:
    """Sample one or two sources with their weights, and a warp for each of `count` bodies."""
    selected = tuple(
        str(s) for s in rng.choice(sorted(sources), min(len(sources), int(rng.integers(1, 3))), replace=False)
    )
    first = float(rng.uniform(0.2, 0.8)) if len(selected) == 2 else 1.0
    side, length, transverse, tilt = rng.normal(0, 0.04), *rng.normal(1, 0.1, 2), rng.normal(0, 0.06)
    warps = tuple(
        Warp(
            left=float(np.clip(1 - side + rng.normal(0, 0.02), 0.85, 1.15)),
            right=float(np.clip(1 + side + rng.normal(0, 0.02), 0.85, 1.15)),
            deviation=float(rng.normal(0, 2.0)),
            length=float(np.clip(length + rng.normal(0, 0.05), 0.75, 1.3)),
            transverse=float(np.clip(transverse + rng.normal(0, 0.08), 0.7, 1.4)),
            tilt=float(np.clip(tilt + rng.normal(0, 0.04), -0.15, 0.2)),
        )
        for _ in range(count)
    )
    return ShapeChoice(selected, (first, 1 - first)[: len(selected)], warps)


@dataclass(frozen=True, eq=False)
class ShapeLibrary:
    """All shapes of a folder: by source, then by level."""

    shapes: Mapping[str, Mapping[str, VertebraShape]]

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the names of the sources that the shapes come from, sorted."""
        return tuple(sorted(self.shapes))

    def distance(
        self, choice: ShapeChoice, index: int, body: Body, canal_depth: float, position: tuple[Array, Array, Array]
    ) -> Array:
        """Return the blended distance field of body `index` of a phantom, mm; see `VertebraShape.warped_distance`."""
        fields = [
            weight * self.nearest(source, body.level).warped_distance(body, canal_depth, choice.warps[index], position)
            for source, weight in zip(choice.sources, choice.weights, strict=True)
        ]
        return np.sum(fields, axis=0)

    def nearest(self, source: str, level: str) -> VertebraShape:
        """Return a source's shape of a level, or of the nearest level that it has."""
        levels = self.shapes[source]
        rank = LEVELS.index(level)
        return levels[min(levels, key=lambda name: (abs(LEVELS.index(name) - rank), name))]


def shape_from_mask(inside: Array, origin: Array, level: str, source: str, name: str) -> VertebraShape:
    """Return a shape from a filled mask of one vertebra in its own frame.

    Parameters
    ----------
    inside : (X, Y, Z) bool, samples `PITCH` apart
    origin : (3,) mm, position of the first sample
    name : how an error calls it
    """
    outer = ndimage.distance_transform_edt(~inside, sampling=PITCH)
    inner = ndimage.distance_transform_edt(inside, sampling=PITCH)
    distance = ndimage.gaussian_filter((outer - inner).astype(np.float32), _SMOOTHING / PITCH)
    x, y, z = _extents(distance, origin)
    if min(np.ptp(x), np.ptp(y), np.ptp(z)) < 10 or -distance.min() < 5 or abs(sum(y)) > np.ptp(y) * 0.4:
        raise FileError(
            f"{name}: its origin is not the centre of the body; move the mesh so that it is, with x right, y anterior "
            "and z up along the body's axis"
        )
    heights = [_height(distance, origin, y[0] + share * np.ptp(y)) for share in (0.15, 0.85)]
    slope = (heights[1] - heights[0]) / 0.7
    laminae = _lamina_position(distance, origin, y[0])
    if laminae is None:
        raise FileError(f"{name}: nothing lies behind the body; is y anterior, and are the posterior elements there?")
    return VertebraShape(
        source=source,
        level=level,
        distance=distance,
        origin=np.asarray(origin, float),
        width=_rim_extent(distance, origin, 0),
        depth=float(np.ptp(y)),
        back=float(y[0]),
        front_height=heights[1] + 0.15 * slope,
        back_height=heights[0] - 0.15 * slope,
        canal_depth=float(y[0] - laminae),
    )


def _run_about(values: Array, start: int) -> tuple[int, int]:
    """Return the first and last index of the run of negative values about `start`; (start, start) without one."""
    negative = values < 0
    if not negative[start]:
        return start, start
    first = start - int(np.argmin(negative[start::-1])) + 1 if not negative[: start + 1].all() else 0
    last = start + int(np.argmin(negative[start:])) - 1 if not negative[start:].all() else len(values) - 1
    return first, last


def _index(origin: Array, axis: int, value: float, count: int) -> int:
    return int(np.clip(round((value - origin[axis]) / PITCH), 0, count - 1))


def _extents(distance: Array, origin: Array) -> tuple[tuple[float, float], ...]:
    """Return where the axes through the origin leave the body: (low, high) mm per axis."""
    centre = [_index(origin, axis, 0.0, distance.shape[axis]) for axis in range(3)]
    loaded = []
    for axis in range(3):
        line = distance[tuple(slice(None) if a == axis else centre[a] for a in range(3))]
        first, last = _run_about(line, centre[axis])
        loaded.append((float(origin[axis] + first * PITCH), float(origin[axis] + last * PITCH)))
    return tuple(loaded)


def _rim_extent(distance: Array, origin: Array, axis: int) -> float:
    """Return the largest extent of the body along x or y through its axis at any height, mm: that of its rims."""
    centre = [_index(origin, a, 0.0, distance.shape[a]) for a in range(3)]
    plane = distance[:, centre[1]] if axis == 0 else distance[centre[0]]
    low, high = _run_about(plane[centre[axis]], centre[2])
    runs = [_run_about(plane[:, k], centre[axis]) for k in range(low, high + 1)]
    return float(max(last - first for first, last in runs) * PITCH)


def _height(distance: Array, origin: Array, y: float) -> float:
    """Return the height of the body in the midline at `y`, mm."""
    i, k = (_index(origin, axis, 0.0, distance.shape[axis]) for axis in (0, 2))
    first, last = _run_about(distance[i, _index(origin, 1, y, distance.shape[1])], k)
    return (last - first) * PITCH


def _lamina_position(distance: Array, origin: Array, back: float) -> float | None:
    """Return y of the first bone behind the canal in the midline, at any height of the vertebra; None without any."""
    i = _index(origin, 0, 0.0, distance.shape[0])
    behind = distance[i, : _index(origin, 1, back - 6.0, distance.shape[1])] < 0  # (y, z)
    rows = np.flatnonzero(behind.any(axis=1))
    return float(origin[1] + rows[-1] * PITCH) if len(rows) else None
