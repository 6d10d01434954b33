"""Class probabilities of a preprocessed exam, predicted a few slices at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from lumbarseg.clicks import Click, encode_clicks, visible_box
from lumbarseg.errors import ModelError
from lumbarseg.preprocessing import argmax_classes, extract_windows
from lumbarseg.volume import Array, Grid

from .card import ModelCard
from .sliding_window import sliding_window_inference

SLICES_PER_BATCH = 4
"""Slices in one call of the network: enough to keep the cores busy, few enough for little memory."""
CROP_MARGIN = 24
"""Pixels about the spine of the slices that were predicted over the full field of view."""
_MIN_SLICES_TO_CROP = 8  # fewer slices are all predicted over the full field of view

PlaneBox = tuple[slice, slice]
_FULL_VIEW: PlaneBox = (slice(None), slice(None))


class Predictor(Protocol):
    """A network with its model card."""

    @property
    def card(self) -> ModelCard:
        """Return what the network was made for."""

    def run(self, windows: Array, /) -> Array:
        """Return logits, (N, classes, A, S), for windows, (N, inputs, A, S) float32; (..., D, A, S) in 3-D."""


@dataclass(frozen=True, eq=False)
class SlicePrediction:
    """The prediction for part of a slice. region: slice, A and S; probabilities: (classes, a, s)."""

    region: tuple[int, slice, slice]
    probabilities: Array


@dataclass(eq=False)
class ClickCache:
    """Predictions after the clicks before, by input: the next click changes few slices."""

    predictions: dict[tuple[Any, ...], SlicePrediction] = field(default_factory=dict)


def predict(model: Predictor, array: Array) -> Array:
    """Predict class probabilities of a preprocessed exam.

    A few slices are predicted over the full field of view; the others only where these show the spine, with a margin:
    that saves a third of the field and of the time. Elsewhere the background has probability 1. A network of fixed
    size predicts overlapping tiles of everything.

    Parameters
    ----------
    array : (slices, A, S) float32

    Returns
    -------
    (classes, slices, A, S) float32
    """
    if model.card.spec.tile:
        logits = sliding_window_inference(model.run, array, model.card.spec, len(model.card.classes))
        logits += np.array(model.card.bias, np.float32)[:, None, None, None]
        _softmax(logits[None])
        return logits
    out = np.zeros((len(model.card.classes), *array.shape), np.float32)
    out[0] = 1
    full = _full_view_slices(len(array))
    for part in _predict_slices(model, array, full, _FULL_VIEW):
        out[(slice(None), *part.region)] = part.probabilities
    cropped = [i for i in range(len(array)) if i not in full]
    box = _crop_box(argmax_classes(out[:, full]) > 0, model.card.spec.multiple)
    for part in _predict_slices(model, array, cropped, box):
        out[(slice(None), *part.region)] = part.probabilities
    return out


def predict_with_clicks(
    model: Predictor,
    array: Array,
    clicks: Sequence[Click],
    grid: Grid,
    base_probabilities: Array,
    cache: ClickCache | None = None,
) -> list[SlicePrediction]:
    """Predict the slices in which clicks are encoded; all other slices stay as they were.

    The network sees the same crop as before, so that a prediction changes because of a click and not because of
    another crop; a larger one only where a click lies outside it.

    Parameters
    ----------
    array : (slices, A, S) float32
    grid : of the array
    base_probabilities : (classes, slices, A, S), predicted without clicks
    cache : predictions after other clicks, from which slices with the same clicks are taken; updated in place

    Raises
    ------
    ModelError
        When the network does not accept clicks.
    """
    spec = model.card.spec
    if spec.clicks is None:
        raise ModelError("the network does not accept clicks")
    boxes = [visible_box(click, grid, spec.clicks) for click in clicks]
    full = _full_view_slices(len(array))
    box = _crop_box(argmax_classes(base_probabilities[:, full]) > 0, spec.multiple)
    if not all(_contains(box, click_box) for click_box in boxes):
        region = argmax_classes(base_probabilities) > 0
        for click_box in boxes:
            region[click_box] = True
        box = _crop_box(region, spec.multiple)
    crop = tuple(bound for side in box for bound in (side.start, side.stop))
    keys = {}
    for i in range(len(array)):
        visible = tuple(c for c, (side, *_) in zip(clicks, boxes, strict=True) if side.start <= i < side.stop)
        if visible:
            keys[i] = (model, i, i in full or crop, visible)
    cached = cache.predictions if cache is not None else {}
    predictions = {i: cached[key] for i, key in keys.items() if key in cached}
    channels = encode_clicks(clicks, grid, spec.clicks)
    new = [i for i in keys if i not in predictions]
    for slices, view in (([i for i in new if i in full], _FULL_VIEW), ([i for i in new if i not in full], box)):
        predictions |= {part.region[0]: part for part in _predict_slices(model, array, slices, view, channels)}
    if cache is not None:
        cache.predictions = {key: predictions[i] for i, key in keys.items()}
    return [predictions[i] for i in keys]


def _contains(box: PlaneBox, click_box: tuple[slice, slice, slice]) -> bool:
    """Return whether a box in plane contains that of a click, or the latter is empty."""
    sides = list(zip(box, click_box[1:], strict=True))
    empty = any(inner.start >= inner.stop for _, inner in sides)
    return empty or all(outer.start <= inner.start and inner.stop <= outer.stop for outer, inner in sides)


def _full_view_slices(count: int) -> list[int]:
    """Return the indices of the slices that are predicted over the full field of view."""
    return [count // 2, count // 4, 3 * count // 4] if count >= _MIN_SLICES_TO_CROP else list(range(count))


def _predict_slices(
    model: Predictor, array: Array, slices: list[int], box: PlaneBox, click_channels: Array | None = None
) -> Iterator[SlicePrediction]:
    """Predict some slices of (slices, A, S) inside a box in plane. click_channels: (classes, slices, A, S)."""
    bias = np.array(model.card.bias, np.float32)[:, None, None]
    crop = array[:, box[0], box[1]]
    channels = None if click_channels is None else click_channels[:, :, box[0], box[1]]
    _, rows, columns = crop.shape
    for start in range(0, len(slices), SLICES_PER_BATCH):
        batch = slices[start : start + SLICES_PER_BATCH]
        logits = model.run(extract_windows(crop, model.card.spec, channels, batch))[:, :, :rows, :columns] + bias
        _softmax(logits)
        for i, probabilities in zip(batch, logits, strict=True):
            yield SlicePrediction((i, *box), probabilities)


def _crop_box(region: Array, multiple: int) -> PlaneBox:
    """Return the box in plane about a region, (slices, A, S) bool, with a margin; all of the plane when it is empty.

    Its sizes are multiples of what the network needs, where the plane is large enough.
    """
    plane: Array = np.any(region, axis=0)
    if not plane.any():
        return slice(0, plane.shape[0]), slice(0, plane.shape[1])
    sides = []
    for axis, count in enumerate(plane.shape):
        occupied = np.flatnonzero(plane.any(axis=1 - axis))
        low, high = max(0, int(occupied[0]) - CROP_MARGIN), min(count, int(occupied[-1]) + 1 + CROP_MARGIN)
        size = min(count, -(-(high - low) // multiple) * multiple)
        low = max(0, min(low, count - size))
        sides.append(slice(low, low + size))
    return sides[0], sides[1]


def _softmax(logits: Array) -> None:
    """Replace logits, (N, classes, ...), by probabilities over the classes, in place."""
    logits -= logits.max(1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(1, keepdims=True)
