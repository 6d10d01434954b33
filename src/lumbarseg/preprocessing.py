"""The contract between an exam and the network, both ways.

The network reads sagittal slices: axes (slice to the left or right, anterior, up), one millimetre in plane, slices as
they were acquired or averaged to slabs when they are thin. `Spec` says so and is stored in the model file; training,
inference, MONAI Label and the web page all read it. Labels come back on exactly the exam's own grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.clicks import ClickGaussian
from lumbarseg.errors import ModelError, SegmentError
from lumbarseg.resampling import apply_matrices, interpolation_matrix, reorient, reorient_grid
from lumbarseg.volume import Array, Grid, Volume

_CHUNK_VOXELS = 2**24  # voxels that are interpolated at a time; routine exams have fewer


@dataclass(frozen=True)
class Normalisation:
    """How intensities become comparable; percentiles in percent, `local` in mm.

    The image is cut at two percentiles, divided by (local mean + floor x global mean) ** power, which takes most of a
    surface coil's shading away and keeps contrasts, and scaled by its `top` percentile.
    """

    low: float = 0.5
    high: float = 99.7
    local: float = 22.0
    floor: float = 0.35
    power: float = 0.7
    top: float = 99.0
    limit: float = 1.5


@dataclass(frozen=True)
class PreprocessingSpec:
    """What the network reads. pixel and slab: mm; neighbours: slices on either side; multiple: of the in-plane size.

    clicks: how a person's clicks look to a network that reads them, None for one that does not. tile: pixels of the
    squares that a network of one size reads, 0 for one that reads any multiple; depth: slices of the blocks of squares
    that a 3-D network reads at once, 0 for one that reads a slice with its neighbours.
    """

    axes: str = "RAS"
    pixel: float = 1.0
    slab: float = 2.0  # thinner slices are averaged to this: at 4 mm arches blurred, and lost 0.02 of Dice
    neighbours: int = 2
    multiple: int = 32
    normalisation: Normalisation = field(default_factory=Normalisation)
    clicks: ClickGaussian | None = None
    tile: int = 0
    depth: int = 0

    @property
    def inputs(self) -> int:
        """Channels of a window: a slice with its neighbours, then one per class for clicks; one of a block."""
        if self.depth:
            return 1
        return 2 * self.neighbours + 1 + (len(CLASSES) if self.clicks else 0)

    def to_dict(self) -> dict[str, Any]:
        """The specification as plain values for JSON; what it does not use is left out, as before it was known."""
        return {name: value for name, value in asdict(self).items() if value or name not in ("clicks", "tile", "depth")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PreprocessingSpec:
        """The inverse of `to_dict`; ModelError on anything missing, unknown or of the wrong type."""
        try:
            inner = Normalisation(**{name: float(v) for name, v in values["normalisation"].items()})
            blob = ClickGaussian(**values["clicks"]) if values.get("clicks") is not None else None
            spec = cls(**{**values, "normalisation": inner, "clicks": blob})
            numbers = (spec.pixel, spec.slab, *asdict(inner).values())
            usable = all(isinstance(n, float) and np.isfinite(n) and n > 0 for n in numbers)
            sizes = (spec.neighbours, spec.multiple, spec.depth)
            if type(spec.tile) is not int or not 0 <= spec.tile <= 1024 or (spec.tile == 0 and spec.depth != 0):
                raise ValueError(f"tile {spec.tile!r} of depth {spec.depth!r}")
            if spec.tile and spec.clicks:
                raise ValueError("clicks with tiles")
            if not usable or not all(isinstance(n, int) and 0 <= n <= 64 for n in sizes) or spec.multiple < 1:
                raise ValueError("a number is out of range")
            if spec.axes not in ("RAS", "LAS", "RPS", "RAI", "LPS", "LAI", "RPI", "LPI"):
                raise ValueError(f"axes {spec.axes!r}")
            return spec
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"the model's preparation specification is malformed: {error}") from error


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """array: (slices, A, S) float32 about 0..1, as the network reads it; grid: its place; source: the exam's grid."""

    array: Array
    grid: Grid
    source_grid: Grid
    spec: PreprocessingSpec


@dataclass(frozen=True)
class _AxisSampling:
    """Target voxel t of `count` lies at source voxel start + step * t."""

    source_count: int
    count: int
    step: float
    start: float

    def matrix(self) -> Array | None:
        """Matrix (count, source), None for the identity."""
        if self.step == 1 and self.count == self.source_count:
            return None
        return interpolation_matrix(self.source_count, self.count, self.step, self.start, width=self.step)


def _axis_sampling(source: int, spacing: float, target: float) -> _AxisSampling:
    """An axis of `source` voxels at `spacing` mm, covered by voxels of `target` mm about the same centre."""
    if abs(spacing / target - 1) < 0.01:
        return _AxisSampling(source, source, 1.0, 0.0)
    step = target / spacing
    count = max(1, round(source / step))
    return _AxisSampling(source, count, step, (source - 1) / 2 - step * (count - 1) / 2)


def _sampling_plan(canonical: Grid, spec: PreprocessingSpec) -> tuple[_AxisSampling, _AxisSampling, _AxisSampling]:
    thickness = canonical.spacing[0]
    group = max(1, round(spec.slab / thickness))
    return (
        _axis_sampling(canonical.shape[0], thickness, thickness * group),
        _axis_sampling(canonical.shape[1], canonical.spacing[1], spec.pixel),
        _axis_sampling(canonical.shape[2], canonical.spacing[2], spec.pixel),
    )


def network_grid(source_grid: Grid, spec: PreprocessingSpec) -> Grid:
    """The grid on which the network sees an exam."""
    canonical = reorient_grid(source_grid, spec.axes)
    plan = _sampling_plan(canonical, spec)
    affine = canonical.affine.copy()
    affine[:3, 3] = canonical.to_world(np.array([axis.start for axis in plan]))
    affine[:3, :3] = canonical.affine[:3, :3] * np.array([axis.step for axis in plan])
    return Grid((plan[0].count, plan[1].count, plan[2].count), affine)


def normalise_intensity(array: Array, spec: PreprocessingSpec) -> Array:
    """array: (slices, A, S) any scale, at `spec.pixel` mm, to float32 in 0..limit. SegmentError when it is constant."""
    n = spec.normalisation
    low, high = np.percentile(array, [n.low, n.high])
    if not high - low > 1e-5 * max(abs(low), abs(high)):  # resampling a constant image leaves rounding behind
        raise SegmentError("the image is constant: nothing to see in it")
    image = np.clip((array - low) / (high - low), 0, 1).astype(np.float32)
    blurs = [_gaussian_matrix(size, n.local / spec.pixel) for size in image.shape[1:]]
    local = apply_matrices(image, (_gaussian_matrix(len(image), 1.0), blurs[0], blurs[1]))
    image = image / (local + n.floor * image.mean()) ** n.power
    return np.clip(image / max(float(np.percentile(image, n.top)), 1e-6), 0, n.limit)


def _gaussian_matrix(size: int, sigma: float) -> Array:
    """Gaussian smoothing of an axis as a (size, size) matrix; at the border only what lies inside counts."""
    offsets = np.arange(size)[:, None] - np.arange(size)[None]
    matrix = np.exp(-0.5 * (offsets / sigma) ** 2)
    return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)


def preprocess(volume: Volume, spec: PreprocessingSpec) -> PreparedImage:
    """An exam as the network reads it; its grid must be RAS+ truth, as `files` gives it."""
    canonical = reorient(volume, spec.axes)
    plan = _sampling_plan(canonical.grid, spec)
    array = apply_matrices(canonical.array, (plan[0].matrix(), plan[1].matrix(), plan[2].matrix()))
    return PreparedImage(normalise_intensity(array, spec), network_grid(volume.grid, spec), volume.grid, spec)


def extract_windows(
    array: Array, spec: PreprocessingSpec, click_channels: Array | None = None, slices: Sequence[int] | None = None
) -> Array:
    """(slices, A, S) to (slices, inputs, A', S'): each slice with its neighbours, outer slices repeated, then clicks.

    clicks: (classes, slices, A, S) for a network that reads them, None for none; slices: the chosen ones, None for all.
    A' and S' are padded at their ends to a multiple that the network needs, with edge values.
    """
    count, rows, columns = array.shape
    chosen = np.arange(count) if slices is None else np.asarray(slices)
    seen = 2 * spec.neighbours + 1
    out = np.zeros((len(chosen), spec.inputs, *(size + -size % spec.multiple for size in (rows, columns))), np.float32)
    for place in range(seen):
        out[:, place, :rows, :columns] = array[np.clip(chosen + place - spec.neighbours, 0, count - 1)]
    out[:, :seen, rows:, :columns] = out[:, :seen, rows - 1 : rows, :columns]
    out[:, :seen, :, columns:] = out[:, :seen, :, columns - 1 : columns]
    if click_channels is not None and spec.clicks is not None:
        out[:, seen:, :rows, :columns] = click_channels[:, chosen].swapaxes(0, 1)
    return out


def classes_on_source_grid(
    probabilities: Array, prepared: PreparedImage, changed: Array | None = None, previous: Array | None = None
) -> Array:
    """scores: (C, slices, A, S) on the network's grid to (I, J, K) uint8, the best class on the exam's own grid.

    Every class is interpolated linearly and compared with the best so far, inside the box where any class but the
    first (background) is best on the network's grid: memory and time go with the spine, not with the exam. Of a fine
    isotropic exam a few slices are interpolated at a time. where: (slices, A, S) bool, whose box is done instead;
    before: (I, J, K), what all else is.
    """
    plan = _sampling_plan(reorient_grid(prepared.source_grid, prepared.spec.axes), prepared.spec)
    out = np.zeros(prepared.source_grid.shape, np.uint8) if previous is None else previous.copy()
    wanted: Array = probabilities[1:].max(axis=0) > probabilities[0] if changed is None else changed
    if wanted.any():
        boxes, sources, matrices = zip(*(_sampling_in_box(wanted, n, axis) for n, axis in enumerate(plan)), strict=True)
        inside = reorient(Volume(out, prepared.source_grid.affine), prepared.spec.axes).array[sources]  # a view
        slab = max(1, _CHUNK_VOXELS // int(np.prod(inside.shape[1:])))
        for first in range(0, len(inside), slab):
            some = slice(first, first + slab)
            turned = (matrices[0][some], matrices[1], matrices[2])
            inside[some] = argmax_classes(
                apply_matrices(score, turned) for score in probabilities[(slice(None), *boxes)]
            )
    return out


def argmax_classes(class_scores: Iterable[Array]) -> Array:
    """The class of each voxel, uint8, from one array of scores per class; the first of those that are equal.

    The same as argmax over the first axis, several times as fast, and one class at a time where memory is short.
    """
    classes = iter(class_scores)
    top = np.array(next(classes))
    best = np.zeros(top.shape, np.uint8)
    for number, score in enumerate(classes, start=1):
        np.putmask(best, score > top, number)
        np.maximum(top, score, out=top)
    return best


def _sampling_in_box(wanted: Array, dimension: int, axis: _AxisSampling) -> tuple[slice, slice, Array]:
    """Along one axis: the box of what is wanted with a margin, the source voxels inside it, their weights."""
    occupied = np.flatnonzero(wanted.any(axis=tuple(d for d in range(3) if d != dimension)))
    low, high = max(0, int(occupied[0]) - 2), min(axis.count, int(occupied[-1]) + 3)
    places = (np.arange(axis.source_count) - axis.start) / axis.step
    first = 0 if low == 0 else int(np.searchsorted(places, low))
    last = axis.source_count if high == axis.count else int(np.searchsorted(places, high - 1, side="right"))
    return (
        slice(low, high),
        slice(first, last),
        interpolation_matrix(high - low, last - first, 1 / axis.step, float(places[first]) - low),
    )


def labels_on_source_grid(labels: Array, prepared: PreparedImage) -> Array:
    """labels: (slices, A, S) on the network's grid to (I, J, K) on the exam's own grid, nearest voxel, no new value."""
    order, flips = _network_axes_of_source(prepared)
    inside = labels[np.ix_(*_nearest_indices(prepared))].transpose(order)
    return np.ascontiguousarray(inside[tuple(slice(None, None, flip) for flip in flips)])


def nearest_network_voxels(voxels: Sequence[Array], prepared: PreparedImage) -> tuple[Array, ...]:
    """voxels: indices (n,) along I, J and K of the exam's own grid; those of the nearest along the network's axes."""
    order, flips = _network_axes_of_source(prepared)
    inside = _nearest_indices(prepared)
    there = {axis: inside[axis][::flip][along] for axis, flip, along in zip(order, flips, voxels, strict=True)}
    return tuple(there[axis] for axis in range(3))


def _nearest_indices(prepared: PreparedImage) -> list[Array]:
    """For each axis of the network, the index there that lies nearest to each source voxel, in the network's order."""
    plan = _sampling_plan(reorient_grid(prepared.source_grid, prepared.spec.axes), prepared.spec)
    return [
        np.clip(np.rint((np.arange(axis.source_count) - axis.start) / axis.step), 0, axis.count - 1).astype(int)
        for axis in plan
    ]


def _network_axes_of_source(prepared: PreparedImage) -> tuple[list[int], list[int]]:
    """For each of the exam's own axes, the network's axis that it is, and -1 where they run against each other."""
    canonical, source = reorient_grid(prepared.source_grid, prepared.spec.axes), prepared.source_grid
    cosines = (canonical.affine[:3, :3] / canonical.spacing).T @ (source.affine[:3, :3] / source.spacing)
    order = [int(np.argmax(np.abs(cosines[:, axis]))) for axis in range(3)]  # 1 for an axis and itself, less for others
    return order, [-1 if cosines[order[axis], axis] < 0 else 1 for axis in range(3)]
