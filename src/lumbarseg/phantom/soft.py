"""Soft tissue around the spine: what the network must learn to leave alone."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from .canvas import TISSUE, Canvas, noise
from .spine import Spine
from .surroundings import Surroundings

Array = np.ndarray


def paint(canvas: Canvas, spine: Spine, around: Surroundings, path: Array, rng: Generator) -> None:
    """Paint everything but the spine. path: (2, Z) lateral and anterior position of the canal's centre at each z.

    Painted on every second lateral sample: behind the averaging over a slice the eye sees no difference.
    """
    coarse = Canvas.blank(canvas.x[::2], canvas.y, canvas.z)
    front = _column_front(spine, canvas.z)
    lumps = noise(coarse, (14, 10, 12), rng)
    _belly(coarse, around, front, lumps, rng)
    _psoas(coarse, spine, around, path, lumps)
    _kidneys_and_ilium(coarse, spine, around)
    _vessels(coarse, around, front, path)
    _back(coarse, around, path, rng)
    _skin(coarse, around, front, path)
    canvas.tissue[...] = np.repeat(coarse.tissue, 2, axis=0)[: len(canvas.x)]


def _column_front(spine: Spine, z: Array) -> Array:
    """Anterior edge of the column at each z."""
    points = np.array(
        [np.add(b.centre, np.array(b.frame)[:, 1] * b.depth) for b in spine.bodies]
        + [np.add(s.centre, np.array(s.frame)[:, 1] * s.depth) for s in spine.segments]
    )
    points = points[np.argsort(points[:, 2])]
    return np.interp(z, points[:, 2], points[:, 1]).astype(np.float32)


def _belly(canvas: Canvas, around: Surroundings, front: Array, lumps: Array, rng: Generator) -> None:
    tissue = canvas.tissue
    tissue[...] = TISSUE["bowel"]
    tissue[noise(canvas, (22, 16, 20), rng) > around.bowel_fat] = TISSUE["fat"]
    tissue[(lumps > 1.1) & (tissue == TISSUE["bowel"])] = TISSUE["organ"]
    before = canvas.y[:, None] - front[None, :]
    tissue[before[None] < around.front_fat + 3 * lumps] = TISSUE["fat"]


def _psoas(canvas: Canvas, spine: Spine, around: Surroundings, path: Array, lumps: Array) -> None:
    """Psoas beside the bodies, thicker further down, with a rim of fat."""
    size, aside, ahead, rim = around.psoas
    width, depth = spine.bodies[2].width, spine.bodies[2].depth
    grow = np.clip(1.0 - (canvas.z - spine.bodies[1].centre[2]) / 130.0, 0.25, 1.25) * size
    x, y = canvas.x[:, None, None], canvas.y[None, :, None]
    for side in (-1, 1):
        cx = path[0] + side * (width + 17 * grow * aside)
        cy = path[1] + spine.canal_depth + depth * ahead
        r = ((x - cx) / (17 * grow)) ** 2 + ((y - cy) / (20 * grow)) ** 2
        wobbly = r - 0.2 * lumps
        canvas.tissue[wobbly < rim] = TISSUE["fat"]
        canvas.tissue[wobbly < 1] = TISSUE["muscle"]


def _ellipsoid(canvas: Canvas, centre: Array, radii: Array, layers: tuple[tuple[float, str], ...]) -> None:
    where = canvas.box(centre, np.asarray(radii) * 1.15)
    if where is None:
        return
    x, y, z = (c - o for c, o in zip(canvas.mesh(where), centre, strict=True))
    r = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2
    for limit, tissue in layers:
        canvas.tissue[where][r < limit] = TISSUE[tissue]


def _kidneys_and_ilium(canvas: Canvas, spine: Spine, around: Surroundings) -> None:
    sacrum = np.array(spine.segments[0].centre)
    for side, kidney, wing in zip((-1, 1), around.kidney, around.ilium, strict=True):
        level, aside, ahead, *rest = kidney
        radii, pelvis, bright = np.array(rest[:3]), rest[3], rest[4]
        centre = np.array(spine.bodies[int(level)].centre) + np.array((side * aside, ahead, 0))
        inside = "fat" if bright < 0.6 else "csf"
        _ellipsoid(canvas, centre, radii, ((1.25, "fat"), (1.0, "organ"), (pelvis, inside)))
        aside, back, down, *rest = wing
        centre = sacrum + np.array((side * aside, -back, -down))
        _ellipsoid(canvas, centre, np.array(rest), ((1.12, "cortex"), (1.0, "arch marrow")))


def _vessels(canvas: Canvas, around: Surroundings, front: Array, path: Array) -> None:
    """Aorta and cava before the column; below their split they part."""
    x, y = canvas.x[:, None, None], canvas.y[None, :, None]
    for side, (aside, radius, gap, phase, split) in zip((-1, 1), around.vessels, strict=True):
        cy = front + radius + gap + 2 * np.sin(canvas.z / 40 + phase)
        cx = path[0] + side * (aside + np.clip(split - canvas.z, 0, 80) * 0.35)
        r = (x - cx) ** 2 + (y - cy) ** 2
        canvas.tissue[r < (radius + 1.3) ** 2] = TISSUE["vessel wall"]
        canvas.tissue[r < radius**2] = TISSUE["vessel"]


def _back(canvas: Canvas, around: Surroundings, path: Array, rng: Generator) -> None:
    """Muscles behind the canal, streaked with fat, and the ligament between the spinous processes."""
    behind = np.broadcast_to(canvas.y[:, None] < path[1][None] + 2, canvas.shape)
    streaks = noise(canvas, (7, 7, 26), rng) > around.infiltration
    canvas.tissue[behind] = TISSUE["muscle"]
    canvas.tissue[behind & streaks] = TISSUE["fat"]
    width, choice = around.midline
    middle = (np.abs(canvas.x[:, None] - path[0][None]) < width)[:, None, :] & (canvas.y[:, None] < path[1][None] - 8)
    filling = "ligament" if choice < 0.4 else "fat" if choice < 0.75 else "muscle"
    canvas.tissue[middle] = TISSUE[filling]


def _skin(canvas: Canvas, around: Surroundings, front: Array, path: Array) -> None:
    amplitude, length, phase = around.back_wave
    share, fat_phase = around.fat_wave
    back = path[1] - around.back - amplitude * np.sin(canvas.z / length + phase)
    skin = back - around.fat * (1 + share * np.sin(canvas.z / 90 + fat_phase))
    round_back = (canvas.x[:, None] / 130.0) ** 2 * 25
    y = canvas.y[None, :, None]
    fascia, surface = (back[None] + round_back)[:, None, :], (skin[None] + round_back)[:, None, :]
    canvas.tissue[y < fascia] = TISSUE["ligament"]
    canvas.tissue[y < fascia - 1.6] = TISSUE["skin fat"]
    canvas.tissue[y < surface] = TISSUE["air"]
    smooth = ndimage.gaussian_filter1d(
        np.maximum(front, front[-1]), 25 / float(canvas.z[1] - canvas.z[0]), mode="nearest"
    )
    belly = (smooth + around.belly)[None, None, :]
    canvas.tissue[np.broadcast_to(y > belly, canvas.shape)] = TISSUE["skin fat"]
    canvas.tissue[np.broadcast_to(y > belly + around.belly_fat, canvas.shape)] = TISSUE["air"]
