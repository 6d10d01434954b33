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

_FLIP_ANTERIOR_PROBABILITY, _FLIP_VERTICAL_PROBABILITY = 0.15, 0.08  # share of mirrored crops
_MAX_INTENSITY = 1.6  # a little above the normalised image's limit of 1.5


@dataclass(frozen=True, eq=False)
class SpatialTransform:
    """Where a crop lies in a slice. matrix: (2, 2) and centre: (2,) pixels; bend: (2, 5, 5) pixels, or None."""

    matrix: Array
    centre: Array
    displacement: Array | None
    border_padding: bool  # the slice's own border beyond it, else black


@dataclass(frozen=True, eq=False)
class IntensityTransform:
    """How a crop looks. coarse: pixels; field: (4, 4) logarithm of gain; edge: pixels repeated at a side."""

    gamma: float
    gain: float
    offset: float
    noise: float
    blur: bool
    low_resolution: tuple[int, float]  # axis, pixel size; size 1 leaves it
    bias_field: Array | None
    inverted: bool
    truncated_side: tuple[int, int]  # side (0-3), depth


def draw_spatial_transform(
    rng: np.random.Generator, shape: tuple[int, int], spine_pixels: Array, crop: int
) -> SpatialTransform:
    """A crop in a slice of `shape`: three of four about the spine, the others anywhere in the field."""
    angle = np.radians(rng.normal(0, 8))
    scale, stretch = np.exp(rng.normal(0, 0.16)), np.exp(rng.normal(0, 0.06))
    matrix = scale * np.array(
        [[np.cos(angle) / stretch, -np.sin(angle) / stretch], [np.sin(angle) * stretch, np.cos(angle) * stretch]]
    )
    matrix[0] *= -1 if rng.random() < _FLIP_ANTERIOR_PROBABILITY else 1
    matrix[1] *= -1 if rng.random() < _FLIP_VERTICAL_PROBABILITY else 1
    size = np.array(shape)
    if rng.random() < 0.75:
        centre = spine_pixels[rng.integers(len(spine_pixels))] + rng.normal(0, crop / 7, 2)
    else:
        centre = size / 2 + rng.normal(0, size / 7)
    bend = rng.normal(0, 3.0, (2, 5, 5)).astype(np.float32) if rng.random() < 0.4 else None
    return SpatialTransform(matrix, np.clip(centre, 0.15 * size, 0.85 * size), bend, bool(rng.random() < 0.5))


def draw_intensity_transform(rng: np.random.Generator) -> IntensityTransform:
    """Another scanner, another day."""
    return IntensityTransform(
        gamma=rng.uniform(0.65, 1.5),
        gain=rng.uniform(0.8, 1.2),
        offset=rng.uniform(-0.08, 0.08),
        noise=rng.uniform(0, 0.08) if rng.random() < 0.5 else 0.0,
        blur=bool(rng.random() < 0.25),
        low_resolution=(int(rng.integers(2)), rng.uniform(1.2, 2.2) if rng.random() < 0.2 else 1.0),
        bias_field=rng.normal(0, 0.25, (4, 4)).astype(np.float32) if rng.random() < 0.3 else None,
        inverted=bool(rng.random() < 0.08),
        truncated_side=(int(rng.integers(4)), int(rng.integers(1, 32)) if rng.random() < 0.2 else 0),
    )


def apply_spatial_transform(
    image: Array, codes: Array, transform: SpatialTransform, crop: int
) -> tuple[torch.Tensor, Array]:
    """image: (C, A, S) float32 and codes: (..., A, S) to (C, crop, crop), linearly, and (..., crop, crop), nearest.

    Outside, codes are 0.
    """
    steps = np.arange(crop, dtype=np.float32) - (crop - 1) / 2
    matrix = transform.matrix.astype(np.float32)
    centre = transform.centre.astype(np.float32)
    at = [centre[i] + matrix[i, 0] * steps[:, None] + matrix[i, 1] * steps[None] for i in range(2)]  # 2 x (crop, crop)
    if transform.displacement is not None:
        bent = _upsample_bicubic(transform.displacement, crop).numpy()
        at = [a + b for a, b in zip(at, bent, strict=True)]
    sides = codes.shape[-2:]
    grid = np.stack([(2 * a + 1) / n - 1 for a, n in zip(at[::-1], sides[::-1], strict=True)], -1)
    out = functional.grid_sample(
        torch.from_numpy(image)[None],
        torch.from_numpy(grid)[None],
        padding_mode="border" if transform.border_padding else "zeros",
        align_corners=False,
    )
    rows, columns = (np.rint(a).astype(np.int32) for a in at)
    inside = (rows >= 0) & (rows < sides[0]) & (columns >= 0) & (columns < sides[1])
    found = codes[..., np.clip(rows, 0, sides[0] - 1), np.clip(columns, 0, sides[1] - 1)]
    return out[0], np.where(inside, found, np.uint8(0))


def _upsample_bicubic(coarse: Array, size: int) -> torch.Tensor:
    """(C, n, n) to (C, size, size), bicubic."""
    return functional.interpolate(
        torch.from_numpy(coarse)[None], size=(size, size), mode="bicubic", align_corners=False
    )[0]


def apply_intensity_transform(
    image: torch.Tensor, transform: IntensityTransform, rng: np.random.Generator
) -> torch.Tensor:
    """image: (C, A, S) float32 about 0..1; rng only draws the noise itself."""
    image = (
        _reduce_resolution(image, transform)
        .clamp(0, _MAX_INTENSITY)
        .pow(transform.gamma)
        .mul_(transform.gain)
        .add_(transform.offset)
    )
    if transform.noise:
        image.add_(transform.noise * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32)))
    if transform.bias_field is not None:
        # numpy's: torch's is MKL's, and that errs by 1e-4 when two threads call it for the first time at once
        image.mul_(torch.from_numpy(np.exp(_upsample_bicubic(transform.bias_field[None], image.shape[-1]).numpy())))
    if transform.inverted:
        image.neg_().add_(1)
    return image


def _reduce_resolution(image: torch.Tensor, transform: IntensityTransform) -> torch.Tensor:
    """Blurred over 3 pixels, or with fewer pixels along one axis."""
    if transform.blur:
        image = functional.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
    axis, pixel = transform.low_resolution
    if pixel > 1:
        size = list(image.shape[1:])
        few = size.copy()
        few[axis] = round(size[axis] / pixel)
        image = functional.interpolate(image[None], size=few, mode="area")
        image = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)[0]
    return image


def truncate_field_of_view(
    image: torch.Tensor, codes: Array, truncated_side: tuple[int, int]
) -> tuple[torch.Tensor, Array]:
    """The field ends `depth` pixels before a side; beyond it the border is repeated and nothing is known."""
    side, depth = truncated_side
    if not depth:
        return image, codes
    axis, back = divmod(side, 2)
    size = codes.shape[axis - 2]
    index = np.clip(np.arange(size), 0, size - 1 - depth) if back else np.clip(np.arange(size), depth, size - 1)
    beyond = np.arange(size) != index
    image = image.index_select(axis + 1, torch.from_numpy(index))
    return image, np.where(beyond[:, None] if axis == 0 else beyond[None], np.uint8(0), codes)
