"""Geometry of a labelled spine: the frame of each body and disc, their endplates, the sacral endplate, the canal.

Everything lies in the sagittal plane of the exam nearest to the middle of a structure, in millimetres, whatever the
order of the axes and the thickness of the slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, labels_of_kind
from lumbarseg.components import Box, connected_components, label_boxes
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

STEP = 0.5  # mm, of the samples in a structure's own frame
_SLAB = 2.0  # mm to either side: thin slices are averaged, a thick one stands alone
_MARGIN = 2.0  # mm to the border of the exam, below which a structure counts as cut off: labels fade out there
_MIN_BORDER_FRACTION = 0.25  # of its largest width, that a structure must have there; a corner does not count
_COLUMN = (Kind.BODY, Kind.DISC, Kind.SACRUM)
FRONT, MIDDLE, BACK = (0.84, 0.96), (0.4, 0.6), (0.04, 0.16)  # bands of the depth, from behind
_RIMS = ((0.08, 0.25), (0.75, 0.92))  # bands of the depth that the line of an endplate goes through
_BODY_RIMS = ((0.06, 0.22), (0.78, 0.94))  # bands of the height in which front and back of a body are measured
_DISC_RIMS = ((0.3, 0.7),)
_MIN_BODY_DEPTH, _MIN_DISC_DEPTH = 18.0, 8.0  # mm; shallower ones are fragments, as beside the pedicles
# mm around the posterior border of the lowest disc or body, where the corner of the sacrum is looked for
_CORNER_RANGE = 5.0
_CORNER_TOLERANCE = 3.0  # mm between the sacrum's top and the line of its endplate
_CANAL = 40.0  # mm behind a structure in which its canal is looked for

Line = tuple[float, float]
"""Height at x = 0, and slope."""


@dataclass(frozen=True, eq=False)
class Region:
    """The voxels of a structure in the RAS array.

    Attributes
    ----------
    middle, plane : its middle slice, and the slices that make its sagittal plane
    centre : (anterior, superior) mm in its plane
    complete : whether it ends well before the border of the exam, in its plane
    """

    structure: Structure
    box: Box
    count: int
    middle: int
    plane: slice
    centre: Array
    complete: bool


@dataclass(frozen=True, eq=False)
class Endplate:
    """An endplate in the sagittal plane.

    Attributes
    ----------
    lean : radians against the horizontal, positive if it faces forward
    corner : posterior end, (anterior, superior) mm
    """

    lean: float
    corner: Array


@dataclass(frozen=True, eq=False)
class Fit:
    """A body or disc in its own frame: x anterior, y superior, mm from `centre`, leaning forward by `lean` radians.

    Profiles `bottom` and `top` lie at the columns `x`.
    """

    region: Region
    centre: Array
    lean: float
    back: float
    front: float
    x: Array
    bottom: Array
    top: Array
    bottom_line: Line
    lower: Endplate
    upper: Endplate

    def height(self, band: tuple[float, float]) -> float | None:
        """Return the height in a band of the depth, mm: the mean; at the rims of a body near the highest."""
        heights = (self.top - self.bottom)[_in_band(self.x, self.back, self.front, band)]
        if not len(heights):
            return None
        at_rim = band != MIDDLE and self.region.structure.kind is Kind.BODY
        return round(float(np.percentile(heights, 80) if at_rim else heights.mean()), 1)


@dataclass(frozen=True, eq=False)
class SacralEndplate(Endplate):
    """The upper endplate of the sacrum. above: the lowest disc or body."""

    above: Fit


@dataclass(frozen=True, eq=False)
class SpineGeometry:
    """Labels in RAS order. matrix, offset: (2, 3) and (2,), voxel indices to (anterior, superior) mm."""

    array: Array
    spacing: tuple[float, float, float]
    matrix: Array
    offset: Array
    regions: tuple[Region, ...]

    @classmethod
    def of(cls, labels: Volume) -> SpineGeometry:
        """Reorient labels, find the sagittal plane of the exam and its structures."""
        canonical = reorient(labels, "RAS")
        array = np.ascontiguousarray(canonical.array)
        steps = canonical.affine[:3, :3]
        normal = np.cross(steps[:, 1], steps[:, 2])
        normal /= np.linalg.norm(normal)
        superior = np.array([0.0, 0.0, 1.0]) - normal * normal[2]
        superior /= np.linalg.norm(superior)
        anterior = np.cross(superior, normal)
        axes = np.stack([anterior * np.sign(anterior[1]), superior])
        matrix, offset = axes @ steps, axes @ canonical.affine[:3, 3]
        regions = []
        boxes = label_boxes(array)
        for structure in (s for s in STRUCTURES if s.label in boxes):
            box = boxes[structure.label]
            voxels = np.nonzero(array[box] == structure.label)
            centre = np.array([axis.mean() + side.start for axis, side in zip(voxels, box, strict=True)])
            reach = int(_SLAB / canonical.grid.spacing[0])
            middle = int(np.clip(round(float(centre[0])), box[0].start, box[0].stop - 1))
            plane = slice(max(0, middle - reach), middle + reach + 1)
            complete = _ends_inside(array[plane] == structure.label, canonical.grid.spacing)
            position = matrix @ centre + offset
            regions.append(Region(structure, box, len(voxels[0]), middle, plane, position, complete))
        return cls(array, canonical.grid.spacing, matrix, offset, tuple(regions))

    def sample(self, region: Region, plane: Region, frame: tuple[Array, float], x: Array, y: Array) -> Array:
        """Sample the mask of a structure in the plane of another, (x, y) bool. frame: its centre and lean."""
        centre, lean = frame
        rows, columns = region.box[1:]
        low = np.array([rows.start - 1, columns.start - 1])
        mask = self.array[plane.plane, rows, columns] == region.structure.label
        padded = np.pad(mask.mean(axis=0, dtype=np.float32), 1)
        rotation = np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])  # columns: axes of the frame
        origin = self.offset + self.matrix[:, 0] * plane.middle
        inverse = np.linalg.inv(self.matrix[:, 1:])
        steps, start = inverse @ rotation, inverse @ (centre - origin) - low
        index = start[:, None, None] + steps[:, :1, None] * x[None, :, None] + steps[:, 1:, None] * y[None, None, :]
        return scipy.ndimage.map_coordinates(padded, index, order=1, mode="constant") >= 0.5

    def fit_bodies_and_discs(self) -> dict[str, Fit]:
        """Fit the frames of the bodies and discs that end inside the exam."""
        column = [region for region in self.regions if region.structure.kind in _COLUMN]
        fits = {}
        for i, region in enumerate(column):
            if region.structure.kind is Kind.SACRUM or not region.complete:
                continue
            step = column[max(0, i - 1)].centre - column[min(len(column) - 1, i + 1)].centre
            lean = float(np.arctan2(step[0], max(step[1], 1e-6))) if step.any() else 0.0
            fit = _fit_frame(self, region, lean)
            if fit is not None:
                fits[region.structure.name] = fit
        return fits

    def fit_sacral_endplate(self, fits: dict[str, Fit]) -> SacralEndplate | None:
        """Fit the upper endplate of the sacrum, below the lowest disc or body; None where it is not in view.

        Its line is the lower border of the disc on the sacrum, which is segmented better than the sacrum itself, or the
        top of the sacrum where no such disc is measured. Its posterior corner is where the sacrum ends along that line,
        or else the posterior border of the disc.
        """
        sacrum = next((region for region in self.regions if region.structure.kind is Kind.SACRUM), None)
        lowest = max(fits.values(), key=lambda fit: fit.region.structure.order, default=None)
        last = max((r.structure.order for r in self.regions if r.structure.kind in _COLUMN[:2]), default=None)
        if sacrum is None or lowest is None or lowest.region.structure.order != last:
            return None
        bottom = float(lowest.bottom.min())
        y = np.arange(bottom - 20, bottom + 8, STEP)
        x = np.arange(lowest.back - _CORNER_RANGE, lowest.front + 4, STEP)
        bone = self.sample(sacrum, lowest.region, (lowest.centre, lowest.lean), x, y)
        occupied = bone.any(axis=1)
        top = y[len(y) - 1 - bone[:, ::-1].argmax(axis=1)] + STEP / 2
        line = lowest.bottom_line
        if lowest.region.structure.name.rpartition("-")[2] in (*LEVELS, lowest.region.structure.name):
            inside = occupied & (x >= lowest.back) & (x <= lowest.front)
            if inside.sum() < 10 or np.ptp(x[inside]) < 0.6 * (lowest.front - lowest.back):
                return None
            line = _endplate_line(x[inside], top[inside], x[inside].min(), x[inside].max())
        if not np.isfinite(line).all():
            return None
        flat = occupied & (np.abs(top - line[0] - line[1] * x) < _CORNER_TOLERANCE) & (x <= lowest.back + _CORNER_RANGE)
        edge = float(x[flat.argmax()] - STEP / 2) if flat.any() and not flat[0] else lowest.back
        corner = to_plane(lowest.centre, lowest.lean, edge, line[0] + line[1] * edge)
        return SacralEndplate(lowest.lean - float(np.arctan(line[1])), corner, lowest)

    def canal_walls(self, fit: Fit) -> tuple[float, float] | None:
        """Return where the canal behind a structure ends and begins, along x at half the height of its frame, mm."""
        canal = next((region for region in self.regions if region.structure.label in labels_of_kind(Kind.CANAL)), None)
        if canal is None:
            return None
        x = np.arange(fit.back - _CANAL, fit.back + 8, STEP)
        y = np.arange(-2.0, 2.01, STEP)
        mask = self.sample(canal, fit.region, (fit.centre, fit.lean), x, y)
        width = float(np.median(mask.sum(axis=0))) * STEP
        if not width:
            return None
        middle = float(x @ mask.sum(axis=1) / mask.sum())
        return middle - width / 2, middle + width / 2


def _ends_inside(mask: Array, spacing: tuple[float, float, float]) -> bool:
    """Return whether a structure, (slices, A, S) bool, ends well before the border of the exam, in plane."""
    for axis in (1, 2):
        widths = mask.sum(axis=(0, 3 - axis))
        edge = 1 + int(_MARGIN / spacing[axis])
        if max(widths[:edge].max(), widths[-edge:].max()) >= _MIN_BORDER_FRACTION * max(widths.max(), 1):
            return False
    return True


def _fit_frame(spine: SpineGeometry, region: Region, lean: float) -> Fit | None:
    """Fit the frame of a body or disc, turned until its endplates lie symmetrically to it; None for a fragment."""
    extent = np.hypot(*(spine.spacing[axis] * (region.box[axis].stop - region.box[axis].start) for axis in (1, 2)))
    reach = 4 + 0.5 * float(extent)
    grid = np.arange(-reach, reach, STEP)
    centre = region.centre
    is_disc = region.structure.kind is Kind.DISC
    bands, min_depth = (_DISC_RIMS, _MIN_DISC_DEPTH) if is_disc else (_BODY_RIMS, _MIN_BODY_DEPTH)
    for last in (False, False, True):
        components = connected_components(spine.sample(region, region, (centre, lean), grid, grid)[None])
        if components.count == 0:
            return None
        mask = components.numbers[0] == components.sizes.argmax()
        columns = mask.any(axis=1)
        x = grid[columns]
        bottom = grid[mask[columns].argmax(axis=1)] - STEP / 2
        top = grid[len(grid) - 1 - mask[columns][:, ::-1].argmax(axis=1)] + STEP / 2
        rims = [_extent_in_band(mask, grid, band) for band in bands]
        back, front = (float(edge) for edge in np.mean(rims, axis=0))
        if front - back < min_depth or len(x) < 12:
            return None
        bottom_line, top_line = _endplate_line(x, bottom, back, front), _endplate_line(x, top, back, front)
        if not np.isfinite((*bottom_line, *top_line)).all():
            return None
        if not last:
            middle = (back + front) / 2
            height = sum(line[0] + line[1] * middle for line in (bottom_line, top_line)) / 2
            centre = to_plane(centre, lean, middle, height)
            lean = lean - float(np.arctan((bottom_line[1] + top_line[1]) / 2))
    lower, upper = (
        Endplate(lean - float(np.arctan(line[1])), to_plane(centre, lean, rim[0], line[0] + line[1] * rim[0]))
        for rim, line in ((rims[0], bottom_line), (rims[-1], top_line))
    )
    return Fit(region, centre, lean, back, front, x, bottom, top, bottom_line, lower, upper)


def _extent_in_band(mask: Array, grid: Array, band: tuple[float, float]) -> tuple[float, float]:
    """Return where a mask begins and ends along x, in a band of its height, mm."""
    widths = mask.sum(axis=0)
    rows = np.flatnonzero(widths * STEP > 0.4 * widths.max() * STEP)
    low, size = rows[0], rows[-1] - rows[0] + 1
    part = mask[:, low + int(band[0] * size) : low + max(int(band[0] * size) + 1, round(band[1] * size))]
    part = part[:, part.any(axis=0)]
    starts = grid[part.argmax(axis=0)] - STEP / 2
    ends = grid[len(grid) - 1 - part[::-1].argmax(axis=0)] + STEP / 2
    return float(np.median(starts)), float(np.median(ends))


def _in_band(x: Array, back: float, front: float, band: tuple[float, float]) -> Array:
    return (x >= back + band[0] * (front - back)) & (x <= back + band[1] * (front - back))


def _endplate_line(x: Array, y: Array, back: float, front: float) -> Line:
    """Return the line of an endplate through its two rims, whatever lies between; NaN when a rim is missing."""
    bands = [_in_band(x, back, front, rim) for rim in _RIMS]
    if not (bands[0].any() and bands[1].any()):
        return np.nan, np.nan
    (x0, y0), (x1, y1) = ((x[band].mean(), y[band].mean()) for band in bands)
    slope = float((y1 - y0) / (x1 - x0))
    return float(y0 - slope * x0), slope


def to_plane(centre: Array, lean: float, x: float, y: float) -> Array:
    """Convert a point of a structure's own frame to (anterior, superior) mm in the plane."""
    return centre + x * np.array([np.cos(lean), -np.sin(lean)]) + y * np.array([np.sin(lean), np.cos(lean)])
