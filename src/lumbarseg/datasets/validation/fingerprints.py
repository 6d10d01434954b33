"""Duplicate exams, found also with another number type, scale, mirroring, cropping or lossy compression.

An image has two fingerprints. The codes: at each bright point, 64 comparisons of grey values make a code (as in BRIEF,
Calonder et al., ECCV 2010), and the codes with the smallest hashes are kept (bottom-k sketch, Cohen and Kaplan,
PODC 2007). Scaling or cropping leaves the remaining codes the same. The thumbnail: the complete image in a few voxels,
which lossy compression hardly changes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from scipy import ndimage

from lumbarseg.resampling import apply_matrices, interpolation_matrix
from lumbarseg.volume import Array, Volume

_CODES_PER_IMAGE = 256
_CODE_RADIUS = 7  # voxels that a code compares
_PEAK_RADIUS = 3  # voxels around a bright point in which nothing is brighter
_THUMBNAIL_SHAPE = (4, 20, 20)
_SHARED_FRACTION = 0.15  # of the codes: a seventh of an exam is still found; different exams share none
_MIN_SHARED_CODES = 12
_MIN_CORRELATION = 0.999  # of thumbnails
_MIRRORS = ((1, 1), (-1, 1), (1, -1), (-1, -1))  # left and right make no difference to codes in a sagittal plane

_rng = np.random.default_rng(20150810)
_COMPARISON_OFFSETS = _rng.integers(-_CODE_RADIUS, _CODE_RADIUS + 1, (64, 2, 2))
_POWERS = np.uint64(1) << np.arange(64, dtype=np.uint64)
_HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Fingerprints of an image.

    Attributes
    ----------
    codes : (n,) uint64 each, of the image and of its mirror images
    thumbnail : float32 of mean 0 and length 1; empty for a constant image
    """

    codes: tuple[Array, ...]
    thumbnail: Array


@dataclass(frozen=True)
class DuplicatePair:
    """Two exams, by their numbers, that are the same; description: in what way."""

    first: int
    second: int
    description: str


def compute_fingerprint(image: Volume) -> Fingerprint:
    """Compute the fingerprints of an image in RAS order."""
    array = np.ascontiguousarray(image.array)
    points = _bright_points(array)
    codes = tuple(_codes(array.ravel(), points, array.shape[2], mirror) for mirror in _MIRRORS)
    return Fingerprint(codes, compute_thumbnail(array))


def compute_thumbnail(array: Array) -> Array:
    """Return (I, J, K) in few voxels, float32 of mean 0 and length 1; empty when constant."""
    sizes = zip(array.shape, _THUMBNAIL_SHAPE, strict=True)
    first, second, third = (interpolation_matrix(n, few, n / few, n / few / 2 - 0.5, n / few) for n, few in sizes)
    small = apply_matrices(array, (first, second, third))
    small = small - small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > 1e-6 else np.zeros(0, np.float32)


def _bright_points(array: Array) -> Array:
    """Return the flat indices, (n,), of voxels that are brighter than all around them in their sagittal slice."""
    inner = (slice(None), slice(_CODE_RADIUS, -_CODE_RADIUS), slice(_CODE_RADIUS, -_CODE_RADIUS))
    center = array[inner]
    if center.size == 0:
        return np.zeros(0, np.intp)
    highest = ndimage.maximum_filter(array, (1, 2 * _PEAK_RADIUS + 1, 2 * _PEAK_RADIUS + 1))
    is_peak = center == highest[inner]
    for axis in (1, 2):
        for shift in (-1, 1):
            is_peak &= center > np.roll(array, shift, axis)[inner]
    i, j, k = np.nonzero(is_peak)
    return np.ravel_multi_index((i, j + _CODE_RADIUS, k + _CODE_RADIUS), array.shape)


def _codes(values: Array, points: Array, row_length: int, mirror: tuple[int, int]) -> Array:
    """Return the sorted codes with the smallest hashes.

    Parameters
    ----------
    values : the flattened image
    points : flat indices
    row_length : voxels along the last axis
    mirror : 1 or -1 for each axis of the sagittal plane
    """
    steps = _COMPARISON_OFFSETS[..., 0] * (mirror[0] * row_length) + _COMPARISON_OFFSETS[..., 1] * mirror[1]
    codes = np.zeros(len(points), np.uint64)
    for (first, second), power in zip(steps, _POWERS, strict=True):
        codes[values[points + first] > values[points + second]] |= power
    codes = codes[np.abs(np.bitwise_count(codes).astype(int) - 32) < 24]  # air makes codes of nearly all 0
    return np.unique(codes * _HASH_MULTIPLIER)[:_CODES_PER_IMAGE]


def find_duplicates(fingerprints: Sequence[Fingerprint]) -> list[DuplicatePair]:
    """Return the pairs of exams that are the same."""
    by_codes = _pairs_by_codes(fingerprints)
    by_thumbnail = _pairs_by_thumbnail(fingerprints)
    return [*by_codes.values(), *(pair for pair in by_thumbnail if (pair.first, pair.second) not in by_codes)]


def _pairs_by_codes(fingerprints: Sequence[Fingerprint]) -> dict[tuple[int, int], DuplicatePair]:
    exams_with_code: dict[int, list[int]] = defaultdict(list)
    for number, fingerprint in enumerate(fingerprints):
        for code in fingerprint.codes[0].tolist():
            exams_with_code[code].append(number)
    pairs = {}
    for number, fingerprint in enumerate(fingerprints):
        for mirror, codes in zip(_MIRRORS, fingerprint.codes, strict=True):
            shared = Counter(chain.from_iterable(exams_with_code.get(code, ()) for code in codes.tolist()))
            mirrored = ", one of them mirrored" if mirror != _MIRRORS[0] else ""
            for other in (other for other in shared if other < number):
                fewer = min(len(codes), len(fingerprints[other].codes[0]))
                if shared[other] >= max(_MIN_SHARED_CODES, _SHARED_FRACTION * fewer):
                    extent = "the same voxels" if shared[other] > 0.9 * fewer else "a part of the same voxels"
                    pairs[other, number] = DuplicatePair(other, number, f"{extent}{mirrored}")
    return pairs


def _pairs_by_thumbnail(fingerprints: Sequence[Fingerprint]) -> list[DuplicatePair]:
    usable = [number for number, fingerprint in enumerate(fingerprints) if fingerprint.thumbnail.size]
    if len(usable) < 2:
        return []
    thumbnails = [fingerprints[number].thumbnail for number in usable]
    flat = np.stack([thumbnail.ravel() for thumbnail in thumbnails])
    best = np.full((len(usable), len(usable)), -1.0, np.float32)
    for axes in chain.from_iterable(combinations(range(3), count) for count in range(4)):
        mirrored = np.stack([np.flip(thumbnail, axes).ravel() for thumbnail in thumbnails])
        np.maximum(best, flat @ mirrored.T, out=best)
    return [
        DuplicatePair(usable[a], usable[b], f"the same image (correlation {best[a, b]:.4f})")
        for a, b in np.argwhere(np.triu(best > _MIN_CORRELATION, 1))
    ]
