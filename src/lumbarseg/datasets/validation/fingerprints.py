"""Whether two exams are one: found again in another number type, scale, mirror image, excerpt or lossy copy.

Two fingerprints of an image. The sketch: at each bright point 64 comparisons of grey values around it make a code (as
BRIEF does, Calonder et al., ECCV 2010), and the codes with the smallest hashes are kept (bottom-k, Cohen and Kaplan,
PODC 2007). Numbers may be scaled and the image cut, the codes of what is left stay the same. The thumbnail: the whole
image in a few voxels, which a lossy copy hardly changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from lumbarseg.resampling import apply_matrices, interpolation_matrix
from lumbarseg.volume import Array, Volume

_CODES_PER_IMAGE = 256  # kept of an image
_CODE_RADIUS = 7  # voxels to which a code looks
_PEAK_RADIUS = 3  # voxels around a peak in which nothing is brighter
_THUMBNAIL_SHAPE = (4, 20, 20)
_SHARED_FRACTION = 0.15  # of the codes: an excerpt of a seventh of an exam is still found; other exams share none
_MIN_SHARED_CODES = 12  # codes that must agree at least
_MIN_CORRELATION = 0.999  # correlation of thumbnails
_MIRRORS = ((1, 1), (-1, 1), (1, -1), (-1, -1))  # sides make no difference to codes within a sagittal plane

_rng = np.random.default_rng(20150810)
_COMPARISON_OFFSETS = _rng.integers(-_CODE_RADIUS, _CODE_RADIUS + 1, (64, 2, 2))
_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)
_HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """codes: (n,) uint64 of the image and of its mirror images; thumbnail: float32 of mean 0 and length 1, or empty."""

    codes: tuple[Array, ...]
    thumbnail: Array


@dataclass(frozen=True)
class DuplicatePair:
    """Two exams, by number, that are one; how: for a person."""

    first: int
    second: int
    description: str


def compute_fingerprint(image: Volume) -> Fingerprint:
    """Of an exam in RAS order."""
    array = np.ascontiguousarray(image.array)
    points = _bright_points(array)
    codes = tuple(_codes(array.ravel(), points, array.shape[2], turn) for turn in _MIRRORS)
    return Fingerprint(codes, compute_thumbnail(array))


def compute_thumbnail(array: Array) -> Array:
    """(I, J, K) in few voxels, float32 of mean 0 and length 1; of length 0 when constant."""
    steps = [n / few for n, few in zip(array.shape, _THUMBNAIL_SHAPE, strict=True)]
    first, second, third = (
        interpolation_matrix(n, few, step, step / 2 - 0.5, step)
        for n, few, step in zip(array.shape, _THUMBNAIL_SHAPE, steps, strict=True)
    )
    small = apply_matrices(array, (first, second, third))
    small = small - small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 1e-6 else np.zeros(0, np.float32)


def _bright_points(array: Array) -> Array:
    """(n,) places in (I, J, K), counted through: voxels brighter than all around them in their sagittal slice."""
    inner = (slice(None), slice(_CODE_RADIUS, -_CODE_RADIUS), slice(_CODE_RADIUS, -_CODE_RADIUS))
    here = array[inner]
    if here.size == 0:
        return np.zeros(0, np.intp)
    highest = ndimage.maximum_filter(array, (1, 2 * _PEAK_RADIUS + 1, 2 * _PEAK_RADIUS + 1))
    bright = here == highest[inner]
    for axis in (1, 2):
        for shift in (-1, 1):
            bright &= here > np.roll(array, shift, axis)[inner]
    i, j, k = np.nonzero(bright)
    return np.ravel_multi_index((i, j + _CODE_RADIUS, k + _CODE_RADIUS), array.shape)


def _codes(values: Array, points: Array, row: int, turn: tuple[int, int]) -> Array:
    """The codes with the smallest hashes, sorted. values: an image counted through, in rows of `row` voxels; turn: 1
    or -1 for each axis of the sagittal plane, as the image or its mirror image is seen."""
    steps = _COMPARISON_OFFSETS[..., 0] * (turn[0] * row) + _COMPARISON_OFFSETS[..., 1] * turn[1]
    codes = np.zeros(len(points), np.uint64)
    for (first, second), power in zip(steps, _POWERS, strict=True):
        codes[values[points + first] > values[points + second]] |= power
    codes = codes[np.abs(np.bitwise_count(codes).astype(int) - 32) < 24]  # air makes codes of nearly all 0
    return np.unique(codes * _HASH_MULTIPLIER)[:_CODES_PER_IMAGE]


def find_duplicates(fingerprints: Sequence[Fingerprint]) -> list[DuplicatePair]:
    """Pairs of exams that are one."""
    found = _pairs_by_codes(fingerprints)
    return [
        *found.values(),
        *(twin for twin in _pairs_by_thumbnail(fingerprints) if (twin.first, twin.second) not in found),
    ]


def _pairs_by_codes(prints: Sequence[Fingerprint]) -> dict[tuple[int, int], DuplicatePair]:
    holders: dict[int, list[int]] = defaultdict(list)
    for number, held in enumerate(prints):
        for code in held.codes[0].tolist():
            holders[code].append(number)
    found = {}
    for number, held in enumerate(prints):
        for mirror, codes in zip(_MIRRORS, held.codes, strict=True):
            shared: dict[int, int] = defaultdict(int)
            for code in codes.tolist():
                for other in holders.get(code, ()):
                    shared[other] += other < number
            mirrored = ", one of them mirrored" if mirror != _MIRRORS[0] else ""
            for other, count in shared.items():
                fewer = min(len(codes), len(prints[other].codes[0]))
                if count >= max(_MIN_SHARED_CODES, _SHARED_FRACTION * fewer):
                    whole = "the same voxels" if count > 0.9 * fewer else "an excerpt of the same voxels"
                    found[other, number] = DuplicatePair(other, number, f"{whole}{mirrored}")
    return found


def _pairs_by_thumbnail(prints: Sequence[Fingerprint]) -> list[DuplicatePair]:
    usable = [number for number, held in enumerate(prints) if held.thumbnail.size]
    if len(usable) < 2:
        return []
    flat = np.stack([prints[number].thumbnail.ravel() for number in usable])
    best = np.full((len(usable), len(usable)), -1.0, np.float32)
    for axes in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        mirrored = np.stack([np.flip(prints[number].thumbnail, axes).ravel() for number in usable])
        np.maximum(best, flat @ mirrored.T, out=best)
    pairs = np.argwhere(np.triu(best > _MIN_CORRELATION, 1))
    return [DuplicatePair(usable[a], usable[b], f"the same picture (correlation {best[a, b]:.4f})") for a, b in pairs]
