"""Spines of blocks on the network grid: class maps whose instances are known, with any fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from lumbarseg.anatomy import CLASSES, Kind

BODY, DISC, CANAL, SACRUM, ARCH = (CLASSES.index(k) for k in (Kind.BODY, Kind.DISC, Kind.CANAL, Kind.SACRUM, Kind.ARCH))


@dataclass(frozen=True)
class SpinePlan:
    """What to build; sizes in mm, angles in degrees, faults by number of the body or disc, 1 the lowest.

    thin: discs of under a millimetre; missing: discs that are background; fused: discs that are body; slips: mm forward
    of a body on the one below; crushed: bodies of half the height.
    """

    count: int = 6
    slices: int = 13
    slice: float = 4.0
    size: float = 1.0
    lordosis: float = 8.0  # per level
    slope: float = 25.0  # of the lowest disc
    bend: float = 0.0  # sideways, per level, turning back half way
    thin: frozenset[int] = frozenset()
    missing: frozenset[int] = frozenset()
    fused: frozenset[int] = frozenset()
    crushed: frozenset[int] = frozenset()
    slips: dict[int, float] = field(default_factory=dict)
    sacrum: float = 60.0  # mm of it
    touching: bool = False  # rims of neighbours grown together before and behind the disc
    top_cut: float = 0.0  # mm of the uppermost body outside the field of view
    noise: float = 0.0  # share of voxels on a border that take a neighbour's class


@dataclass(frozen=True, eq=False)
class BlockSpine:
    """classes, bodies, discs, arches: (slices, A, S) uint8; spacing: (3,) mm; plan: what it shows."""

    classes: np.ndarray
    bodies: np.ndarray
    discs: np.ndarray
    arches: np.ndarray
    spacing: np.ndarray
    plan: SpinePlan


def build_spine(plan: SpinePlan, seed: int = 0) -> BlockSpine:
    """The class map of a plan."""
    spacing = np.array([plan.slice, 1.0, 1.0])
    parts = list(_chain(plan))
    top = max(c[1] + u[1] * h for _, _, c, u, _, h in parts) + 6 - plan.top_cut
    low = min(c[1] - h for kind, _, c, _, _, h in parts if kind != "sacrum") - plan.sacrum * 0.8 - 4
    front = [c[0] for _, _, c, _, _, _ in parts]
    base = np.array([min(front) - 75, low])
    shape = (plan.slices, int(max(front) - min(front) + 125), max(40, int(top - low)))
    x = (np.arange(shape[0]) - (shape[0] - 1) / 2) * plan.slice
    a, s = np.arange(shape[1]) + base[0], np.arange(shape[2]) + base[1]
    out = [np.zeros(shape, np.uint8) for _ in range(4)]
    for part in parts:
        _stamp(out, plan, part, (x, a, s))
    if plan.noise:
        _roughen(out[0], plan.noise, np.random.default_rng(seed))
    return BlockSpine(*out, spacing, plan)


Part = tuple[str, int, np.ndarray, np.ndarray, float, float]


def _chain(plan: SpinePlan) -> Iterator[Part]:
    """(kind, number, centre (front, up), axis (front, up), middle to the side, half height) from the sacrum upward."""
    position, angle, side, lean = np.zeros(2), np.deg2rad(plan.slope), 0.0, 0.0
    axis = np.array([np.sin(angle), np.cos(angle)])
    yield "sacrum", 0, position - axis * plan.sacrum / 2, axis, 0.0, plan.sacrum / 2
    for n in range(1, plan.count + 2):
        half = (0.4 if n in plan.thin else 4.0 if n not in plan.fused else 0.6) * plan.size
        axis = np.array([np.sin(angle), np.cos(angle)])
        position = position + axis * half
        side += np.tan(lean) * 2 * half
        yield "disc", n, position, axis, side, half
        position = position + axis * half + np.array([axis[1], -axis[0]]) * plan.slips.get(n, 0.0)
        if n == plan.count + 1:
            return
        angle -= np.deg2rad(plan.lordosis)
        lean += np.deg2rad(plan.bend) * (1 if n <= plan.count / 2 else -1)
        axis = np.array([np.sin(angle), np.cos(angle)])
        half = (7.0 if n in plan.crushed else 13.5) * plan.size
        position = position + axis * half
        side += np.tan(lean) * 2 * half
        yield "body", n, position, axis, side, half
        position = position + axis * half


def _stamp(out: list[np.ndarray], plan: SpinePlan, part: Part, axes: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    (kind, number, centre, up, side, half), (x, a, s) = part, axes
    classes, bodies, discs, arches = out
    front = np.array([up[1], -up[0]])
    f = (a[:, None] - centre[0]) * front[0] + (s[None] - centre[1]) * front[1]
    u = (a[:, None] - centre[0]) * up[0] + (s[None] - centre[1]) * up[1]
    f, u, x = f[None], u[None], (x - side)[:, None, None]
    depth, width = 17.0 * plan.size, 23.0 * plan.size
    inside = (np.abs(u) <= half) & ((np.abs(f) / depth) ** 2.3 + (np.abs(x) / width) ** 2.3 <= 1)
    if kind == "sacrum":
        classes[inside & (classes == 0)] = SACRUM
        return
    lid = half + 4.0 * plan.size
    tube = (np.abs(u) <= lid) & ((f + depth + 9 * plan.size) ** 2 + x**2 <= (7.5 * plan.size) ** 2)
    classes[tube & (classes == 0)] = CANAL
    if kind == "disc":
        rim = plan.touching & (np.abs(f) > 0.75 * depth)
        region = inside & ~rim & (bodies == 0)
        classes[region] = 0 if number in plan.missing else BODY if number in plan.fused else DISC
        if number not in plan.missing | plan.fused:
            discs[region] = number
        if plan.touching and 1 < number <= plan.count:
            grown = inside & rim & (bodies == 0)
            classes[grown] = BODY
            bodies[grown] = np.where(np.broadcast_to(u, grown.shape)[grown] > 0, number, number - 1)
        return
    classes[inside], bodies[inside] = BODY, number
    process = (np.abs(x) < 5) & (f < -depth - 19 * plan.size) & (f > -depth - 42 * plan.size)
    process &= np.abs(u + 0.55 * half) < 0.75 * half
    pedicle = (np.abs(np.abs(x) - 12 * plan.size) < 5 * plan.size) & (f < -depth + 2) & (f > -depth - 20 * plan.size)
    pedicle &= np.abs(u - 0.4 * half) < 0.45 * half
    arch = (process | pedicle) & (classes == 0)
    classes[arch], arches[arch] = ARCH, number


def _roughen(classes: np.ndarray, share: float, rng: np.random.Generator) -> None:
    for axis in (1, 2):
        for step in (1, -1):
            take = rng.random(classes.shape) < share
            classes[take] = np.roll(classes, step, axis)[take]
