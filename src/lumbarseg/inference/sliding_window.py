"""Sliding-window inference for networks of fixed input size: overlapping squares, or blocks of them.

Where several tiles cover a voxel, their logits are averaged with Gaussian weights, as in MONAI's sliding window.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from lumbarseg.preprocessing import PreprocessingSpec, extract_windows
from lumbarseg.volume import Array

MIN_OVERLAP = 0.25
"""Smallest share of a tile that the next one covers too."""
_SIGMA = 0.25  # of a tile's size; the weight at its border is then an eighth of that in its middle
_BATCH_VOXELS = 4 * 192 * 192  # in one call of the network, so that memory stays small


def sliding_window_inference(
    run: Callable[[Array], Array], array: Array, spec: PreprocessingSpec, classes: int
) -> Array:
    """Predict the logits of a preprocessed exam. An exam smaller than a tile is padded with its edge values.

    Parameters
    ----------
    run : the network, as `Predictor.run`
    array : (slices, A, S) float32

    Returns
    -------
    (classes, slices, A, S) float32
    """
    size = (spec.depth or 1, spec.tile, spec.tile)
    before = [max(0, s - n) // 2 for s, n in zip(size, array.shape, strict=True)]
    after = [max(0, s - n) - b for s, n, b in zip(size, array.shape, before, strict=True)]
    padded = np.pad(array, list(zip(before, after, strict=True)), mode="edge")
    # tiles have their own size, so windows need no padding to a multiple
    unpadded = PreprocessingSpec(neighbours=spec.neighbours, multiple=1)
    channels = padded[:, None] if spec.depth else extract_windows(padded, unpadded)  # (slices, channels, A, S)
    logits = np.zeros((classes, *padded.shape), np.float32)
    weights = np.zeros(padded.shape, np.float32)
    weight = _gaussian_weights(size)
    starts = list(product(*(tile_starts(n, s) for n, s in zip(padded.shape, size, strict=True))))
    batch = max(1, _BATCH_VOXELS // int(np.prod(size)))
    for first in range(0, len(starts), batch):
        boxes = [
            tuple(slice(p, p + s) for p, s in zip(start, size, strict=True)) for start in starts[first : first + batch]
        ]
        tiles = np.stack([channels[d, :, a, s] for d, a, s in boxes])  # (N, D, channels, A, S)
        out = run(np.ascontiguousarray(tiles.swapaxes(1, 2) if spec.depth else tiles[:, 0]))
        for box, tile_logits in zip(boxes, out, strict=True):
            logits[(slice(None), *box)] += weight * tile_logits.reshape(classes, *size)
            weights[box] += weight
    logits /= weights
    return logits[(slice(None), *(slice(b, b + n) for b, n in zip(before, array.shape, strict=True)))].copy()


def tile_starts(count: int, size: int) -> list[int]:
    """Return where tiles of `size` begin along an axis of `count`, evenly, so that each overlaps the next."""
    number = 1 + max(0, -(-(count - size) // max(1, int(size * (1 - MIN_OVERLAP)))))
    return [round(start) for start in np.linspace(0, count - size, number)]


def _gaussian_weights(size: tuple[int, int, int]) -> Array:
    """Return the weights of a tile's voxels, (D, A, S) float32, a Gaussian along each axis."""
    d, a, s = (np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (_SIGMA * n)) ** 2) for n in size)
    return (d[:, None, None] * a[:, None] * s).astype(np.float32)
