"""The lines along which measurements were taken, to draw them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.volume import Array

from .geometry import BACK, FRONT, MIDDLE, Endplate, Fit, Region, SpineGeometry, to_plane
from .measure import LORDOSIS_ENDPLATES, MeasuredSpine, lumbar_lordosis, slip_vector

Point = tuple[float, float]
"""Anterior and superior voxel indices of a label map in RAS order."""


@dataclass(frozen=True)
class MeasuredLine:
    """A line along which a measurement was taken; an endplate for tilts.

    Attributes
    ----------
    structure : name of the structure
    name : of the measurement, as in `Measurement`
    value : as reported, mm or degrees
    start, end : posterior to anterior, or inferior to superior
    """

    structure: str
    name: str
    value: float
    start: Point
    end: Point


def locate_measurements(measured: MeasuredSpine) -> list[MeasuredLine]:
    """Return the lines of all measurements; "lordosis" has two, the endplates of L1 and of the sacrum."""
    values = {(row.name, name): value for row in measured.rows for name, value in row.to_dict().items()}
    lordosis = lumbar_lordosis(measured.rows)
    if lordosis is not None:
        values |= {(name, "lordosis"): lordosis for name in LORDOSIS_ENDPLATES}
    spine = measured.geometry
    return [
        MeasuredLine(region.structure.name, name, values[region.structure.name, name], *_to_voxels(spine, region, ends))
        for region, name, ends in _plane_lines(measured)
        if (region.structure.name, name) in values
    ]


def _plane_lines(measured: MeasuredSpine) -> Iterator[tuple[Region, str, tuple[Array, Array]]]:
    """Yield structure, measurement and both ends, (anterior, superior) mm."""
    spine, fits, sacral, below = measured.geometry, measured.fits, measured.sacral_endplate, measured.below
    for name, fit in fits.items():
        depth = fit.front - fit.back
        for measurement, (start, end) in _frame_lines(fit, spine):
            yield (
                fit.region,
                measurement,
                (to_plane(fit.centre, fit.lean, *start), to_plane(fit.centre, fit.lean, *end)),
            )
        yield from ((fit.region, upper, _along(fit.upper, depth)) for upper in ("tilt_top", "lordosis"))
        yield fit.region, "tilt_bottom", _along(fit.lower, depth)
        if name in below:
            corner = fit.lower.corner
            yield fit.region, "slip", (corner - slip_vector(fit.lower, below[name]), corner)
    if sacral is not None:
        region = next(region for region in spine.regions if region.structure.kind is Kind.SACRUM)
        ends = _along(sacral, sacral.above.front - sacral.above.back)
        yield from ((region, upper, ends) for upper in ("tilt_top", "lordosis"))


def _frame_lines(fit: Fit, spine: SpineGeometry) -> Iterator[tuple[str, tuple[Point, Point]]]:
    """Yield heights, depth and canal width: both ends as (x, y) in the frame of the structure, mm."""
    for name, band in (("posterior", BACK), ("middle", MIDDLE), ("anterior", FRONT)):
        x = fit.back + float(np.mean(band)) * (fit.front - fit.back)
        column = int(np.argmin(np.abs(fit.x - x)))
        yield name, ((x, float(fit.bottom[column])), (x, float(fit.top[column])))
    yield "depth", ((fit.back, 0.0), (fit.front, 0.0))
    walls = spine.canal_walls(fit)
    if walls:
        yield "canal", ((walls[0], 0.0), (walls[1], 0.0))


def _along(endplate: Endplate, length: float) -> tuple[Array, Array]:
    forward = np.array([np.cos(endplate.lean), -np.sin(endplate.lean)])
    return endplate.corner, endplate.corner + length * forward


def _to_voxels(spine: SpineGeometry, region: Region, points: tuple[Array, Array]) -> tuple[Point, Point]:
    """Convert points in the plane of a structure to voxel indices."""
    origin = spine.offset + spine.matrix[:, 0] * region.middle
    start, end = (np.linalg.solve(spine.matrix[:, 1:], point - origin) for point in points)
    return (float(start[0]), float(start[1])), (float(end[0]), float(end[1]))
