"""Random augmentation of crops: where a crop lies and how it is deformed, and how another scanner would show it.

Both are sampled first (`SpatialTransform`, `IntensityTransform`) and applied afterwards. A few crops are mirrored front
to back or upside down together with their labels: the network separates tissues, not levels, and must do so even where
the header is wrong, so that the anatomy can correct it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from lumbarseg.volume import Array

_FLIP_ANTERIOR, _FLIP_VERTICAL = 0.15, 0.08  # probabilities
_MAX_INTENSITY = 1.6  # slightly above the normalised image's limit of 1.5


@dataclass(frozen=True, eq=False)
class SpatialTransform:
    """Where a crop lies in a slice.

    matrix : (2, 2), crop pixels to slice pixels; centre : (2,) slice pixels; displacement : (2, 5, 5) pixels, or None;
    border_padding : repeat the border of the slice outside it, instead of zeros.
    """

    matrix: Array
    centre: Array
    displacement: Array | None
    border_padding: bool


@dataclass(frozen=True, eq=False)
class IntensityTransform:
    """How a crop looks.

    noise : standard deviation; low_resolution : axis and pixel size, 1 leaves it; bias_field : (4, 4) logarithm of the
    gain, or None; truncated_side : side 0-3 (low and high end of each axis) and the pixels that are cut off there.
    """

    gamma: float
    gain: float
    offset: float
    noise: float
    blur: bool
    low_resolution: tuple[int, float]
    bias_field: Array | None
    inverted: bool
    truncated_side: tuple[int, int]


def sample_spatial_transform(
    rng: np.random.Generator, shape: tuple[int, int], spine_pixels: Array, crop_size: int
) -> SpatialTransform:
    """Sample a crop in a slice of `shape`: three of four around a spine pixel, the others anywhere in the slice."""
    angle = np.radians(rng.normal(0, 8))
    scale, stretch = np.exp(rng.normal(0, 0.16)), np.exp(rng.normal(0, 0.06))
    matrix = scale * np.array(
        [[np.cos(angle) / stretch, -np.sin(angle) / stretch], [np.sin(angle) * stretch, np.cos(angle) * stretch]]
    )
    matrix[0] *= -1 if rng.random() < _FLIP_ANTERIOR else 1
    matrix[1] *= -1 if rng.random() < _FLIP_VERTICAL else 1
    size = np.array(shape)
    if rng.random() < 0.75:
        centre = spine_pixels[rng.integers(len(spine_pixels))] + rng.normal(0, crop_size / 7, 2)
    else:
        centre = size / 2 + rng.normal(0, size / 7)
    displacement = rng.normal(0, 3.0, (2, 5, 5)).astype(np.float32) if rng.random() < 0.4 else None
    return SpatialTransform(
        matrix, np.clip(centre, 0.15 * size, 0.85 * size), displacement, border_padding=bool(rng.random() < 0.5)
    )


def sample_intensity_transform(rng: np.random.Generator) -> IntensityTransform:
    """Sample the look of another scanner."""
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
    image: Array, codes: Array, transform: SpatialTransform, crop_size: int
) -> tuple[torch.Tensor, Array]:
    """Sample a crop: the image linearly, the label codes by nearest neighbour.

    image : (C, A, S) float32 and codes : (..., A, S) uint8, to (C, crop, crop) and (..., crop, crop). Outside the slice
    codes are 0, unknown.
    """
    offsets = np.arange(crop_size, dtype=np.float32) - (crop_size - 1) / 2
    matrix = transform.matrix.astype(np.float32)
    centre = transform.centre.astype(np.float32)
    points = [centre[i] + matrix[i, 0] * offsets[:, None] + matrix[i, 1] * offsets[None] for i in range(2)]
    if transform.displacement is not None:
        displacement = _upsample_bicubic(transform.displacement, crop_size).numpy()
        points = [a + b for a, b in zip(points, displacement, strict=True)]  # 2 x (crop, crop) slice pixels
    sides = codes.shape[-2:]
    grid = np.stack([(2 * a + 1) / n - 1 for a, n in zip(points[::-1], sides[::-1], strict=True)], -1)
    crop = functional.grid_sample(
        torch.from_numpy(image)[None],
        torch.from_numpy(grid)[None],
        padding_mode="border" if transform.border_padding else "zeros",
        align_corners=False,
    )
    rows, columns = (np.rint(a).astype(np.int32) for a in points)
    inside = (rows >= 0) & (rows < sides[0]) & (columns >= 0) & (columns < sides[1])
    nearest = codes[..., np.clip(rows, 0, sides[0] - 1), np.clip(columns, 0, sides[1] - 1)]
    return crop[0], np.where(inside, nearest, np.uint8(0))


def _upsample_bicubic(coarse: Array, size: int) -> torch.Tensor:
    """Return a (C, n, n) array at (C, size, size)."""
    return functional.interpolate(
        torch.from_numpy(coarse)[None], size=(size, size), mode="bicubic", align_corners=False
    )[0]


def apply_intensity_transform(
    image: torch.Tensor, transform: IntensityTransform, rng: np.random.Generator
) -> torch.Tensor:
    """Return an image (C, A, S) float32 of about 0..1 with another look; `rng` draws the noise itself."""
    image = _reduce_resolution(image, transform).clamp(0, _MAX_INTENSITY)
    image = image.pow(transform.gamma).mul_(transform.gain).add_(transform.offset)
    if transform.noise:
        image.add_(transform.noise * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32)))
    if transform.bias_field is not None:
        # numpy's exp: torch's is MKL's, which errs by 1e-4 when two threads call it for the first time at once
        image.mul_(torch.from_numpy(np.exp(_upsample_bicubic(transform.bias_field[None], image.shape[-1]).numpy())))
    if transform.inverted:
        image.neg_().add_(1)
    return image


def _reduce_resolution(image: torch.Tensor, transform: IntensityTransform) -> torch.Tensor:
    """Blur over 3 pixels, or average to larger pixels along one axis and interpolate back."""
    if transform.blur:
        image = functional.avg_pool2d(image[None], 3, 1, 1, count_include_pad=False)[0]
    axis, pixel = transform.low_resolution
    if pixel > 1:
        size = list(image.shape[1:])
        small = size.copy()
        small[axis] = round(size[axis] / pixel)
        image = functional.interpolate(image[None], size=small, mode="area")
        image = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)[0]
    return image


def truncate_field_of_view(
    image: torch.Tensor, codes: Array, truncated_side: tuple[int, int]
) -> tuple[torch.Tensor, Array]:
    """End the field of view some pixels before a side; outside it the border is repeated and codes are 0, unknown."""
    side, depth = truncated_side
    if not depth:
        return image, codes
    axis, high_end = divmod(side, 2)
    size = codes.shape[axis - 2]
    index = np.clip(np.arange(size), 0, size - 1 - depth) if high_end else np.clip(np.arange(size), depth, size - 1)
    outside = np.arange(size) != index
    image = image.index_select(axis + 1, torch.from_numpy(index))
    return image, np.where(outside[:, None] if axis == 0 else outside[None], np.uint8(0), codes)
