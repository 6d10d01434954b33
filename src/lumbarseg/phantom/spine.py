"""The spine as geometry in millimetres: bodies, discs, sacral segments and the canal, built up from S1.

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

VERTEBRA_COUNT = 13  # vertebrae above the sacrum: more than any field of view shows

# fraction of the lumbar lordosis in each disc and body from L5-S1 upward, and their half lengths at size 1
_DISC_LORDOSIS_FRACTION = (0.26, 0.22, 0.17, 0.13, 0.10, 0.07, 0.04, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0)
_BODY_LORDOSIS_FRACTION = (0.15, 0.05, 0.01, 0.0, -0.02, -0.04, -0.05, -0.05, -0.05, -0.05, -0.05, -0.05, -0.05)
_DISC_HEIGHT = (7.6, 8.4, 8.0, 7.3, 6.6, 5.5, 4.5, 4.0, 3.8, 3.8, 3.7, 3.6, 3.5, 0.76, 0.74, 0.72)
_DEPTH = (1.0, 1.02, 1.02, 1.0, 0.98, 0.95, 0.92, 0.89, 0.86, 0.83, 0.81, 0.78, 0.76)
_WIDTH = (1.08, 1.04, 1.0, 0.96, 0.92, 0.88, 0.84, 0.80, 0.77, 0.75, 0.73, 0.71, 0.70)
_HEIGHT = (1.0, 1.02, 1.02, 1.0, 0.97, 0.93, 0.88, 0.84, 0.80, 0.78, 0.76, 0.74, 0.72)

# The sacrum. S1 is 28.3 +- 3.5 mm deep and 47 +- 5 mm wide, the bodies 36.7, 29.8 and 26.5 mm wide below S1, S2 and S3
# (32 sacra: Morphometric analysis and clinical significance of the os sacrum, J Med Palliat Care); it is 94 (women) to
# 108 mm (men) long from promontory to apex, and 1.11 and 1.05 times as long along its curve (60 sacra, Bangladesh J
# Anat 15(2), doi 10.3329/bja.v15i2.75216); its slope is 44.5 +- 9.9, 18 to 71 degrees supine (274 people: Okpala, Ann
# Med Health Sci Res). In CT label maps of two people S1 was 26 and 27 mm deep, at slopes of 40 and 50 degrees.
_S1_DEPTH = 0.92  # of its upper endplate, of a body's: more than in dry bones, as MRI shows it with its rim
_SACRAL_WIDTH = (1.0, 0.76, 0.64, 0.57, 0.55)  # of S1
_SACRAL_BEND = ((0.0, 10.0), (5.0, 19.0), (5.0, 19.0), (0.0, 10.0))  # degrees below each segment, concave anteriorly


@dataclass(frozen=True)
class Body:
    """A vertebral body with its posterior elements; hollow_top and hollow_bottom: concavity of the endplates, mm."""

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
    dent: float  # concavity of the posterior wall in the midline, mm
    lip: float  # osteophytes at the rims, mm
    shell: float  # dark edge: cortical bone, widened by chemical shift and partial volume, mm
    gain: float  # signal relative to other bodies
    vein: float  # basivertebral vein: half height in mm, 0 for none
    nodes: tuple[tuple[float, ...], ...]  # Schmorl nodes: end (+1 top), anterior, lateral, radius in mm
    lesions: tuple[tuple[float, ...], ...]  # lateral, anterior, up, radius in mm, tissue index
    modic: float  # endplate signal change, positive bright, 0 none
    arch: tuple[
        float, ...
    ]  # factors of `arch_dimensions`: pedicle offset, spinous length; tilt, jitter; transverse; height
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
    stenosis: float  # fraction by which the canal is narrowed
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
    """A spine; bodies and discs from the lowest upward (discs[0] lies on the sacrum), segments from S1 downward."""

    size: float
    bodies: tuple[Body, ...]
    discs: tuple[Disc, ...]
    segments: tuple[SacralSegment, ...]
    canal_depth: float
    canal_width: float
    conus: float  # height of the end of the cord, mm

    @property
    def lumbar_count(self) -> int:
        """Return the number of lumbar vertebrae."""
        return sum(body.level.startswith("L") for body in self.bodies)


@dataclass(frozen=True)
class ArchDimensions:
    """Posterior elements of a vertebra of size 1, mm, lateral values to one side.

    Means of up to four sources per level (Visible Human; Clouthier et al., mean of 87; TotalSegmentator's CT) and
    of Panjabi et al., Spine 16:888 (1991) and 17:299 (1992). Facets keep 1 to 3 mm.
    """

    pedicle: float  # offset
    pedicle_width: float  # half
    superior_facet: float  # offset
    inferior_facet: float  # offset
    transverse: float  # half of the span
    spinous: float  # from the back wall of the body to the tip
    spinous_height: float  # half


_ARCHES = {
    "L5": ArchDimensions(22.0, 8.5, 21.0, 17.0, 48.0, 45.0, 9.5),
    "L4": ArchDimensions(18.0, 6.6, 17.5, 14.0, 45.0, 51.0, 12.0),
    "L3": ArchDimensions(15.0, 5.1, 16.5, 12.0, 46.0, 54.0, 13.0),
    "L2": ArchDimensions(14.0, 4.5, 15.5, 10.5, 42.0, 54.0, 13.0),
    "L1": ArchDimensions(13.5, 4.4, 15.0, 10.0, 36.5, 52.0, 13.0),
    "T12": ArchDimensions(13.0, 4.2, 13.5, 9.5, 27.0, 48.0, 10.0),
    "T11": ArchDimensions(12.0, 4.2, 11.5, 7.5, 27.5, 47.0, 9.0),
}
_UPPER_ARCH = ArchDimensions(11.5, 4.0, 11.0, 7.5, 29.0, 50.0, 6.5)


def arch_dimensions(level: str) -> ArchDimensions:
    """Return the posterior elements of a level; those of a sixth lumbar vertebra are those of L5."""
    return _ARCHES.get("L5" if level == "L6" else level, _UPPER_ARCH)


def spine_from_dict(values: dict[str, Any]) -> Spine:
    """Return the spine of values from a recipe whose lists are tuples again."""
    parts = {
        "bodies": tuple(Body(**b) for b in values["bodies"]),
        "discs": tuple(Disc(**d) for d in values["discs"]),
        "segments": tuple(SacralSegment(**s) for s in values["segments"]),
    }
    return Spine(**{**values, **parts})


def sagittal_rotation(angle: float) -> Array:
    """Return the rotation that tilts the up axis forward by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def coronal_rotation(angle: float) -> Array:
    """Return the rotation that tilts the up axis sideways by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def axial_rotation(angle: float) -> Array:
    """Return the rotation about the up axis by `angle` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def _to_vector(v: Array) -> Vector:
    return float(v[0]), float(v[1]), float(v[2])


def _to_frame(m: Array) -> Frame:
    return _to_vector(m[0]), _to_vector(m[1]), _to_vector(m[2])


def sample_spine(rng: Generator, lumbar_count: int = 5) -> Spine:
    """Sample an upright spine, with its pathologies, around the origin at the top of S1."""
    size = rng.uniform(0.84, 1.16)
    slope, lordosis = np.deg2rad(np.clip(rng.normal(40, 9), 15, 65)), np.deg2rad(np.clip(rng.normal(44, 13), 8, 80))
    frame_at = _sample_scoliosis(rng)
    depth, width, height = (
        mean * size * rng.uniform(*spread)
        for mean, spread in ((16.8, (0.92, 1.1)), (21.4, (0.9, 1.1)), (13.6, (0.92, 1.08)))
    )
    names = anatomy.levels_upward(f"L{lumbar_count}", VERTEBRA_COUNT)
    degeneration = np.clip(rng.beta(1.2, 1.6) + rng.normal(0, 0.25, VERTEBRA_COUNT), 0, 1)
    with_metal = _sample_bodies_with_metal(rng)
    bodies: list[Body] = []
    discs: list[Disc] = []
    top, angle = np.zeros(3), slope
    below = (depth * _S1_DEPTH, width * 1.06)  # half depth and half width of the endplate below
    for i, level in enumerate(names):
        thoracic = 0.0 if i < lumbar_count else 1.0
        wedge = lordosis * _DISC_LORDOSIS_FRACTION[i] * rng.normal(1, 0.15) + thoracic * rng.normal(0, 0.02)
        thickness = _sample_disc_height(rng, size * _DISC_HEIGHT[i], degeneration[i])
        wedge = float(np.clip(wedge, -0.05, min(0.38, 0.75 * thickness / below[0])))
        half = (depth * _DEPTH[i] * rng.uniform(0.97, 1.03), width * _WIDTH[i] * rng.uniform(0.97, 1.03))
        slip = rng.uniform(-0.18, 0.35) * below[0] if rng.random() < (0.08 if i < 2 else 0.02) else 0.0
        fused = rng.random() < 0.015
        thickness = 0.8 if fused else thickness
        frame = frame_at(angle - wedge / 2, i + 0.5)
        centre = top + frame_at(angle, i)[:, 2] * thickness * 0.5 + frame[:, 1] * slip * 0.5
        disc_half = ((below[0] + half[0]) / 2, (below[1] + half[1]) / 2, thickness / 2)
        name = f"{level}-{names[i - 1] if i else 'S1'}"
        worn = 1.0 if fused else float(degeneration[i])
        discs.append(_sample_disc(rng, name, centre, frame, disc_half, wedge / 2, worn, size))
        top = top + frame[:, 2] * thickness + frame[:, 1] * slip
        angle -= wedge
        wedge = lordosis * _BODY_LORDOSIS_FRACTION[i] + rng.normal(0, 0.025) - thoracic * rng.uniform(0, 0.05)
        crush = rng.uniform(0.15, 0.55) if rng.random() < 0.06 else 0.0
        wedge = float(np.clip(wedge - crush * 0.45 * rng.random(), -0.4, 0.2))
        half_height = height * _HEIGHT[i] * rng.uniform(0.95, 1.05) * (1 - crush * 0.5)
        frame = frame_at(angle - wedge / 2, i + 1)
        centre = top + frame[:, 2] * half_height
        body_half = (*half, half_height)
        body = _sample_body(rng, level, centre, frame, body_half, wedge / 2, crush, float(degeneration[i]), size)
        bodies.append(replace(body, metal=i in with_metal))
        top = centre + frame[:, 2] * half_height
        angle -= wedge
        below = half
    segments = _sample_sacrum(rng, slope, (depth, width, height), frame_at)
    canal = rng.uniform(6.0, 8.8) * size, rng.uniform(9.5, 12.5) * size
    upright = _turn_upright(rng, Spine(size, tuple(bodies), tuple(discs), segments, *canal, conus=0.0))
    return replace(upright, conus=upright.bodies[lumbar_count - 1].centre[2] + rng.normal(-8, 15))


def _sample_bodies_with_metal(rng: Generator) -> range:
    """Sample which bodies, counted from the lowest, have screws: in one spine of twenty, two to four neighbours."""
    first, count = int(rng.integers(4)), int(rng.integers(2, 5))
    return range(first, first + count) if rng.random() < 0.05 else range(0)


def _sample_scoliosis(rng: Generator) -> Any:
    """Return a function (sagittal angle, height in levels) -> frame, with a lateral curve and its coupled rotation."""
    kind = rng.random()
    amplitude = rng.normal(0, 0.3) if kind < 0.12 else rng.normal(0, 0.07) if kind < 0.5 else rng.normal(0, 0.02)
    phase, pitch, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.8), rng.normal(0, 0.04)

    def frame_at(angle: float, height: float) -> Array:
        lateral = amplitude * np.sin(pitch * height + phase)
        return axial_rotation(turn + 0.6 * lateral) @ coronal_rotation(lateral) @ sagittal_rotation(angle)

    return frame_at


def _sample_disc_height(rng: Generator, typical: float, degeneration: float) -> float:
    return float(max(typical * rng.uniform(0.82, 1.14) * (1 - 0.55 * degeneration**2 * rng.uniform(0.3, 1.1)), 1.8))


def _sample_disc(
    rng: Generator,
    name: str,
    centre: Array,
    frame: Array,
    half: tuple[float, float, float],
    wedge: float,
    degeneration: float,
    size: float,
) -> Disc:
    """Sample one disc; half: depth, width and height, half lengths in mm."""
    hernia = rng.uniform(2, 6) if rng.random() < 0.25 * degeneration + 0.05 else 0.0
    return Disc(
        name=name,
        centre=_to_vector(centre),
        frame=_to_frame(frame),
        depth=half[0] * rng.uniform(0.97, 1.04) + degeneration * rng.uniform(0, 2),
        width=half[1] * rng.uniform(0.95, 1.02),
        height=half[2],
        wedge=wedge,
        bulge=rng.uniform(0.6, 2.2) * size,
        exponent=rng.uniform(1.9, 2.3),
        degeneration=degeneration,
        hernia=hernia,
        cleft=bool(degeneration < 0.5 and rng.random() < 0.6),
        stenosis=rng.uniform(0, 0.35) * degeneration + (0.3 if hernia > 4 else 0.0),
        gain=rng.uniform(0.85, 1.15),
    )


def _sample_body(
    rng: Generator,
    level: str,
    centre: Array,
    frame: Array,
    half: tuple[float, float, float],
    wedge: float,
    crush: float,
    degeneration: float,
    size: float,
) -> Body:
    """Sample one vertebral body; half: depth, width and height, half lengths in mm; crush: 0 for none, 1 for all."""
    depth, width, height = half
    nodes = [
        (rng.choice([-1.0, 1.0]), rng.uniform(-0.5, 0.6) * depth, rng.uniform(-0.5, 0.5) * width, rng.uniform(2.5, 6))
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
        nodes=tuple(tuple(float(v) for v in node) for node in nodes),
        lesions=tuple(tuple(float(v) for v in lesion) for lesion in lesions),
        modic=rng.uniform(-0.5, 0.7) if rng.random() < 0.12 * (1 + degeneration) else 0.0,
        arch=(
            rng.uniform(0.92, 1.08),
            rng.uniform(0.88, 1.15),
            rng.uniform(-0.1, 0.2) if level in (*_ARCHES, "L6") else rng.uniform(0.35, 0.8),
            rng.normal(0, 1.0),
            rng.uniform(0.88, 1.12),
            rng.uniform(0.8, 1.15),
        ),
        metal=False,
    )


def _sample_sacrum(rng: Generator, slope: float, body: Vector, frame_at: Any) -> tuple[SacralSegment, ...]:
    """Sample five sacral vertebrae downward from the top of S1 at the origin; body: depth, width, height of a body.

    The posterior wall of S1 continues that of the bodies.
    """
    segments: list[SacralSegment] = []
    depth, s1_width, height = body[0] * _S1_DEPTH / 1.18, body[1] * 1.1, body[2] * 1.02  # 1.18: of the mean taper
    top, angle = frame_at(slope, 0)[:, 1] * body[0] * (_S1_DEPTH - 1), slope
    for j, bend in enumerate(_SACRAL_BEND):
        frame = frame_at(angle, -j)
        centre = top - frame[:, 2] * height
        gap = rng.uniform(0.8, 3.2) if j == 0 else rng.uniform(0.4, 1.5)
        segments.append(
            SacralSegment(
                centre=_to_vector(centre),
                frame=_to_frame(frame),
                depth=depth,
                width=s1_width * _SACRAL_WIDTH[j],
                height=height,
                taper=rng.uniform(0.12, 0.24),
                gap=gap,
                bright_gap=bool(gap > 1.6 and rng.random() < 0.7),
            )
        )
        top = centre - frame[:, 2] * (height + gap)
        angle -= np.deg2rad(rng.uniform(*bend))
        depth, height = depth * rng.uniform(0.66, 0.78), height * rng.uniform(0.77, 0.88)
    frame = frame_at(angle, -len(segments))
    s5 = replace(segments[-1], centre=_to_vector(top - frame[:, 2] * height), frame=_to_frame(frame), gap=0.0)
    return (*segments, replace(s5, depth=depth, width=s1_width * _SACRAL_WIDTH[-1], height=height, bright_gap=False))


def _turn_upright(rng: Generator, spine: Spine) -> Spine:
    """Rotate a spine so that S1 to T12 is about upright, and turn the patient a little.

    Without this, half of the phantoms would lean by an unrealistic 45 degrees.
    """
    lean = np.array(spine.bodies[5].centre) - np.array(spine.segments[0].centre)
    turn = sagittal_rotation(-np.arctan2(lean[1], lean[2]) + np.deg2rad(rng.normal(0, 6)))
    turn = axial_rotation(rng.normal(0, 0.06)) @ coronal_rotation(rng.normal(0, 0.04)) @ turn

    def rotated(part: Any) -> Any:
        return replace(part, centre=_to_vector(turn @ part.centre), frame=_to_frame(turn @ np.array(part.frame)))

    return replace(
        spine,
        bodies=tuple(rotated(b) for b in spine.bodies),
        discs=tuple(rotated(d) for d in spine.discs),
        segments=tuple(rotated(s) for s in spine.segments),
    )
