"""Preprocessing of an exam for the network, and the way back to the exam's own grid.

The network reads sagittal slices with axes (slice, anterior, superior), one millimetre in plane, slices as they were
acquired or averaged to slabs when they are thin. A `PreprocessingSpec` describes this and is stored in the model card;
training, inference, MONAI Label and the browser page all read it. Labels return on exactly the exam's own grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import ModelError, SegmentError
from lumbarseg.fill_values import replace_fill
from lumbarseg.resampling import apply_matrices, interpolation_matrix, reorient, reorient_grid
from lumbarseg.volume import Array, Grid, Volume

_CHUNK_VOXELS = 2**24  # voxels that are interpolated at a time; routine exams have fewer
_CT_AIR_VALUE = -400.0  # air in CT is -1000, the padding of some scanners still less
_CT_LUNG_RANGE = (-850.0, -250.0)  # between air and fat: lungs and bowel gas alone
_CT_MIN_TISSUE = 0.05  # of the voxels above air: less is no body
_CT_SOFT_RANGE = (-200.0, 300.0)  # fat to spongy bone
_SAGITTAL_AXES = ("RAS", "LAS", "RPS", "RAI", "LPS", "LAI", "RPI", "LPI")


@dataclass(frozen=True)
class Normalisation:
    """How intensities are made comparable.

    The image is clipped at two percentiles, divided by (local mean + floor x global mean) ** power, which removes most
    of a surface coil's shading and keeps contrasts, and scaled by a third percentile.

    Attributes
    ----------
    low, high : percentiles at which the image is clipped, percent
    local : sigma of the local mean, mm
    floor, power : of the division
    top : percentile that becomes 1, percent
    limit : largest value of the result
    """

    low: float = 0.5
    high: float = 99.7
    local: float = 22.0
    floor: float = 0.35
    power: float = 0.7
    top: float = 99.0
    limit: float = 1.5


@dataclass(frozen=True)
class ClickGaussian:
    """The Gaussian that encodes a click. sigma: mm in plane; through: sigma across slices, mm.

    With slices of 4 mm a click is clear in its own slice, weaker in the next and faint in the one after.
    """

    sigma: float = 4.0
    through: float = 5.0

    def __post_init__(self) -> None:
        numbers = (self.sigma, self.through)
        if not all(isinstance(n, float) and np.isfinite(n) and 0 < n < 100 for n in numbers):
            raise ValueError(f"a click's size {numbers} is out of range")

    @property
    def sigmas(self) -> tuple[float, float, float]:
        """Return the sigmas across slices, along A and along S, mm."""
        return self.through, self.sigma, self.sigma


@dataclass(frozen=True)
class PreprocessingSpec:
    """The network's input.

    Attributes
    ----------
    axes : axis codes, sagittal slices first
    pixel : pixel size in plane, mm
    slab : thickness to which thinner slices are averaged, mm
    neighbours : slices on either side that are read together with a slice
    multiple : of which the in-plane size must be
    normalisation : of the intensities
    clicks : how clicks are encoded, None for a network that does not accept any
    tile : pixels of the squares that a network of fixed size reads, 0 for one that reads any multiple
    depth : slices of the blocks that a 3-D network reads, 0 for a network that reads a slice with its neighbours
    """

    axes: str = "RAS"
    pixel: float = 1.0
    slab: float = 2.0  # at 4 mm posterior elements blurred, and lost 0.02 of Dice
    neighbours: int = 2
    multiple: int = 32
    normalisation: Normalisation = field(default_factory=Normalisation)
    clicks: ClickGaussian | None = None
    tile: int = 0
    depth: int = 0

    @property
    def inputs(self) -> int:
        """Return the number of input channels: a slice with its neighbours, then one per class for clicks."""
        if self.depth:
            return 1
        return 2 * self.neighbours + 1 + (len(CLASSES) if self.clicks else 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without optional entries that are not used."""
        return {name: value for name, value in asdict(self).items() if value or name not in ("clicks", "tile", "depth")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PreprocessingSpec:
        """Create a specification from `to_dict`; ModelError on anything missing, unknown or of the wrong type."""
        try:
            normalisation = Normalisation(**{name: float(v) for name, v in values["normalisation"].items()})
            clicks = ClickGaussian(**values["clicks"]) if values.get("clicks") is not None else None
            spec = cls(**{**values, "normalisation": normalisation, "clicks": clicks})
            numbers = (spec.pixel, spec.slab, *asdict(normalisation).values())
            if not all(isinstance(n, float) and np.isfinite(n) and n > 0 for n in numbers):
                raise ValueError("a number is out of range")
            sizes = (spec.neighbours, spec.multiple, spec.depth)
            if not all(isinstance(n, int) and 0 <= n <= 64 for n in sizes) or spec.multiple < 1:
                raise ValueError("a number is out of range")
            if type(spec.tile) is not int or not 0 <= spec.tile <= 1024 or (spec.tile == 0 and spec.depth != 0):
                raise ValueError(f"tile {spec.tile!r} of depth {spec.depth!r}")
            if spec.tile and spec.clicks:
                raise ValueError("clicks with tiles")
            if spec.axes not in _SAGITTAL_AXES:
                raise ValueError(f"axes {spec.axes!r}")
            return spec
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"the model's preprocessing specification is malformed: {error}") from error


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An exam on the network grid.

    Attributes
    ----------
    array : (slices, A, S) float32, about 0..1
    grid : the network grid
    source_grid : the exam's own grid
    """

    array: Array
    grid: Grid
    source_grid: Grid
    spec: PreprocessingSpec


@dataclass(frozen=True)
class _AxisSampling:
    """Sampling of one axis: voxel t of the network, 0 <= t < count, lies at source voxel start + step * t."""

    source_count: int
    count: int
    step: float
    start: float

    def matrix(self) -> Array | None:
        """Return the interpolation matrix, (count, source_count); None for the identity."""
        if self.step == 1 and self.count == self.source_count:
            return None
        return interpolation_matrix(self.source_count, self.count, self.step, self.start, width=self.step)


def _sampling_plan(canonical: Grid, spec: PreprocessingSpec) -> tuple[_AxisSampling, ...]:
    """Return the sampling of each axis of a grid in the network's orientation, about the same centre."""
    slab = canonical.spacing[0] * max(1, round(spec.slab / canonical.spacing[0]))
    plan = []
    for count, spacing, target in zip(canonical.shape, canonical.spacing, (slab, spec.pixel, spec.pixel), strict=True):
        if abs(spacing / target - 1) < 0.01:
            plan.append(_AxisSampling(count, count, 1.0, 0.0))
            continue
        step = target / spacing
        new_count = max(1, round(count / step))
        plan.append(_AxisSampling(count, new_count, step, (count - 1) / 2 - step * (new_count - 1) / 2))
    return tuple(plan)


def network_grid(source_grid: Grid, spec: PreprocessingSpec) -> Grid:
    """Return the network grid of an exam."""
    canonical = reorient_grid(source_grid, spec.axes)
    plan = _sampling_plan(canonical, spec)
    affine = canonical.affine.copy()
    affine[:3, 3] = canonical.to_world(np.array([axis.start for axis in plan]))
    affine[:3, :3] = canonical.affine[:3, :3] * np.array([axis.step for axis in plan])
    return Grid((plan[0].count, plan[1].count, plan[2].count), affine)


def refuse_ct(volume: Volume, modality: str | None = None) -> None:
    """Raise SegmentError for CT: by the modality of the header where it is known, else by the values.

    CT has air at about -1000 and soft tissue about 0. MR with negative values (shifted, or without its mean) has dark
    tissue between them.
    """
    if modality and modality.upper() != "CT":
        return
    if not modality:
        if not np.fmin.reduce(volume.array, axis=None) < _CT_AIR_VALUE:
            return
        array = replace_fill(volume.array)[0]  # air in CT is noisy; a single value is fill
        tissue = array[array > _CT_LUNG_RANGE[0]]
        if array.min() >= _CT_AIR_VALUE or len(tissue) < _CT_MIN_TISSUE * array.size:
            return
        dark = np.count_nonzero(tissue < _CT_LUNG_RANGE[1])
        soft = np.count_nonzero((tissue > _CT_SOFT_RANGE[0]) & (tissue < _CT_SOFT_RANGE[1]))
        if dark > 0.3 * len(tissue) or soft < 0.5 * len(tissue):
            return
    raise SegmentError(
        "this looks like CT (values down to that of air, -1000); lumbarseg reads MRI; if it is MRI, use --modality mr"
    )


def preprocess(volume: Volume, spec: PreprocessingSpec) -> PreparedImage:
    """Resample an exam to the network grid and normalise its intensities; constant fill at its border counts as air.

    Raises
    ------
    SegmentError
        When the image is constant.
    """
    canonical = reorient(Volume(replace_fill(volume.array)[0], volume.affine), spec.axes)
    first, second, third = (axis.matrix() for axis in _sampling_plan(canonical.grid, spec))
    array = apply_matrices(canonical.array, (first, second, third))
    return PreparedImage(normalise_intensity(array, spec), network_grid(volume.grid, spec), volume.grid, spec)


def normalise_intensity(array: Array, spec: PreprocessingSpec) -> Array:
    """Normalise intensities as `Normalisation` describes; SegmentError when the image is constant.

    Parameters
    ----------
    array : (slices, A, S), any scale, at `spec.pixel` mm

    Returns
    -------
    (slices, A, S) float32 in 0..limit
    """
    n = spec.normalisation
    low, high = np.percentile(array, [n.low, n.high])
    if not high - low > 1e-5 * max(abs(low), abs(high)):  # resampling a constant image leaves rounding errors
        raise SegmentError("the image is constant: there is nothing to segment")
    image = np.clip((array - low) / (high - low), 0, 1).astype(np.float32)
    local_mean = image
    for axis, sigma in enumerate((1.0, n.local / spec.pixel, n.local / spec.pixel)):
        local_mean = _gaussian_mean(local_mean, sigma, axis)
    image = image / (local_mean + n.floor * image.mean()) ** n.power
    return np.clip(image / max(float(np.percentile(image, n.top)), 1e-6), 0, n.limit)


def _gaussian_mean(array: Array, sigma: float, axis: int) -> Array:
    """Return a Gaussian-weighted mean along an axis, float32; at the border only the voxels inside count.

    By Fourier transform: the kernel is as long as the axis, and a matrix product would start BLAS threads.
    """
    count = array.shape[axis]
    size = -(-(count + min(count, int(7 * sigma))) // 16) * 16  # room for the kernel, and a size that is fast
    offsets = np.arange(size)
    kernel = np.exp(-0.5 * (np.minimum(offsets, size - offsets) / sigma) ** 2)
    spectrum = np.fft.rfft(kernel)
    sums = np.fft.irfft(np.fft.rfft(np.ones(count), size) * spectrum, size)[:count].astype(np.float32)
    spectrum = spectrum.astype(np.complex64)
    lines = np.ascontiguousarray(np.moveaxis(array, axis, -1))
    mean = np.empty(lines.shape, np.float32)
    for plane, result in zip(lines, mean, strict=True):
        np.divide(np.fft.irfft(np.fft.rfft(plane, size) * spectrum, size)[:, :count], sums, out=result)
    return np.moveaxis(mean, -1, axis)


def extract_windows(
    array: Array,
    spec: PreprocessingSpec,
    click_channels: Array | None = None,
    slices: Sequence[int] | None = None,
) -> Array:
    """Return the network's input: each slice with its neighbours as channels, outer slices repeated, then clicks.

    Parameters
    ----------
    array : (slices, A, S)
    click_channels : (classes, slices, A, S), None for no clicks
    slices : indices of the slices, None for all

    Returns
    -------
    (slices, inputs, A', S') float32; A' and S' are padded at their ends with edge values, to a multiple of
    `spec.multiple`
    """
    count, rows, columns = array.shape
    selected = np.arange(count) if slices is None else np.asarray(slices)
    images = 2 * spec.neighbours + 1
    padded = (size + -size % spec.multiple for size in (rows, columns))
    out = np.zeros((len(selected), spec.inputs, *padded), np.float32)
    for channel in range(images):
        out[:, channel, :rows, :columns] = array[np.clip(selected + channel - spec.neighbours, 0, count - 1)]
    out[:, :images, rows:, :columns] = out[:, :images, rows - 1 : rows, :columns]
    out[:, :images, :, columns:] = out[:, :images, :, columns - 1 : columns]
    if click_channels is not None and spec.clicks is not None:
        out[:, images:, :rows, :columns] = click_channels[:, selected].swapaxes(0, 1)
    return out


def classes_on_source_grid(
    probabilities: Array, prepared: PreparedImage, changed: Array | None = None, previous: Array | None = None
) -> Array:
    """Return the most probable class of each voxel of the exam, from linearly interpolated probabilities.

    Only the box is interpolated in which any class but the first (background) is most probable on the network grid:
    memory and time depend on the spine, not on the exam. Fine isotropic exams are done a few slices at a time.

    Parameters
    ----------
    probabilities : (classes, slices, A, S) on the network grid
    changed : (slices, A, S) bool, whose box is interpolated instead
    previous : (I, J, K) uint8, the classes outside of that box

    Returns
    -------
    (I, J, K) uint8
    """
    plan = _sampling_plan(reorient_grid(prepared.source_grid, prepared.spec.axes), prepared.spec)
    out = np.zeros(prepared.source_grid.shape, np.uint8) if previous is None else previous.copy()
    region: Array = probabilities[1:].max(axis=0) > probabilities[0] if changed is None else changed
    if region.any():
        parts = (_sampling_in_box(region, dimension, axis) for dimension, axis in enumerate(plan))
        boxes, sources, matrices = zip(*parts, strict=True)
        inside = reorient(Volume(out, prepared.source_grid.affine), prepared.spec.axes).array[sources]  # a view
        chunk = max(1, _CHUNK_VOXELS // int(np.prod(inside.shape[1:])))
        for first in range(0, len(inside), chunk):
            rows = slice(first, first + chunk)
            chunk_matrices = (matrices[0][rows], matrices[1], matrices[2])
            inside[rows] = argmax_classes(
                apply_matrices(p, chunk_matrices) for p in probabilities[(slice(None), *boxes)]
            )
    return out


def argmax_classes(class_scores: Iterable[Array]) -> Array:
    """Return the class of highest score for each voxel, uint8, the first of equal ones.

    As argmax over the first axis, but several times as fast, and with one class at a time in memory.
    """
    classes = iter(class_scores)
    top = np.array(next(classes))
    best = np.zeros(top.shape, np.uint8)
    for number, scores in enumerate(classes, start=1):
        np.putmask(best, scores > top, number)
        np.maximum(top, scores, out=top)
    return best


def _sampling_in_box(region: Array, dimension: int, axis: _AxisSampling) -> tuple[slice, slice, Array]:
    """Return along one axis the box of a region with a margin, the source voxels inside it, and their weights."""
    occupied = np.flatnonzero(region.any(axis=tuple(d for d in range(3) if d != dimension)))
    low, high = max(0, int(occupied[0]) - 2), min(axis.count, int(occupied[-1]) + 3)
    positions = (np.arange(axis.source_count) - axis.start) / axis.step
    first = 0 if low == 0 else int(np.searchsorted(positions, low))
    last = axis.source_count if high == axis.count else int(np.searchsorted(positions, high - 1, side="right"))
    return (
        slice(low, high),
        slice(first, last),
        interpolation_matrix(high - low, last - first, 1 / axis.step, float(positions[first]) - low),
    )


def labels_on_source_grid(labels: Array, prepared: PreparedImage) -> Array:
    """Resample labels, (slices, A, S) on the network grid, to the exam's own grid by nearest neighbour."""
    order, indices = nearest_network_indices(prepared)
    return np.ascontiguousarray(labels[np.ix_(*indices)].transpose(order))


def nearest_network_indices(
    prepared: PreparedImage, box: tuple[slice, ...] = (slice(None),) * 3
) -> tuple[list[int], list[Array]]:
    """Return the network axis of each axis of the exam, and the network indices nearest to the exam's voxels in a box.

    The second has one array (n,) for each network axis.
    """
    source = prepared.source_grid
    canonical = reorient_grid(source, prepared.spec.axes)
    plan = _sampling_plan(canonical, prepared.spec)
    cosines = (canonical.affine[:3, :3] / canonical.spacing).T @ (source.affine[:3, :3] / source.spacing)
    order = [int(np.argmax(np.abs(cosines[:, axis]))) for axis in range(3)]
    indices = []
    for axis, sampling in enumerate(plan):
        source_axis = order.index(axis)
        positions = np.rint((np.arange(sampling.source_count) - sampling.start) / sampling.step)
        flip = -1 if cosines[axis, source_axis] < 0 else 1
        indices.append(np.clip(positions, 0, sampling.count - 1).astype(int)[::flip][box[source_axis]])
    return order, indices
