"""Sizes of a labelled spine: volumes, heights of bodies and discs, angles of endplates, slips, width of the canal.

Everything but the volume is measured in the sagittal plane of the exam that lies nearest to the middle of a structure,
in millimetres, whatever the order of the axes and the thickness of the slices. A rotated vertebra is not turned back.
Heights in front and behind and the depth follow Frobin et al., Clin Biomech 12, suppl. 1 (1997), with the rims of the
label in place of four marked corners; angles between endplates follow Cobb, Instr Course Lect 5 (1948).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from lumbarseg.anatomy import LEVELS, STRUCTURES, Kind, Structure, labels_of_kind
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

_STEP = 0.5  # mm, of the samples in a structure's own frame
_SLAB = 2.0  # mm to either side: thin slices are averaged, a thick one stands alone
_MARGIN = 2.0  # mm to the border of the exam, below which a structure counts as cut off: labels fade out there
_CUT = 0.25  # share of its largest width that a structure must have there; a corner or a sliver is no cut
_COLUMN = (Kind.BODY, Kind.DISC, Kind.SACRUM)
_FRONT, _MIDDLE, _BACK = (0.84, 0.96), (0.4, 0.6), (0.04, 0.16)  # shares of the depth, from behind
_RIMS = ((0.08, 0.25), (0.75, 0.92))
_CANAL = 40.0  # mm behind a structure in which its canal is looked for


@dataclass(frozen=True)
class Measurement:
    """One structure of a label map. volume: ml, all of it; the rest is None where it does not apply or cannot be known.

    complete: whether the structure ends inside the exam, in plane; only then it has sizes. anterior, middle, posterior,
    depth: mm. tilt_top, tilt_bottom: of the endplates against the horizontal, degrees, positive when they face forward.
    canal: antero-posterior width of the canal behind it, mm. slip: of a body on the one below, mm, positive forward.
    """

    name: str
    kind: Kind
    volume: float
    complete: bool
    anterior: float | None = None
    middle: float | None = None
    posterior: float | None = None
    depth: float | None = None
    tilt_top: float | None = None
    tilt_bottom: float | None = None
    canal: float | None = None
    slip: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without what is unknown."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def measure_structures(labels: Volume) -> list[Measurement]:
    """Sizes of every structure of a label map, from head to foot. labels: (I, J, K) in the table's values, any axes."""
    spine = _SpineGeometry.of(labels)
    voxel = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    fits = spine.fits()
    rows = []
    for part in spine.parts:
        row = Measurement(part.name, part.structure.kind, round(part.count * voxel, 3), spine.complete(part))
        if part.name in fits:
            row = _with_sizes(row, fits[part.name], spine)
        elif part.structure.kind is Kind.SACRUM:
            row = replace(row, tilt_top=_rounded(spine.sacral(fits)))
        rows.append(row)
    slips = _slips(fits, spine)
    return [replace(row, slip=slips.get(row.name)) for row in rows]


def correct_orientation(labels: Volume) -> Volume:
    """The same voxels with an affine under which the head is up and the canal behind, as a wrong header may deny."""
    from scipy import ndimage

    steps = [max(1, n // 64) for n in labels.array.shape]  # a coarse look is enough
    sparse = labels.array[tuple(slice(None, None, step) for step in steps)]
    coarse = reorient(Volume(sparse, labels.affine * [*steps, 1]), "RAS").array
    canal = np.isin(coarse, labels_of_kind(Kind.CANAL))
    boxes = ndimage.find_objects(coarse)
    heights, behind = [], []
    for s in STRUCTURES:
        box = boxes[s.label - 1] if s.label <= len(boxes) else None
        if box is not None and s.kind in (Kind.BODY, Kind.DISC):
            heights.append((s.order, box[2].start + box[2].stop))
            beside = np.nonzero(canal[:, :, box[2]])[1]
            behind.append((box[1].start + box[1].stop - 1) / 2 - beside.mean() if len(beside) else 0.0)
    order, height = np.array(heights or [(0, 0)], np.float64).T
    head_down = float(np.cov(order, height, bias=True)[0, 1]) > 0
    flips = np.array([1.0, -1.0 if sum(behind) < 0 else 1.0, -1.0 if head_down else 1.0, 1.0])
    return Volume(labels.array, flips[:, None] * labels.affine)


def lumbar_lordosis(measurements: Sequence[Measurement]) -> float | None:
    """Angle between the upper endplates of L1 and of the sacrum, degrees; None where one of them is not measured."""
    tilts = {row.name: row.tilt_top for row in measurements}
    top, bottom = tilts.get("L1"), tilts.get("sacrum")
    return None if top is None or bottom is None else round(bottom - top, 1)


def cobb_angle(labels: Volume, upper: Structure, lower: Structure) -> float | None:
    """Cobb angle from the upper endplate of `upper` to the lower endplate of `lower`, degrees, lordosis positive.

    Of the sacrum the upper endplate counts. None where one of them is missing or cut off by the border.
    """
    rows = {row.name: row for row in measure_structures(labels)}
    if upper.name not in rows or lower.name not in rows:
        return None
    top, foot = rows[upper.name], rows[lower.name]
    bottom = foot.tilt_top if lower.kind is Kind.SACRUM else foot.tilt_bottom
    return None if top.tilt_top is None or bottom is None else round(bottom - top.tilt_top, 1)


@dataclass(frozen=True, eq=False)
class _Region:
    """A structure in the RAS array. box: where it lies; middle: its slice; centre: (forward, up) mm in its plane."""

    structure: Structure
    box: tuple[slice, slice, slice]
    count: int
    middle: float
    centre: Array

    @property
    def name(self) -> str:
        return self.structure.name


@dataclass(frozen=True, eq=False)
class _FittedBody:
    """A body or disc in its own frame: x forward, y up, mm from `centre`, leaning forward by `lean` radians.

    Profiles lie at the columns x; a line is (height at x = 0, slope).
    """

    centre: Array
    lean: float
    back: float
    front: float
    x: Array
    bottom: Array
    top: Array
    bottom_line: tuple[float, float]
    top_line: tuple[float, float]
    depth: float
    corners: tuple[Array, Array]  # behind, (forward, up) mm in the plane: at the lower and at the upper endplate
    part: _Region

    def height(self, band: tuple[float, float]) -> float:
        """Height in a band of the depth, mm: the mean; at the rims of a body near the highest, as corners are."""
        heights = (self.top - self.bottom)[_band(self.x, self.back, self.front, band)]
        corner = band != _MIDDLE and self.part.structure.kind is Kind.BODY
        return float(np.percentile(heights, 80) if corner else heights.mean())


@dataclass(frozen=True, eq=False)
class _SpineGeometry:
    """Labels in RAS order with their places. matrix: (2, 3), voxel indices to (forward, up) mm; base: its offset."""

    array: Array
    spacing: tuple[float, float, float]
    matrix: Array
    base: Array
    parts: tuple[_Region, ...]

    @classmethod
    def of(cls, labels: Volume) -> _SpineGeometry:
        from scipy import ndimage

        canonical = reorient(correct_orientation(labels), "RAS")
        array = np.ascontiguousarray(canonical.array)
        steps = canonical.affine[:3, :3]
        normal = np.cross(steps[:, 1], steps[:, 2])
        normal /= np.linalg.norm(normal)
        up = np.array([0.0, 0.0, 1.0]) - normal * normal[2]
        up /= np.linalg.norm(up)
        forward = np.cross(up, normal)
        axes = np.stack([forward * np.sign(forward[1]), up])
        matrix, base = axes @ steps, axes @ canonical.affine[:3, 3]
        boxes = ndimage.find_objects(array)
        parts = []
        for structure in STRUCTURES:
            box = boxes[structure.label - 1] if structure.label <= len(boxes) else None
            if box is not None:
                parts.append(_part(array, structure, box, matrix, base))
        return cls(array, canonical.grid.spacing, matrix, base, tuple(parts))

    def complete(self, part: _Region) -> bool:
        """Whether a structure ends well before the border of the exam, in its plane."""
        mask = self.array[self.slices(part)] == part.structure.label
        for axis in (1, 2):
            widths = mask.sum(axis=(0, 3 - axis))
            edge = 1 + int(_MARGIN / self.spacing[axis])
            if max(widths[:edge].max(), widths[-edge:].max()) >= _CUT * max(widths.max(), 1):
                return False
        return True

    def slices(self, part: _Region) -> slice:
        """The slices that make the plane of a structure."""
        reach = max(0, int(_SLAB / self.spacing[0]))
        middle = int(np.clip(round(part.middle), part.box[0].start, part.box[0].stop - 1))
        return slice(max(0, middle - reach), middle + reach + 1)

    def sample(self, part: _Region, at: _Region, centre: Array, lean: float, x: Array, y: Array) -> Array:
        """Where `part` is in the plane of `at`: (x, y) bool, in a frame about `centre` that leans forward by `lean`."""
        from scipy import ndimage

        chosen = self.slices(at)
        rows, columns = part.box[1:]
        low = np.array([rows.start - 1, columns.start - 1])
        mask = (self.array[chosen, rows, columns] == part.structure.label).mean(axis=0, dtype=np.float32)
        mask = np.pad(mask, 1)
        turn = np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])  # columns: own axes in the plane
        origin = self.base + self.matrix[:, 0] * round(at.middle)
        inverse = np.linalg.inv(self.matrix[:, 1:])
        steps, start = inverse @ turn, inverse @ (centre - origin) - low
        index = start[:, None, None] + steps[:, :1, None] * x[None, :, None] + steps[:, 1:, None] * y[None, None, :]
        return ndimage.map_coordinates(mask, index, order=1, mode="constant") >= 0.5

    def fits(self) -> dict[str, _FittedBody]:
        """Frames of the bodies and discs that end inside the exam."""
        chain = [part for part in self.parts if part.structure.kind in _COLUMN]
        fits = {}
        for i, part in enumerate(chain):
            if part.structure.kind is Kind.SACRUM or not self.complete(part):
                continue
            around = chain[max(0, i - 1)].centre - chain[min(len(chain) - 1, i + 1)].centre
            fit = _fit(self, part, float(np.arctan2(around[0], max(around[1], 1e-6))) if around.any() else 0.0)
            if fit is not None:
                fits[part.name] = fit
        return fits

    def sacral_line(self, fits: dict[str, _FittedBody]) -> tuple[_FittedBody, float, Array] | None:
        """The lowest disc or body with the lean of the sacrum's upper endplate under it, and its corner behind."""
        sacrum = next((part for part in self.parts if part.structure.kind is Kind.SACRUM), None)
        lowest = max(fits.values(), key=lambda fit: fit.part.structure.order, default=None)
        last = max((part.structure.order for part in self.parts if part.structure.kind in _COLUMN[:2]), default=None)
        if sacrum is None or lowest is None or lowest.part.structure.order != last:
            return None
        deep = float(lowest.bottom.min())
        y = np.arange(deep - 20, deep + 8, _STEP)
        x = np.arange(lowest.back - 8, lowest.front + 4, _STEP)
        bone = self.sample(sacrum, lowest.part, lowest.centre, lowest.lean, x, y)
        seen = bone.any(axis=1)
        first = y[len(y) - 1 - bone[:, ::-1].argmax(axis=1)]
        inside = seen & (x >= lowest.back) & (x <= lowest.front)
        if inside.sum() < 10 or np.ptp(x[inside]) < 0.6 * (lowest.front - lowest.back):
            return None
        line = _line(x[inside], first[inside] + _STEP / 2)
        flat = seen & (np.abs(first - line[0] - line[1] * x) < 2.5)
        edge = int(np.argmin(np.abs(x - (lowest.back + lowest.front) / 2)))
        while edge > 0 and flat[edge - 1]:
            edge -= 1
        corner = _outward(lowest.centre, lowest.lean, x[edge] - _STEP / 2, line[0] + line[1] * x[edge])
        return lowest, lowest.lean - float(np.arctan(line[1])), corner

    def sacral(self, fits: dict[str, _FittedBody]) -> float | None:
        """Tilt of the sacrum's upper endplate, degrees."""
        found = self.sacral_line(fits)
        return None if found is None else float(np.rad2deg(found[1]))

    def canal(self, fit: _FittedBody) -> float | None:
        """Width of the canal behind a structure, along its own anterior axis at half its height, mm."""
        canal = next((part for part in self.parts if part.structure.label in labels_of_kind(Kind.CANAL)), None)
        if canal is None:
            return None
        x = np.arange(fit.back - _CANAL, fit.back + 8, _STEP)
        y = np.arange(-2.0, 2.01, _STEP)
        width = float(np.median(self.sample(canal, fit.part, fit.centre, fit.lean, x, y).sum(axis=0))) * _STEP
        return round(width, 1) if width else None


def _part(array: Array, structure: Structure, box: tuple[slice, slice, slice], matrix: Array, base: Array) -> _Region:
    mask = array[box] == structure.label
    start = np.array([s.start for s in box])
    counts = [mask.sum(axis=(1, 2)), mask.sum(axis=(0, 2)), mask.sum(axis=(0, 1))]
    total = int(counts[0].sum())
    centre = np.array([float(np.arange(len(c)) @ c) / total for c in counts]) + start
    return _Region(structure, box, total, float(centre[0]), matrix @ centre + base)


def _fit(spine: _SpineGeometry, part: _Region, lean: float) -> _FittedBody | None:
    """The frame of a body or disc, turned until its endplates lie symmetrically to it; None for a scrap."""
    from scipy import ndimage

    reach = 4 + 0.5 * float(np.hypot(*(spine.spacing[a] * (part.box[a].stop - part.box[a].start) for a in (1, 2))))
    grid = np.arange(-reach, reach, _STEP)
    centre, thin = part.centre, part.structure.kind is Kind.DISC
    for last in (False, False, True):
        pieces, count = ndimage.label(spine.sample(part, part, centre, lean, grid, grid))
        if count == 0:
            return None
        mask = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
        seen = mask.any(axis=1)
        x = grid[seen]
        bottom = grid[mask[seen].argmax(axis=1)] - _STEP / 2
        top = grid[len(grid) - 1 - mask[seen][:, ::-1].argmax(axis=1)] + _STEP / 2
        rims = [_extent(mask, grid, share) for share in (((0.3, 0.7),) if thin else ((0.06, 0.22), (0.78, 0.94)))]
        back, front = (float(edge) for edge in np.mean(rims, axis=0))
        if front - back < 8 or len(x) < 12:
            return None
        bottom_line, top_line = _line(x, bottom, back, front), _line(x, top, back, front)
        if not last:
            middle = (back + front) / 2
            height = sum(line[0] + line[1] * middle for line in (bottom_line, top_line)) / 2
            centre = _outward(centre, lean, middle, height)
            lean = lean - float(np.arctan((bottom_line[1] + top_line[1]) / 2))
    corners = tuple(
        _outward(centre, lean, rim[0], line[0] + line[1] * rim[0])
        for rim, line in ((rims[0], bottom_line), (rims[-1], top_line))
    )
    return _FittedBody(
        centre, lean, back, front, x, bottom, top, bottom_line, top_line, front - back, (corners[0], corners[1]), part
    )


def _extent(mask: Array, grid: Array, share: tuple[float, float]) -> tuple[float, float]:
    """Where a mask begins and ends along x, in a band of its height, mm."""
    rows = np.flatnonzero(mask.sum(axis=0) * _STEP > 0.4 * mask.sum(axis=0).max() * _STEP)
    low, size = rows[0], rows[-1] - rows[0] + 1
    band = mask[:, low + int(share[0] * size) : low + max(int(share[0] * size) + 1, round(share[1] * size))]
    band = band[:, band.any(axis=0)]
    starts = grid[band.argmax(axis=0)] - _STEP / 2
    ends = grid[len(grid) - 1 - band[::-1].argmax(axis=0)] + _STEP / 2
    return float(np.median(starts)), float(np.median(ends))


def _band(x: Array, back: float, front: float, band: tuple[float, float]) -> Array:
    share = (x - back) / (front - back)
    return (share >= band[0]) & (share <= band[1])


def _line(x: Array, y: Array, back: float | None = None, front: float | None = None) -> tuple[float, float]:
    """(height at 0, slope) of an endplate through its two rims; what lies between, a node or a hollow, has no part."""
    back, front = (x.min() if back is None else back), (x.max() if front is None else front)
    (x0, y0), (x1, y1) = ((x[b].mean(), y[b].mean()) for b in (_band(x, back, front, rim) for rim in _RIMS))
    slope = float((y1 - y0) / (x1 - x0))
    return float(y0 - slope * x0), slope


def _outward(centre: Array, lean: float, x: float, y: float) -> Array:
    """A point of a structure's own frame as (forward, up) mm in the plane."""
    return centre + x * np.array([np.cos(lean), -np.sin(lean)]) + y * np.array([np.sin(lean), np.cos(lean)])


def _with_sizes(row: Measurement, fit: _FittedBody, spine: _SpineGeometry) -> Measurement:
    row = replace(
        row,
        anterior=round(fit.height(_FRONT), 1),
        middle=round(fit.height(_MIDDLE), 1),
        posterior=round(fit.height(_BACK), 1),
        depth=round(fit.depth, 1),
        canal=spine.canal(fit),
    )
    if row.kind is Kind.DISC:
        return row
    top, bottom = (float(np.rad2deg(fit.lean - np.arctan(line[1]))) for line in (fit.top_line, fit.bottom_line))
    return replace(row, tilt_top=round(top, 1), tilt_bottom=round(bottom, 1))


def _slips(fits: dict[str, _FittedBody], spine: _SpineGeometry) -> dict[str, float]:
    """How far each body stands forward of the one below, between the corners behind, along their bisector, mm."""
    bodies = [fits[level] for level in LEVELS if level in fits]
    slips = {}
    for upper, lower in pairwise(bodies):
        if not _between(upper, lower, spine):
            tilt = upper.lean + lower.lean - np.arctan(upper.bottom_line[1]) - np.arctan(lower.top_line[1])
            slips[upper.part.name] = _along(upper.corners[0] - lower.corners[1], float(tilt) / 2)
    sacral = spine.sacral_line(fits)
    if bodies and sacral is not None:
        lowest = bodies[-1]
        tilt = lowest.lean - np.arctan(lowest.bottom_line[1]) + sacral[1]
        if sacral[0].part.structure.order - lowest.part.structure.order < 10:
            slips[lowest.part.name] = _along(lowest.corners[0] - sacral[2], float(tilt) / 2)
    return slips


def _between(upper: _FittedBody, lower: _FittedBody, spine: _SpineGeometry) -> bool:
    """Whether a body that is not measured stands between two that are."""
    orders = (upper.part.structure.order, lower.part.structure.order)
    bodies = (part.structure.order for part in spine.parts if part.structure.kind is Kind.BODY)
    return any(orders[0] < order < orders[1] for order in bodies)


def _along(step: Array, lean: float) -> float:
    return round(float(step[0] * np.cos(lean) - step[1] * np.sin(lean)), 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
