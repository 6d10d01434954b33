"""Measurements of a segmented spine: volumes, heights of bodies and discs, endplate angles, slips, canal width.

Everything but the volume is measured in the sagittal plane of the exam nearest to the middle of a structure, in
millimetres, whatever the order of the axes and the thickness of the slices. A rotated vertebra is not rotated back.
Anterior and posterior heights and the depth follow Frobin et al., Clin Biomech 12, suppl. 1 (1997), with the rims of
the label in place of four marked corners; angles between endplates follow Cobb, Instr Course Lect 5 (1948).
docs/measurements.md defines each with a drawing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from lumbarseg.anatomy import LEVELS, Kind
from lumbarseg.resampling import reverse_world_axes
from lumbarseg.volume import Array, Volume

from .geometry import BACK, FRONT, MIDDLE, Endplate, Fit, SacralEndplate, SpineGeometry

_ANGLES = ("tilt_top", "tilt_bottom", "segmental_lordosis")
_APPLICABLE = {
    Kind.BODY: ("anterior", "middle", "posterior", "depth", "wedge", *_ANGLES, "canal", "slip"),
    Kind.DISC: ("anterior", "middle", "posterior", "depth", "wedge", "canal"),
    Kind.SACRUM: ("tilt_top",),
}
"""Measurements of each kind of structure; all have a volume."""
MEASUREMENT_NAMES = ("volume", *_APPLICABLE[Kind.BODY])
"""Names of all measurements of a structure."""
LORDOSIS_ENDPLATES = ("L1", "sacrum")
"""Structures between whose upper endplates the lumbar lordosis is measured."""


@dataclass(frozen=True)
class Measurement:
    """The measurements of one structure; None where one does not apply or could not be taken.

    Attributes
    ----------
    volume : ml, of all voxels
    complete : whether the structure ends inside the exam, in plane; only then it has other measurements
    anterior, middle, posterior, depth : heights and depth, mm
    wedge : angle between its two endplates, degrees, positive when they open anteriorly
    tilt_top, tilt_bottom : of the endplates against the horizontal, degrees, positive when they face forward
    segmental_lordosis : angle between the upper endplates of a body and of the one below, degrees, positive lordotic
    canal : antero-posterior width of the canal behind it, mm
    slip : of a body on the one below, mm, positive forward
    not_measured : the reason for each measurement that applies but could not be taken
    """

    name: str
    kind: Kind
    volume: float
    complete: bool
    anterior: float | None = None
    middle: float | None = None
    posterior: float | None = None
    depth: float | None = None
    wedge: float | None = None
    tilt_top: float | None = None
    tilt_bottom: float | None = None
    segmental_lordosis: float | None = None
    canal: float | None = None
    slip: float | None = None
    not_measured: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without what was not measured."""
        return {key: value for key, value in asdict(self).items() if value is not None and value != {}}


@dataclass(frozen=True, eq=False)
class MeasuredSpine:
    """The measurements of a label map, and what they were taken from.

    Attributes
    ----------
    rows : measurements of every structure, from head to foot
    geometry : the structures in the sagittal plane
    fits : of bodies and discs, by name
    sacral_endplate : the upper endplate of the sacrum
    below : the endplate below each body that stands on a measured neighbour, by the name of the body
    """

    rows: list[Measurement]
    geometry: SpineGeometry
    fits: Mapping[str, Fit]
    sacral_endplate: SacralEndplate | None
    below: Mapping[str, Endplate]


def measure_structures(labels: Volume, flips: tuple[bool, bool] = (False, False)) -> list[Measurement]:
    """Measure every structure of a label map, from head to foot; arguments as of `measure_spine`."""
    return measure_spine(labels, flips).rows


def measure_spine(labels: Volume, flips: tuple[bool, bool] = (False, False)) -> MeasuredSpine:
    """Measure every structure of a label map, and keep where: `locate_measurements` draws from that.

    Parameters
    ----------
    labels : (I, J, K) uint8, labels of `anatomy.STRUCTURES`, any axes
    flips : whether the header swaps front and back, and head and feet
    """
    spine = SpineGeometry.of(reverse_world_axes(labels, flips))
    voxel = abs(float(np.linalg.det(labels.affine[:3, :3]))) / 1000
    fits = spine.fit_bodies_and_discs()
    endplate = spine.fit_sacral_endplate(fits)
    below = dict(endplates_below(fits, endplate, spine))
    rows = []
    for region in spine.regions:
        name, kind = region.structure.name, region.structure.kind
        row = Measurement(name, kind, round(region.count * voxel, 3), region.complete)
        if name in fits:
            row = _with_sizes(row, fits[name], spine, below.get(name))
        elif kind is Kind.SACRUM and endplate is not None:
            row = replace(row, tilt_top=_degrees(endplate.lean))
        rows.append(replace(row, not_measured=_missing_reasons(row, name in fits)))
    return MeasuredSpine(rows, spine, fits, endplate, below)


def _missing_reasons(row: Measurement, is_fitted: bool) -> dict[str, str]:
    """Return the reason for each measurement that applies to a structure but was not taken."""
    no_neighbour = "no measured endplate in view below it"
    reasons = {"canal": "no canal in view behind it", "slip": no_neighbour, "segmental_lordosis": no_neighbour}
    if row.kind is Kind.SACRUM:
        reasons = {"tilt_top": "its upper endplate is not in view below the lowest disc or body"}
    elif not row.complete:
        reasons = dict.fromkeys(_APPLICABLE.get(row.kind, ()), "the edge of the image cuts it off")
    elif not is_fitted:
        reasons = dict.fromkeys(_APPLICABLE.get(row.kind, ()), "it is too small or too irregular to measure")
    fallback = "its outline is too irregular there"
    applicable = _APPLICABLE.get(row.kind, ())
    return {key: reasons.get(key, fallback) for key in applicable if getattr(row, key) is None}


def lumbar_lordosis(measurements: Sequence[Measurement]) -> float | None:
    """Return the angle between the upper endplates of L1 and the sacrum, degrees; None where one is not measured."""
    tilts = {row.name: row.tilt_top for row in measurements}
    top, bottom = (tilts.get(name) for name in LORDOSIS_ENDPLATES)
    return None if top is None or bottom is None else round(bottom - top, 1)


def _with_sizes(row: Measurement, fit: Fit, spine: SpineGeometry, below: Endplate | None) -> Measurement:
    walls = spine.canal_walls(fit)
    row = replace(
        row,
        anterior=fit.height(FRONT),
        middle=fit.height(MIDDLE),
        posterior=fit.height(BACK),
        depth=round(fit.front - fit.back, 1),
        wedge=_degrees(fit.lower.lean - fit.upper.lean),
        canal=round(walls[1] - walls[0], 1) if walls else None,
    )
    if row.kind is Kind.DISC:
        return row
    row = replace(row, tilt_top=_degrees(fit.upper.lean), tilt_bottom=_degrees(fit.lower.lean))
    if below is None:
        return row
    slip = float(slip_vector(fit.lower, below) @ _forward(fit.lower, below))
    return replace(row, slip=round(slip, 1), segmental_lordosis=_degrees(below.lean - fit.upper.lean))


def endplates_below(
    fits: Mapping[str, Fit], sacral: SacralEndplate | None, spine: SpineGeometry
) -> Iterator[tuple[str, Endplate]]:
    """Yield each body that stands on a measured neighbour, with the upper endplate of the body or sacrum below it."""
    body_orders = [r.structure.order for r in spine.regions if r.structure.kind is Kind.BODY]
    bodies = [fits[level] for level in LEVELS if level in fits]
    for upper, lower in pairwise(bodies):
        orders = (upper.region.structure.order, lower.region.structure.order)
        if not any(orders[0] < order < orders[1] for order in body_orders):  # else one not measured is between them
            yield upper.region.structure.name, lower.upper
    if bodies and sacral is not None:
        lowest = bodies[-1].region.structure
        if sacral.above.region.structure.order - lowest.order < 10:
            yield lowest.name, sacral


def slip_vector(lower: Endplate, below: Endplate) -> Array:
    """Return how far a body is displaced against the one below, along the bisector of both endplates.

    Parameters
    ----------
    lower : lower endplate of the body
    below : upper endplate of the body or sacrum below

    Returns
    -------
    (2,) anterior and superior, mm
    """
    forward = _forward(lower, below)
    return forward * float((lower.corner - below.corner) @ forward)


def _forward(lower: Endplate, below: Endplate) -> Array:
    """Return the anterior unit vector along the bisector of two endplates."""
    lean = (lower.lean + below.lean) / 2
    return np.array([np.cos(lean), -np.sin(lean)])


def _degrees(radians: float) -> float:
    return round(float(np.rad2deg(radians)), 1)
