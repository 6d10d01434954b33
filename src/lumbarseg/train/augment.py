"""What happens to a picture before the network sees it: placed, bent, and seen by another scanner.

First everything is drawn (`Pose`, `Look`), then applied. Now and then front is back, or up is down, labels with it: the
network tells tissues apart, not levels, and must do so under a wrong header, too, so that the anatomy can correct it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from lumbarseg.volume import Array

_FRONT_BACK, _UP_DOWN = 0.15, 0.08  # share of mirrored crops
_LIMIT = 1.6  # a little above the normalised image's limit of 1.5


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a crop lies in a slice. matrix: (2, 2) and centre: (2,) pixels; bend: (2, 5, 5) pixels, or None."""

    matrix: Array
    centre: Array
    bend: Array | None
    repeat: bool  # the slice's own border beyond it, else black


@dataclass(frozen=True, eq=False)
class Look:
    """How a crop looks. coarse: pixels; field: (4, 4) logarithm of gain; edge: pixels repeated at a side."""

    gamma: float
    gain: float
    lift: float
    noise: float
    blur: bool
    coarse: tuple[int, float]  # axis, pixel size; size 1 leaves it
    field: Array | None
    inverse: bool
    edge: tuple[int, int]  # side (0-3), depth


def draw_pose(rng: np.random.Generator, shape: tuple[int, int], focus: Array, crop: int) -> Pose:
    """A crop in a slice of `shape`: three of four about the spine, the others anywhere in the field."""
    angle = np.radians(rng.normal(0, 8))
    scale, stretch = np.exp(rng.normal(0, 0.16)), np.exp(rng.normal(0, 0.06))
    matrix = scale * np.array(
        [[np.cos(angle) / stretch, -np.sin(angle) / stretch], [np.sin(angle) * stretch, np.cos(angle) * stretch]]
    )
    matrix[0] *= -1 if rng.random() < _FRONT_BACK else 1
    matrix[1] *= -1 if rng.random() < _UP_DOWN else 1
    size = np.array(shape)
    if rng.random() < 0.75:
        centre = focus[rng.integers(len(focus))] + rng.normal(0, crop / 7, 2)
    else:
        centre = size / 2 + rng.normal(0, size / 7)
    bend = rng.normal(0, 3.0, (2, 5, 5)).astype(np.float32) if rng.random() < 0.4 else None
    return Pose(matrix, np.clip(centre, 0.15 * size, 0.85 * size), bend, bool(rng.random() < 0.5))


def draw_look(rng: np.random.Generator) -> Look:
    """Another scanner, another day."""
    return Look(
        gamma=rng.uniform(0.65, 1.5),
        gain=rng.uniform(0.8, 1.2),
        lift=rng.uniform(-0.08, 0.08),
        noise=rng.uniform(0, 0.08) if rng.random() < 0.5 else 0.0,
        blur=bool(rng.random() < 0.25),
        coarse=(int(rng.integers(2)), rng.uniform(1.2, 2.2) if rng.random() < 0.2 else 1.0),
        field=rng.normal(0, 0.25, (4, 4)).astype(np.float32) if rng.random() < 0.3 else None,
        inverse=bool(rng.random() < 0.08),
        edge=(int(rng.integers(4)), int(rng.integers(1, 32)) if rng.random() < 0.2 else 0),
    )


def place(image: Array, codes: Array, pose: Pose, crop: int) -> tuple[torch.Tensor, Array]:
    """image: (C, A, S) float32 and codes: (..., A, S) to (C, crop, crop), linearly, and (..., crop, crop), nearest.

    Outside, codes are 0.
    """
    steps = np.arange(crop, dtype=np.float32) - (crop - 1) / 2
    matrix = pose.matrix.astype(np.float32)
    centre = pose.centre.astype(np.float32)
    at = [centre[i] + matrix[i, 0] * steps[:, None] + matrix[i, 1] * steps[None] for i in range(2)]  # 2 x (crop, crop)
    if pose.bend is not None:
        bent = _smooth(pose.bend, crop).numpy()
        at = [a + b for a, b in zip(at, bent, strict=True)]
    sides = codes.shape[-2:]
    grid = np.stack([(2 * a + 1) / n - 1 for a, n in zip(at[::-1], sides[::-1], strict=True)], -1)
    out = functional.grid_sample(
        torch.from_numpy(image)[None],
        torch.from_numpy(grid)[None],
        padding_mode="border" if pose.repeat else "zeros",
        align_corners=False,
    )
    rows, columns = (np.rint(a).astype(np.int32) for a in at)
    inside = (rows >= 0) & (rows < sides[0]) & (columns >= 0) & (columns < sides[1])
    found = codes[..., np.clip(rows, 0, sides[0] - 1), np.clip(columns, 0, sides[1] - 1)]
    return out[0], np.where(inside, found, np.uint8(0))


def _smooth(coarse: Array, size: int) -> torch.Tensor:
    """(C, n, n) to (C, size, size), bicubic."""
    return functional.interpolate(
        torch.from_numpy(coarse)[None], size=(size, size), mode="bicubic", align_corners=False
    )[0]


def recolour(image: torch.Tensor, look: Look, rng: np.random.Generator) -> torch.Tensor:
    """image: (C, A, S) float32 about 0..1; rng only draws the noise itself."""
    image = _resolve(image, look).clamp(0, _LIMIT).pow(look.gamma).mul_(look.gain).add_(look.lift)
    if look.noise:
        image.add_(look.noise * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32)))
    if look.field is not None:
        # numpy's: torch's is MKL's, and that errs by 1e-4 when two threads call it for the first time at once
        image.mul_(torch.from_numpy(np.exp(_smooth(look.field[None], image.shape[-1]).numpy())))
    if look.inverse:
        image.neg_().add_(1)
    return image


def _resolve(image: torch.Tensor, look: Look) -> torch.Tensor:
    """Blurred over 3 pixels, or with fewer pixels along one axis."""
    if look.blur:
        image = functional.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
    axis, pixel = look.coarse
    if pixel > 1:
        size = list(image.shape[1:])
        few = size.copy()
        few[axis] = round(size[axis] / pixel)
        image = functional.interpolate(image[None], size=few, mode="area")
        image = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)[0]
    return image


def cut(image: torch.Tensor, codes: Array, edge: tuple[int, int]) -> tuple[torch.Tensor, Array]:
    """The field ends `depth` pixels before a side; beyond it the border is repeated and nothing is known."""
    side, depth = edge
    if not depth:
        return image, codes
    axis, back = divmod(side, 2)
    size = codes.shape[axis - 2]
    index = np.clip(np.arange(size), 0, size - 1 - depth) if back else np.clip(np.arange(size), depth, size - 1)
    beyond = np.arange(size) != index
    image = image.index_select(axis + 1, torch.from_numpy(index))
    return image, np.where(beyond[:, None] if axis == 0 else beyond[None], np.uint8(0), codes)
