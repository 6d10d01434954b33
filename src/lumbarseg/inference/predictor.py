"""From a prepared exam to class probabilities, a few slices at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from lumbarseg.clicks import Click, encode_clicks, visible_box
from lumbarseg.errors import ModelError
from lumbarseg.preprocessing import argmax_classes, extract_windows
from lumbarseg.volume import Array, Grid

from . import sliding_window
from .card import ModelCard

SLICES_PER_BATCH = 4
"""Slices per call of the network: enough to keep the cores busy, few enough for little memory."""

CROP_MARGIN = 24
"""Pixels about the spine of the slices that were looked at whole."""
_MIN_SLICES_TO_CROP = 8  # slices; fewer are all looked at whole


class Predictor(Protocol):
    """Anything with a card that turns windows into logits."""

    @property
    def card(self) -> ModelCard:
        """What it was made for."""

    def run(self, windows: Array) -> Array:
        """windows: (N, inputs, A, S) float32 to (N, classes, A, S) float32; (N, 1, D, A, S) for one that has depth."""


@dataclass(frozen=True, eq=False)
class SlicePrediction:
    """What the network said of a part of a slice. place: slice, A and S; scores: (classes, a, s) probabilities."""

    region: tuple[int, slice, slice]
    probabilities: Array


@dataclass(eq=False)
class ClickCache:
    """What the network said after the clicks before, by what it saw: the next click changes few slices."""

    predictions: dict[tuple[Any, ...], SlicePrediction] = field(default_factory=dict)


def predict(model: Predictor, array: Array) -> Array:
    """array: (slices, A, S) float32 from `prepare`, to (classes, slices, A, S) float32 probabilities.

    A few slices are looked at whole; the others only where these show spine, with a margin: the belly is a third of the
    field and of the time. Where nothing was looked at, background is certain. A network of one size looks at
    overlapping squares of everything, see `tiles`.
    """
    if model.card.spec.tile:
        logits = sliding_window.sliding_window_inference(model.run, array, model.card.spec, len(model.card.classes))
        logits += np.array(model.card.bias, np.float32)[:, None, None, None]
        _softmax(logits[None])
        return logits
    count, rows, columns = array.shape
    out = np.zeros((len(model.card.classes), count, rows, columns), np.float32)
    out[0] = 1
    first, whole = _full_view_slices(count), (slice(0, rows), slice(0, columns))
    for view in _predict_slices(model, array, first, whole):
        out[(slice(None), *view.region)] = view.probabilities
    rest = [i for i in range(count) if i not in first]
    for view in _predict_slices(model, array, rest, _foreground_box(out[:, first], model.card.spec.multiple) or whole):
        out[(slice(None), *view.region)] = view.probabilities
    return out


def predict_with_clicks(
    model: Predictor,
    array: Array,
    clicks: Sequence[Click],
    grid: Grid,
    base_probabilities: Array,
    cache: ClickCache | None = None,
) -> list[SlicePrediction]:
    """What the network says after clicks of the slices in which any is seen; it is the same as before in all others.

    The network sees as much of them as before, so that an answer changes for a click's sake and not for another view's;
    more only where a click lies outside that.

    grid: of the array; base: (classes, slices, A, S), the answer without clicks; heard: what was said after other
    clicks, of which slices with the same clicks are taken; it is brought up to date. ModelError when the network reads
    no clicks.
    """
    spec, (count, rows, columns) = model.card.spec, array.shape
    if spec.clicks is None:
        raise ModelError("the network reads no clicks")
    boxes = [visible_box(click, grid, spec.clicks) for click in clicks]
    first, whole = _full_view_slices(count), (slice(0, rows), slice(0, columns))
    box = _foreground_box(base_probabilities[:, first], spec.multiple) or whole
    if not all(_contains(box, inside[1:]) for inside in boxes):
        seen = argmax_classes(base_probabilities) > 0
        for inside in boxes:
            seen[inside] = True
        box = _padded_box(seen, spec.multiple) or whole
    keys = {}
    for i in range(count):
        shown = tuple(click for click, (through, *_) in zip(clicks, boxes, strict=True) if i in _indices(through))
        if shown:
            keys[i] = (model, i, i in first or _bounds(box), shown)
    known = cache.predictions if cache is not None else {}
    found = {i: known[key] for i, key in keys.items() if key in known}
    said = encode_clicks(clicks, grid, spec.clicks)
    new = [i for i in keys if i not in found]
    for slices, part in (([i for i in new if i in first], whole), ([i for i in new if i not in first], box)):
        found |= {view.region[0]: view for view in _predict_slices(model, array, slices, part, said)}
    if cache is not None:
        cache.predictions = {key: found[i] for i, key in keys.items()}
    return [found[i] for i in keys]


def _indices(side: slice) -> range:
    return range(side.start, side.stop)


def _bounds(box: tuple[slice, slice]) -> tuple[int, ...]:
    return tuple(bound for side in box for bound in (side.start, side.stop))


def _contains(box: tuple[slice, slice], inner: tuple[slice, ...]) -> bool:
    """Whether a box of the plane holds another, or that is empty."""
    sides = list(zip(box, inner, strict=True))
    return any(not _indices(b) for _, b in sides) or all(a.start <= b.start and b.stop <= a.stop for a, b in sides)


def _full_view_slices(count: int) -> list[int]:
    """Of so many slices those that are looked at whole."""
    return [count // 2, count // 4, 3 * count // 4] if count >= _MIN_SLICES_TO_CROP else list(range(count))


def _predict_slices(
    model: Predictor, array: Array, slices: list[int], box: tuple[slice, slice], clicks: Array | None = None
) -> Iterator[SlicePrediction]:
    """Some slices inside a box of the plane; clicks: (classes, slices, A, S) from `channels`."""
    bias = np.array(model.card.bias, np.float32)[:, None, None]
    inside, said = array[:, box[0], box[1]], None if clicks is None else clicks[:, :, box[0], box[1]]
    _, rows, columns = inside.shape
    for start in range(0, len(slices), SLICES_PER_BATCH):
        some = slices[start : start + SLICES_PER_BATCH]
        logits = model.run(extract_windows(inside, model.card.spec, said, some))[:, :, :rows, :columns] + bias
        _softmax(logits)
        for i, probabilities in zip(some, logits, strict=True):
            yield SlicePrediction((i, *box), probabilities)


def _foreground_box(scores: Array, multiple: int) -> tuple[slice, slice] | None:
    """The box in plane, in multiples of the network's, that holds all foreground with a margin; None without any."""
    return _padded_box(argmax_classes(scores) > 0, multiple)


def _padded_box(seen: Array, multiple: int) -> tuple[slice, slice] | None:
    """The box in plane about what is seen in any slice, (slices, A, S) bool."""
    plane: Array = np.any(seen, axis=0)
    if not plane.any():
        return None
    sides = []
    for axis in (0, 1):
        places = np.flatnonzero(plane.any(axis=1 - axis))
        low, high = max(0, int(places[0]) - CROP_MARGIN), min(plane.shape[axis], int(places[-1]) + 1 + CROP_MARGIN)
        size = min(plane.shape[axis], -(-(high - low) // multiple) * multiple)
        low = max(0, min(low, plane.shape[axis] - size))
        sides.append(slice(low, low + size))
    return sides[0], sides[1]


def _softmax(scores: Array) -> None:
    """scores: (N, classes, ...), our own; replaced by probabilities over the classes."""
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
