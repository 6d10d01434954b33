"""Contrast: the signal of each tissue in each sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from .canvas import TISSUE_INDEX, TISSUES, Canvas, smooth_noise
from .spine import Spine

Array = np.ndarray

# ranges of the mean signal per sequence; tissues relative to marrow are in _RELATIVE
SEQUENCES: dict[str, dict[str, tuple[float, float]]] = {
    "T2": {
        "skin fat": (0.6, 1.0), "muscle": (0.08, 0.25), "bowel": (0.2, 0.6), "vessel": (0.02, 0.15),
        "fat": (0.5, 0.9), "marrow": (0.22, 0.6), "cortex": (0.03, 0.12), "endplate": (0.04, 0.15),
        "ligament": (0.05, 0.15), "nucleus": (0.45, 0.9), "annulus": (0.06, 0.22), "csf": (0.75, 1.15),
        "cord": (0.25, 0.5), "roots": (0.3, 0.6), "epidural fat": (0.55, 0.95), "vessel wall": (0.1, 0.3),
        "organ": (0.2, 0.9),
    },
    "T1": {
        "skin fat": (0.75, 1.0), "muscle": (0.2, 0.35), "bowel": (0.2, 0.5), "vessel": (0.03, 0.15),
        "fat": (0.65, 0.95), "marrow": (0.3, 0.7), "cortex": (0.05, 0.15), "endplate": (0.06, 0.2),
        "ligament": (0.1, 0.2), "nucleus": (0.2, 0.38), "annulus": (0.15, 0.36), "csf": (0.1, 0.24),
        "cord": (0.16, 0.36), "roots": (0.14, 0.32), "epidural fat": (0.65, 0.95), "vessel wall": (0.15, 0.3),
        "organ": (0.25, 0.5),
    },
    "STIR": {
        "skin fat": (0.04, 0.15), "muscle": (0.15, 0.3), "bowel": (0.2, 0.6), "vessel": (0.03, 0.3),
        "fat": (0.04, 0.15), "marrow": (0.06, 0.25), "cortex": (0.02, 0.08), "endplate": (0.03, 0.1),
        "ligament": (0.04, 0.1), "nucleus": (0.4, 0.8), "annulus": (0.06, 0.18), "csf": (0.85, 1.2),
        "cord": (0.3, 0.45), "roots": (0.3, 0.6), "epidural fat": (0.05, 0.15), "vessel wall": (0.1, 0.3),
        "organ": (0.3, 0.8),
    },
    "GRE": {
        "skin fat": (0.2, 0.95), "muscle": (0.35, 0.65), "bowel": (0.3, 0.6), "vessel": (0.35, 0.95),
        "fat": (0.2, 0.95), "marrow": (0.12, 0.6), "cortex": (0.02, 0.12), "endplate": (0.02, 0.15),
        "ligament": (0.1, 0.25), "nucleus": (0.35, 0.85), "annulus": (0.25, 0.75), "csf": (0.35, 0.95),
        "cord": (0.35, 0.6), "roots": (0.35, 0.6), "epidural fat": (0.2, 0.95), "vessel wall": (0.2, 0.5),
        "organ": (0.3, 0.75),
    },
    "SPACE": {
        "skin fat": (0.5, 0.95), "muscle": (0.1, 0.3), "bowel": (0.2, 0.6), "vessel": (0.02, 0.12),
        "fat": (0.45, 0.85), "marrow": (0.2, 0.5), "cortex": (0.03, 0.12), "endplate": (0.04, 0.15),
        "ligament": (0.05, 0.18), "nucleus": (0.35, 0.8), "annulus": (0.08, 0.25), "csf": (0.9, 1.5),
        "cord": (0.35, 0.6), "roots": (0.3, 0.7), "epidural fat": (0.45, 0.9), "vessel wall": (0.1, 0.3),
        "organ": (0.2, 0.8),
    },
    "random": {
        **dict.fromkeys(TISSUES, (0.02, 1.0)),
        "cortex": (0.0, 0.2), "endplate": (0.0, 0.25), "ligament": (0.0, 0.5),
    },
}  # fmt: skip
_RELATIVE = {"sacral marrow": (0.85, 1.25), "arch marrow": (0.85, 1.3)}  # times the signal of the marrow of the bodies
_SPREAD = {"bowel": 0.35, "organ": 0.2, "skin fat": 0.1, "fat": 0.1, "muscle": 0.12, "csf": 0.07, "air": 0.0}
_FAT_SHARE = {
    "skin fat": 0.95, "fat": 0.9, "epidural fat": 0.9, "marrow": 0.4, "arch marrow": 0.5, "sacral marrow": 0.45,
}  # fmt: skip


@dataclass(frozen=True)
class Contrast:
    """Signals of one exam.

    means, spreads : one number per tissue of `canvas.TISSUES`
    dark : fraction of the signal that degenerated discs lose
    patches : relative signal of patches of fatty, red or infiltrated marrow, and their size in mm; empty without any
    void : reach of metal artifacts, mm
    """

    sequence: str
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    dark: float
    patches: tuple[float, ...]
    void: float


def sample_contrast(rng: Generator, sequence: str) -> Contrast:
    """Sample the signals of one exam; sequence: a name in SEQUENCES."""
    means = dict.fromkeys(TISSUES, 0.02)
    for name, (low, high) in SEQUENCES[sequence].items():
        means[name] = rng.uniform(low, high)
    means["air"], means["metal"] = rng.uniform(0, 0.04), 0.0
    for name, (low, high) in _RELATIVE.items():
        means[name] = min(1.0, means["marrow"] * rng.uniform(low, high))
    if sequence in ("GRE", "random") and rng.random() < 0.6:  # the same fat signal everywhere
        means["fat"] = means["skin fat"] * rng.uniform(0.9, 1.1)
        means["epidural fat"] = means["skin fat"] * rng.uniform(0.9, 1.1)
    if abs(means["annulus"] - means["marrow"]) < 0.12 and sequence == "random":
        means["annulus"] = float(np.clip(means["marrow"] + 0.15 * rng.choice([-1, 1]), 0, 1))
    spread = dict.fromkeys(TISSUES, 0.06 * rng.uniform(0.5, 1.8)) | _SPREAD
    if rng.random() < 0.2:
        spread["csf"] = rng.uniform(0.1, 0.3)  # flow voids
    return Contrast(
        sequence,
        tuple(means.values()),
        tuple(spread.values()),
        dark=rng.uniform(0.6, 1.0),
        patches=(rng.uniform(-0.5, 0.6), rng.uniform(4, 12)) if rng.random() < 0.2 else (),
        void=rng.uniform(2, 5) * (2 if sequence == "GRE" else 1),
    )


def fat_fractions() -> Array:
    """Return the fraction of the signal of each tissue that comes from fat, (tissues,) float32."""
    return np.array([_FAT_SHARE.get(name, 0.0) for name in TISSUES], np.float32)


def render_signal(canvas: Canvas, spine: Spine, contrast: Contrast, rng: Generator) -> Array:
    """Return the signal of every sample with textures and pathologies, (X, Y, Z) float32."""
    means, spreads = np.array(contrast.means, np.float32), np.array(contrast.spreads, np.float32)
    texture = 0.6 * sum(smooth_noise(canvas, (s, s, s), rng) for s in (2.2, 6.0, 16.0))
    image = means[canvas.tissue] * (1 + spreads[canvas.tissue] * texture)
    gain, fade = np.ones(256, np.float32), np.ones(256, np.float32)
    for index, body in enumerate(spine.bodies):
        gain[1 + index] = body.gain
    nucleus, annulus = max(float(means[TISSUE_INDEX["nucleus"]]), 0.05), float(means[TISSUE_INDEX["annulus"]])
    for index, disc in enumerate(spine.discs):
        gain[101 + index] = disc.gain
        dark = contrast.dark * disc.degeneration**0.8 if contrast.sequence != "T1" else 0.3 * disc.degeneration
        fade[101 + index] = 1 - dark + dark * annulus / nucleus
    image *= gain[canvas.part_index]
    inside = canvas.tissue == TISSUE_INDEX["nucleus"]
    image[inside] *= fade[canvas.part_index[inside]]
    _add_modic_changes(image, canvas, spine)
    if contrast.patches:
        _add_marrow_patches(image, canvas, contrast, rng)
    if any(body.metal for body in spine.bodies):
        _add_metal_artifacts(image, canvas, contrast.void)
    return np.maximum(image, 0)


def _add_modic_changes(image: Array, canvas: Canvas, spine: Spine) -> None:
    """Make marrow beside a disc brighter or darker, fading towards the middle of the body (Modic changes)."""
    for index, body in enumerate(spine.bodies):
        region = canvas.box(body.centre, body.width * 1.2)
        if not body.modic or region is None:
            continue
        _, _, u = canvas.local_coordinates(region, body.centre, np.array(body.frame))
        side = 1 if index % 2 else -1
        strength = body.modic * np.clip(side * u / body.height * 2 - 0.6, 0, 1)
        marrow = (canvas.part_index[region] == 1 + index) & (canvas.tissue[region] == TISSUE_INDEX["marrow"])
        image[region] *= np.where(marrow, 1 + strength, 1)


def _add_marrow_patches(image: Array, canvas: Canvas, contrast: Contrast, rng: Generator) -> None:
    """Make patches of marrow with soft edges, about a third of it, brighter or darker."""
    strength, size = contrast.patches
    share = np.clip(smooth_noise(canvas, (size, size, size), rng) * 1.5, 0, 1)
    marrow = np.isin(canvas.tissue, [TISSUE_INDEX[name] for name in ("marrow", "arch marrow", "sacral marrow")])
    image *= np.where(marrow, 1 + np.float32(strength) * share, 1)


def _add_metal_artifacts(image: Array, canvas: Canvas, radius_mm: float) -> None:
    """Remove the signal around metal, and add the bright rim of displaced signal.

    radius_mm : reach of the artifact, longer in gradient echo, which has no refocusing pulse
    """
    metal = (canvas.tissue == TISSUE_INDEX["metal"]).astype(np.float32)
    steps = [float(np.mean(np.diff(axis))) for axis in (canvas.x, canvas.y, canvas.z)]
    near, far = (
        ndimage.gaussian_filter(metal, [radius / step for step in steps], truncate=2.5)
        for radius in (radius_mm, 2 * radius_mm)
    )
    image *= np.clip(1 - 6 * near, 0, 1) * (1 + 1.5 * np.clip(far - near, 0, 0.3))
