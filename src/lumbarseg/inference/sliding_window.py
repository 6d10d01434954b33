"""For networks that read one size: squares, or blocks of them, laid over an exam so that they overlap.

Where several saw a voxel, their logits are averaged with weights that fall off towards the border of each, as in
MONAI's sliding window; instance norms must see here what they saw in training, not a field of another size.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from lumbarseg.preprocessing import PreprocessingSpec, extract_windows
from lumbarseg.volume import Array

MIN_OVERLAP = 0.25
"""Least share of a tile that the next one sees, too."""
_SIGMA = 0.25  # of a tile's size; the weight at its border is then an eighth of that in its middle
_BATCH_VOXELS = 4 * 192 * 192  # in one call of the network, so that memory stays small


def sliding_window_inference(
    run: Callable[[Array], Array], array: Array, spec: PreprocessingSpec, classes: int
) -> Array:
    """array: (slices, A, S) float32 to (classes, slices, A, S) float32 logits; run: of windows as `spec` says.

    An exam smaller than a tile is continued with its edge values on both sides.
    """
    size = (spec.depth or 1, spec.tile, spec.tile)
    before = [max(0, s - n) // 2 for s, n in zip(size, array.shape, strict=True)]
    after = [max(0, s - n) - b for s, n, b in zip(size, array.shape, before, strict=True)]
    padded = np.pad(array, list(zip(before, after, strict=True)), mode="edge")
    seen = (
        padded[:, None] if spec.depth else extract_windows(padded, _without_padding(spec))
    )  # (slices, channels, A, S)
    logits = np.zeros((classes, *padded.shape), np.float32)
    weights = np.zeros(padded.shape, np.float32)
    weight = _gaussian_weights(size)
    places = list(product(*(tile_starts(n, s) for n, s in zip(padded.shape, size, strict=True))))
    many = max(1, _BATCH_VOXELS // int(np.prod(size)))
    for first in range(0, len(places), many):
        some = [tuple(slice(p, p + s) for p, s in zip(at, size, strict=True)) for at in places[first : first + many]]
        tiles = np.stack([seen[d, :, a, s] for d, a, s in some])  # (N, D, channels, A, S)
        out = run(np.ascontiguousarray(tiles.swapaxes(1, 2) if spec.depth else tiles[:, 0]))
        for place, answer in zip(some, out, strict=True):
            logits[(slice(None), *place)] += weight * answer.reshape(classes, *size)
            weights[place] += weight
    logits /= weights
    return logits[(slice(None), *(slice(b, b + n) for b, n in zip(before, array.shape, strict=True)))].copy()


def tile_starts(count: int, size: int) -> list[int]:
    """Where tiles of `size` begin along an axis of `count`, evenly, so that each overlaps the next by `OVERLAP`."""
    number = 1 + max(0, -(-(count - size) // max(1, int(size * (1 - MIN_OVERLAP)))))
    return [round(place) for place in np.linspace(0, count - size, number)]


def _gaussian_weights(size: tuple[int, int, int]) -> Array:
    """How much a tile's voxels count, (D, A, S) float32: a bell along each axis."""
    bells = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (_SIGMA * n)) ** 2) for n in size]
    return (bells[0][:, None, None] * bells[1][:, None] * bells[2]).astype(np.float32)


def _without_padding(spec: PreprocessingSpec) -> PreprocessingSpec:
    """The same without padding to a multiple: tiles bring their own size."""
    return PreprocessingSpec(neighbours=spec.neighbours, multiple=1)
