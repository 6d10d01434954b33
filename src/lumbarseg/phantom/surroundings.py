"""Surroundings of the spine as plain numbers (mm unless stated): fat, muscles, vessels, organs, iliac wings."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

from .spine import Spine


@dataclass(frozen=True)
class Surroundings:
    """Surroundings of one spine; thresholds and fractions have no unit and select tissues in noise fields."""

    back: float  # from the canal to the end of the muscles
    back_wave: tuple[float, ...]  # amplitude, wavelength, phase
    fat: float  # under the skin of the back
    fat_wave: tuple[float, ...]  # share, phase
    belly: float  # from the spine to the fat of the abdomen
    belly_fat: float
    bowel_fat: float  # threshold of the fat texture among the bowel
    front_fat: float  # thickness of the fat anterior to the spine
    psoas: tuple[float, ...]  # size, offset sideways, offset forward, fat rim
    kidney: tuple[tuple[float, ...], ...]  # per side: level, side, forward, radii (3), pelvis share, pelvis bright
    ilium: tuple[tuple[float, ...], ...]  # per side: side, back, down, radii (3)
    vessels: tuple[tuple[float, ...], ...]  # per side: side, radius, gap, phase, height of the split
    infiltration: float  # threshold of the fat texture among the back muscles
    midline: tuple[float, ...]  # half width, tissue choice 0..1
    epidural: tuple[float, ...]  # phase of the segments, height below which fat surrounds the sac, share
    sac_end: float  # below the middle of S2
    foramen: tuple[float, ...]  # backward, sideways, up, radii (3)
    roots: tuple[float, ...]  # threshold, front limit
    cord: tuple[float, ...]  # radius, offset forward
    ribs: bool


def sample_surroundings(rng: Generator, spine: Spine) -> Surroundings:
    """Sample the surroundings of one spine."""
    u = rng.uniform
    size = spine.size
    return Surroundings(
        back=u(38, 62),
        back_wave=(u(0, 6), u(30, 60), u(0, 6.3)),
        fat=u(4, 38),
        fat_wave=(u(0, 0.6), u(0, 6.3)),
        belly=u(50, 130),
        belly_fat=u(8, 30),
        bowel_fat=u(0.0, 1.0),
        front_fat=u(3, 14),
        psoas=(u(0.8, 1.2), u(0.55, 0.85), u(0.6, 1.1), u(1.05, 1.35)),
        kidney=tuple(
            (u(3, 6), u(52, 66), u(-22, 5), u(20, 27), u(22, 30), u(45, 60), u(0.1, 0.3), u(0, 1)) for _ in range(2)
        ),
        ilium=tuple((u(60, 74), u(5, 30), u(-20, 15), u(16, 24), u(26, 40), u(35, 55)) for _ in range(2)),
        vessels=tuple((u(6, 18), u(6.5, 11), u(-1.5, 4), u(0, 6.3), u(10, 50)) for _ in range(2)),
        infiltration=u(0.6, 2.4),
        midline=(u(1.5, 5), u(0, 1)),
        epidural=(u(0, 6.3), u(-10, 30), u(0.5, 1.0)),
        sac_end=rng.normal(0, 9),
        foramen=(u(1, 5), u(15, 20), u(2, 6), u(6, 9) * size, u(4, 7) * size, u(8, 12) * size),
        roots=(u(0.3, 1.3), u(-2, 3)),
        cord=(u(3.5, 4.9), u(-1, 1)),
        ribs=bool(rng.random() < 0.9),
    )
