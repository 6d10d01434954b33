"""The column as geometry in millimetres: bodies, discs, sacral segments and the canal, grown upward from S1.

A frame is a 3 x 3 matrix whose columns are the structure's own axes (lateral, anterior, up) in RAS millimetres.
Sizes are half lengths. Typical values: Panjabi et al., Spine 17:299 (1992); Frobin et al., Clin Biomech 12 (1997).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from lumbarseg import anatomy

Array = np.ndarray
Vector = tuple[float, float, float]
Frame = tuple[Vector, Vector, Vector]

VERTEBRA_COUNT = 13  # vertebrae grown above the sacrum: more than any drawn field of view holds

# share of the lumbar lordosis in each disc and body from L5-S1 upward, and their heights at size 1
_DISC_LORDOSIS_FRACTION = (0.26, 0.22, 0.17, 0.13, 0.10, 0.07, 0.04, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0)
_BODY_LORDOSIS_FRACTION = (0.15, 0.05, 0.01, 0.0, -0.02, -0.04, -0.05, -0.05, -0.05, -0.05, -0.05, -0.05, -0.05)
_DISC_HEIGHT = (7.6, 8.4, 8.0, 7.3, 6.6, 5.5, 4.5, 4.0, 3.8, 3.8, 3.7, 3.6, 3.5, 0.76, 0.74, 0.72)
_DEPTH = (1.0, 1.02, 1.02, 1.0, 0.98, 0.95, 0.92, 0.89, 0.86, 0.83, 0.81, 0.78, 0.76)
_WIDTH = (1.08, 1.04, 1.0, 0.96, 0.92, 0.88, 0.84, 0.80, 0.77, 0.75, 0.73, 0.71, 0.70)
_HEIGHT = (1.0, 1.02, 1.02, 1.0, 0.97, 0.93, 0.88, 0.84, 0.80, 0.78, 0.76, 0.74, 0.72)


@dataclass(frozen=True)
class Body:
    """A vertebral body with its posterior elements; `hollow` is the concavity of an endplate, mm."""

    level: str
    centre: Vector
    frame: Frame
    depth: float
    width: float
    height: float
    wedge: float  # slope of either endplate against the frame, radians
    hollow_top: float
    hollow_bottom: float
    waist: float  # how much narrower the middle is than the rims
    exponent: float  # of the superellipse seen from above; 2 is an ellipse
    dent: float  # how far the back wall is concave in the midline, mm
    lip: float  # osteophytes at the rims, mm
    shell: float  # the dark line about it: cortical bone, widened by chemical shift and partial volume, mm
    gain: float  # signal against other bodies
    vein: float  # basivertebral vein: half height in mm, 0 for none
    nodes: tuple[tuple[float, ...], ...]  # Schmorl nodes: end (+1 top), anterior, lateral, radius in mm
    lesions: tuple[tuple[float, ...], ...]  # lateral, anterior, up, radius in mm, tissue index
    modic: float  # endplate signal change, positive bright, 0 none
    arch: tuple[float, ...]  # pedicle offset; spinous length, tilt, jitter; transverse length; spinous height
    metal: bool  # screws through the pedicles, and rods


@dataclass(frozen=True)
class Disc:
    """An intervertebral disc; degeneration 0 (bright, high) to 1 (black, thin)."""

    name: str
    centre: Vector
    frame: Frame
    depth: float
    width: float
    height: float
    wedge: float
    bulge: float  # convexity into the hollow endplates, mm
    exponent: float
    degeneration: float
    hernia: float  # protrusion into the canal, mm
    cleft: bool
    stenosis: float  # narrowing of the canal here, share
    gain: float


@dataclass(frozen=True)
class SacralSegment:
    """One sacral vertebra; gap: half height of the rudimentary disc below it, mm."""

    centre: Vector
    frame: Frame
    depth: float
    width: float
    height: float
    taper: float
    gap: float
    bright_gap: bool


@dataclass(frozen=True)
class Spine:
    """bodies and discs from the lowest upward: discs[0] lies on the sacrum; segments from S1 downward."""

    size: float
    bodies: tuple[Body, ...]
    discs: tuple[Disc, ...]
    segments: tuple[SacralSegment, ...]
    canal_depth: float
    canal_width: float
    conus: float  # height of the cord's end, mm

    @property
    def lumbar_count(self) -> int:
        """Number of lumbar vertebrae."""
        return sum(body.level.startswith("L") for body in self.bodies)


def from_dict(values: dict[str, Any]) -> Spine:
    """A spine from the values of a recipe, tuples already restored."""
    parts = {
        "bodies": tuple(Body(**b) for b in values["bodies"]),
        "discs": tuple(Disc(**d) for d in values["discs"]),
        "segments": tuple(SacralSegment(**s) for s in values["segments"]),
    }
    return Spine(**{**values, **parts})


def sagittal_rotation(angle: float) -> Array:
    """Rotation that tilts the up axis forward by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def coronal_rotation(angle: float) -> Array:
    """Rotation that tilts the up axis sideways by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def axial_rotation(angle: float) -> Array:
    """Rotation about the up axis by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _to_vector(v: Array) -> Vector:
    return float(v[0]), float(v[1]), float(v[2])


def _to_frame(m: Array) -> Frame:
    return _to_vector(m[0]), _to_vector(m[1]), _to_vector(m[2])


def draw_spine(rng: Generator, lumbar_count: int = 5) -> Spine:
    """A spine standing upright about the origin at the top of S1, with all its faults drawn."""
    size = rng.uniform(0.84, 1.16)
    slope, lordosis = np.deg2rad(np.clip(rng.normal(40, 9), 15, 65)), np.deg2rad(np.clip(rng.normal(44, 13), 8, 80))
    bend = _draw_scoliosis(rng)
    depth, width, height = (
        mean * size * rng.uniform(*spread)
        for mean, spread in ((16.8, (0.92, 1.1)), (21.4, (0.9, 1.1)), (13.6, (0.92, 1.08)))
    )
    names = anatomy.levels_upward(f"L{lumbar_count}", VERTEBRA_COUNT)
    degeneration = np.clip(rng.beta(1.2, 1.6) + rng.normal(0, 0.25, VERTEBRA_COUNT), 0, 1)
    operated = _draw_bodies_with_metal(rng)
    bodies: list[Body] = []
    discs: list[Disc] = []
    top, angle = np.zeros(3), slope
    below = (depth * 1.02, width * 1.06)
    for i, level in enumerate(names):
        lumbar_part = 1.0 if i < lumbar_count else 0.0
        disc_wedge = lordosis * _DISC_LORDOSIS_FRACTION[i] * rng.normal(1, 0.15) + (1 - lumbar_part) * rng.normal(
            0, 0.02
        )
        thickness = _draw_disc_height(rng, size * _DISC_HEIGHT[i], degeneration[i])
        disc_wedge = float(np.clip(disc_wedge, -0.05, min(0.38, 0.75 * thickness / below[0])))
        here = (depth * _DEPTH[i] * rng.uniform(0.97, 1.03), width * _WIDTH[i] * rng.uniform(0.97, 1.03))
        slip = rng.uniform(-0.18, 0.35) * below[0] if rng.random() < (0.08 if i < 2 else 0.02) else 0.0
        fused = rng.random() < 0.015
        thickness = 0.8 if fused else thickness
        frame = bend(angle - disc_wedge / 2, i + 0.5)
        centre = top + bend(angle, i)[:, 2] * thickness * 0.5 + frame[:, 1] * slip * 0.5
        name = f"{level}-{names[i - 1] if i else 'S1'}"
        discs.append(
            _draw_disc(rng, name, centre, frame, (below[0] + here[0]) / 2, (below[1] + here[1]) / 2, size)(
                thickness / 2, disc_wedge / 2, 1.0 if fused else float(degeneration[i])
            )
        )
        top = top + frame[:, 2] * thickness + frame[:, 1] * slip
        angle -= disc_wedge
        body_wedge = (
            lordosis * _BODY_LORDOSIS_FRACTION[i] + rng.normal(0, 0.025) - (1 - lumbar_part) * rng.uniform(0, 0.05)
        )
        crush = rng.uniform(0.15, 0.55) if rng.random() < 0.06 else 0.0
        body_wedge = float(np.clip(body_wedge - crush * 0.45 * rng.random(), -0.4, 0.2))
        tall = height * _HEIGHT[i] * rng.uniform(0.95, 1.05) * (1 - crush * 0.5)
        frame = bend(angle - body_wedge / 2, i + 1)
        centre = top + frame[:, 2] * tall
        make = _draw_body(rng, level, centre, frame, here, size)
        bodies.append(make(tall, body_wedge / 2, crush, float(degeneration[i]), i in operated))
        top = centre + frame[:, 2] * tall
        angle -= body_wedge
        below = here
    segments = _draw_sacrum(rng, slope, depth * 1.02, width * 1.1, height * 1.02, bend)
    grown = Spine(
        size=size,
        bodies=tuple(bodies),
        discs=tuple(discs),
        segments=segments,
        canal_depth=rng.uniform(6.0, 8.8) * size,
        canal_width=rng.uniform(9.5, 12.5) * size,
        conus=0.0,
    )
    upright = _turn_upright(rng, grown)
    return replace(upright, conus=upright.bodies[lumbar_count - 1].centre[2] + rng.normal(-8, 15))


def _draw_bodies_with_metal(rng: Generator) -> range:
    """Which bodies, counted from the lowest, hold metal: two to four that follow each other in one spine of twenty."""
    first, count = int(rng.integers(4)), int(rng.integers(2, 5))
    return range(first, first + count) if rng.random() < 0.05 else range(0)


def _draw_scoliosis(rng: Generator) -> Any:
    """A function (sagittal angle, height in levels) -> frame, with a sideways curve and the rotation coupled to it."""
    kind = rng.random()
    amplitude = rng.normal(0, 0.3) if kind < 0.12 else rng.normal(0, 0.07) if kind < 0.5 else rng.normal(0, 0.02)
    phase, pitch, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.8), rng.normal(0, 0.04)

    def frame(angle: float, height: float) -> Array:
        side = amplitude * np.sin(pitch * height + phase)
        return axial_rotation(turn + 0.6 * side) @ coronal_rotation(side) @ sagittal_rotation(angle)

    return frame


def _draw_disc_height(rng: Generator, typical: float, degeneration: float) -> float:
    return float(max(typical * rng.uniform(0.82, 1.14) * (1 - 0.55 * degeneration**2 * rng.uniform(0.3, 1.1)), 1.8))


def _draw_disc(rng: Generator, name: str, centre: Array, frame: Array, depth: float, width: float, size: float) -> Any:
    def make(height: float, wedge: float, degeneration: float) -> Disc:
        hernia = rng.uniform(2, 6) if rng.random() < 0.25 * degeneration + 0.05 else 0.0
        return Disc(
            name=name,
            centre=_to_vector(centre),
            frame=_to_frame(frame),
            depth=depth * rng.uniform(0.97, 1.04) + degeneration * rng.uniform(0, 2),
            width=width * rng.uniform(0.95, 1.02),
            height=height,
            wedge=wedge,
            bulge=rng.uniform(0.6, 2.2) * size,
            exponent=rng.uniform(1.9, 2.3),
            degeneration=degeneration,
            hernia=hernia,
            cleft=bool(degeneration < 0.5 and rng.random() < 0.6),
            stenosis=rng.uniform(0, 0.35) * degeneration + (0.3 if hernia > 4 else 0.0),
            gain=rng.uniform(0.85, 1.15),
        )

    return make


def _draw_body(rng: Generator, level: str, centre: Array, frame: Array, half: tuple[float, float], size: float) -> Any:
    def make(height: float, wedge: float, crush: float, degeneration: float, metal: bool) -> Body:
        depth, width = half
        lumbar = level.startswith("L")
        nodes = [
            (
                rng.choice([-1.0, 1.0]),
                rng.uniform(-0.5, 0.6) * depth,
                rng.uniform(-0.5, 0.5) * width,
                rng.uniform(2.5, 6),
            )
            for _ in range(rng.poisson(0.25))
        ]
        lesions = [
            (*(rng.uniform(-0.5, 0.5, 3) * (width, depth, height)), rng.uniform(3, 9), int(rng.integers(3)))
            for _ in range(rng.poisson(0.1))
        ]
        return Body(
            level=level,
            centre=_to_vector(centre),
            frame=_to_frame(frame),
            depth=depth,
            width=width,
            height=height,
            wedge=wedge,
            hollow_top=rng.uniform(0.3, 2.4) * size * (1 + 2 * crush),
            hollow_bottom=rng.uniform(0.3, 2.4) * size,
            waist=rng.uniform(0.08, 0.2),
            exponent=rng.uniform(1.85, 2.3),
            dent=rng.uniform(0, 2.5),
            lip=rng.uniform(0, 3) * degeneration**2,
            shell=rng.uniform(0.9, 1.7),
            gain=rng.uniform(0.9, 1.1),
            vein=rng.uniform(0.8, 1.8) if rng.random() < 0.6 else 0.0,
            nodes=tuple(tuple(float(v) for v in n) for n in nodes),
            lesions=tuple(tuple(float(v) for v in n) for n in lesions),
            modic=rng.uniform(-0.5, 0.7) if rng.random() < 0.12 * (1 + degeneration) else 0.0,
            arch=(
                rng.uniform(0.54, 0.66),
                rng.uniform(12, 17),
                rng.uniform(-0.1, 0.25) if lumbar else rng.uniform(0.35, 0.8),
                rng.normal(0, 1.0),
                13.0 if lumbar else 9.0,
                rng.uniform(8.5, 13) if lumbar else rng.uniform(5.5, 8),
            ),
            metal=metal,
        )

    return make


def _draw_sacrum(
    rng: Generator, slope: float, depth: float, width: float, height: float, bend: Any
) -> tuple[SacralSegment, ...]:
    """Four sacral vertebrae downward from the top of S1 at the origin."""
    segments = []
    top, angle = np.zeros(3), slope
    for j in range(4):
        frame = bend(angle, -j)
        centre = top - frame[:, 2] * height
        gap = rng.uniform(0.8, 3.2) if j == 0 else rng.uniform(0.4, 1.5)
        segments.append(
            SacralSegment(
                centre=_to_vector(centre),
                frame=_to_frame(frame),
                depth=depth,
                width=width,
                height=height,
                taper=rng.uniform(0.12, 0.24),
                gap=gap,
                bright_gap=bool(gap > 1.6 and rng.random() < 0.7),
            )
        )
        top = centre - frame[:, 2] * (height + gap)
        angle -= np.deg2rad(rng.uniform(-4, 8) if j < 2 else rng.uniform(3, 18))  # the sacrum is hollow in front
        depth, width, height = depth * rng.uniform(0.66, 0.78), width * 0.88, height * rng.uniform(0.82, 0.93)
    return tuple(segments)


def _turn_upright(rng: Generator, spine: Spine) -> Spine:
    """The chain turned so that S1 to T12 stands upright, give or take; a patient lies a little turned as well.

    Without this half of the phantoms would lean by 45 degrees and look like nothing real.
    """
    lean = np.array(spine.bodies[5].centre) - np.array(spine.segments[0].centre)
    turn = sagittal_rotation(-np.arctan2(lean[1], lean[2]) + np.deg2rad(rng.normal(0, 6)))
    turn = axial_rotation(rng.normal(0, 0.06)) @ coronal_rotation(rng.normal(0, 0.04)) @ turn

    def turned(part: Any) -> Any:
        return replace(part, centre=_to_vector(turn @ part.centre), frame=_to_frame(turn @ np.array(part.frame)))

    return replace(
        spine,
        bodies=tuple(turned(b) for b in spine.bodies),
        discs=tuple(turned(d) for d in spine.discs),
        segments=tuple(turned(s) for s in spine.segments),
    )
