"""Paint the soft tissue around the spine, which the network must learn to ignore."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from .canvas import TISSUE_INDEX, Canvas, smooth_noise
from .spine import Spine
from .surroundings import Surroundings

Array = np.ndarray


def paint_soft_tissue(canvas: Canvas, spine: Spine, surroundings: Surroundings, path: Array, rng: Generator) -> None:
    """Paint everything but the spine.

    Every second lateral sample is painted and repeated; after averaging over slices no difference is visible.

    path : (2, Z) lateral and anterior position of the centre of the canal at each z, mm
    """
    coarse = Canvas.empty(canvas.x[::2], canvas.y, canvas.z)
    front = _anterior_spine_edge(spine, canvas.z)
    lumps = smooth_noise(coarse, (14, 10, 12), rng)
    _paint_abdomen(coarse, surroundings, front, lumps, rng)
    _paint_psoas(coarse, spine, surroundings, path, lumps)
    _paint_kidneys_and_ilium(coarse, spine, surroundings)
    _paint_vessels(coarse, surroundings, front, path)
    _paint_back_muscles(coarse, surroundings, path, rng)
    _paint_skin(coarse, surroundings, front, path)
    canvas.tissue[...] = np.repeat(coarse.tissue, 2, axis=0)[: len(canvas.x)]


def _anterior_spine_edge(spine: Spine, z: Array) -> Array:
    """Return the anterior edge of the spine at each z, (Z,) float32, mm."""
    points = np.array(
        [np.add(b.centre, np.array(b.frame)[:, 1] * b.depth) for b in spine.bodies]
        + [np.add(s.centre, np.array(s.frame)[:, 1] * s.depth) for s in spine.segments]
    )
    points = points[np.argsort(points[:, 2])]
    return np.interp(z, points[:, 2], points[:, 1]).astype(np.float32)


def _paint_abdomen(canvas: Canvas, surroundings: Surroundings, front: Array, lumps: Array, rng: Generator) -> None:
    tissue = canvas.tissue
    tissue[...] = TISSUE_INDEX["bowel"]
    tissue[smooth_noise(canvas, (22, 16, 20), rng) > surroundings.bowel_fat] = TISSUE_INDEX["fat"]
    tissue[(lumps > 1.1) & (tissue == TISSUE_INDEX["bowel"])] = TISSUE_INDEX["organ"]
    before = canvas.y[:, None] - front[None, :]
    tissue[before[None] < surroundings.front_fat + 3 * lumps] = TISSUE_INDEX["fat"]


def _paint_psoas(canvas: Canvas, spine: Spine, surroundings: Surroundings, path: Array, lumps: Array) -> None:
    """Paint the psoas muscles beside the bodies, thicker further down, with a rim of fat."""
    size, aside, ahead, rim = surroundings.psoas
    width, depth = spine.bodies[2].width, spine.bodies[2].depth
    grow = np.clip(1.0 - (canvas.z - spine.bodies[1].centre[2]) / 130.0, 0.25, 1.25) * size
    x, y = canvas.x[:, None, None], canvas.y[None, :, None]
    for side in (-1, 1):
        cx = path[0] + side * (width + 17 * grow * aside)
        cy = path[1] + spine.canal_depth + depth * ahead
        r = ((x - cx) / (17 * grow)) ** 2 + ((y - cy) / (20 * grow)) ** 2
        wobbly = r - 0.2 * lumps
        canvas.tissue[wobbly < rim] = TISSUE_INDEX["fat"]
        canvas.tissue[wobbly < 1] = TISSUE_INDEX["muscle"]


def _paint_ellipsoid(canvas: Canvas, centre: Array, radii: Array, layers: tuple[tuple[float, str], ...]) -> None:
    region = canvas.box(centre, np.asarray(radii) * 1.15)
    if region is None:
        return
    x, y, z = (c - o for c, o in zip(canvas.world_coordinates(region), centre, strict=True))
    r = (x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2
    for limit, tissue in layers:
        canvas.tissue[region][r < limit] = TISSUE_INDEX[tissue]


def _paint_kidneys_and_ilium(canvas: Canvas, spine: Spine, surroundings: Surroundings) -> None:
    sacrum = np.array(spine.segments[0].centre)
    for side, kidney, wing in zip((-1, 1), surroundings.kidney, surroundings.ilium, strict=True):
        level, aside, ahead, *rest = kidney
        radii, pelvis, bright = np.array(rest[:3]), rest[3], rest[4]
        centre = np.array(spine.bodies[int(level)].centre) + np.array((side * aside, ahead, 0))
        inside = "fat" if bright < 0.6 else "csf"
        _paint_ellipsoid(canvas, centre, radii, ((1.25, "fat"), (1.0, "organ"), (pelvis, inside)))
        aside, back, down, *rest = wing
        centre = sacrum + np.array((side * aside, -back, -down))
        _paint_ellipsoid(canvas, centre, np.array(rest), ((1.12, "cortex"), (1.0, "arch marrow")))


def _paint_vessels(canvas: Canvas, surroundings: Surroundings, front: Array, path: Array) -> None:
    """Paint aorta and vena cava anterior to the spine; they diverge below their bifurcation."""
    x, y = canvas.x[:, None, None], canvas.y[None, :, None]
    for side, (aside, radius, gap, phase, split) in zip((-1, 1), surroundings.vessels, strict=True):
        cy = front + radius + gap + 2 * np.sin(canvas.z / 40 + phase)
        cx = path[0] + side * (aside + np.clip(split - canvas.z, 0, 80) * 0.35)
        r = (x - cx) ** 2 + (y - cy) ** 2
        canvas.tissue[r < (radius + 1.3) ** 2] = TISSUE_INDEX["vessel wall"]
        canvas.tissue[r < radius**2] = TISSUE_INDEX["vessel"]


def _paint_back_muscles(canvas: Canvas, surroundings: Surroundings, path: Array, rng: Generator) -> None:
    """Paint muscles behind the canal, with streaks of fat, and the ligament between the spinous processes."""
    behind = np.broadcast_to(canvas.y[:, None] < path[1][None] + 2, canvas.shape)
    streaks = smooth_noise(canvas, (7, 7, 26), rng) > surroundings.infiltration
    canvas.tissue[behind] = TISSUE_INDEX["muscle"]
    canvas.tissue[behind & streaks] = TISSUE_INDEX["fat"]
    width, choice = surroundings.midline
    middle = (np.abs(canvas.x[:, None] - path[0][None]) < width)[:, None, :] & (canvas.y[:, None] < path[1][None] - 8)
    filling = "ligament" if choice < 0.4 else "fat" if choice < 0.75 else "muscle"
    canvas.tissue[middle] = TISSUE_INDEX[filling]


def _paint_skin(canvas: Canvas, surroundings: Surroundings, front: Array, path: Array) -> None:
    amplitude, length, phase = surroundings.back_wave
    share, fat_phase = surroundings.fat_wave
    back = path[1] - surroundings.back - amplitude * np.sin(canvas.z / length + phase)
    skin = back - surroundings.fat * (1 + share * np.sin(canvas.z / 90 + fat_phase))
    round_back = (canvas.x[:, None] / 130.0) ** 2 * 25
    y = canvas.y[None, :, None]
    fascia, surface = (back[None] + round_back)[:, None, :], (skin[None] + round_back)[:, None, :]
    canvas.tissue[y < fascia] = TISSUE_INDEX["ligament"]
    canvas.tissue[y < fascia - 1.6] = TISSUE_INDEX["skin fat"]
    canvas.tissue[y < surface] = TISSUE_INDEX["air"]
    smooth = ndimage.gaussian_filter1d(
        np.maximum(front, front[-1]), 25 / float(canvas.z[1] - canvas.z[0]), mode="nearest"
    )
    belly = (smooth + surroundings.belly)[None, None, :]
    canvas.tissue[np.broadcast_to(y > belly, canvas.shape)] = TISSUE_INDEX["skin fat"]
    canvas.tissue[np.broadcast_to(y > belly + surroundings.belly_fat, canvas.shape)] = TISSUE_INDEX["air"]
