"""From a prepared exam to class probabilities, a few slices at a time."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from lumbarseg.clicks import FAINT
from lumbarseg.errors import ModelError
from lumbarseg.prepare import best_class, windows
from lumbarseg.volume import Array

from . import tiles
from .card import Card

SLICES = 4
"""Slices per call of the network: enough to keep the cores busy, few enough for little memory."""

MARGIN = 24
"""Pixels about the spine of the slices that were looked at whole."""
_MANY = 8  # slices; fewer are all looked at whole


class Answers(Protocol):
    """Anything with a card that turns windows into logits."""

    @property
    def card(self) -> Card:
        """What it was made for."""

    def run(self, windows: Array) -> Array:
        """windows: (N, inputs, A, S) float32 to (N, classes, A, S) float32; (N, 1, D, A, S) for one that has depth."""


def predict(model: Answers, array: Array) -> Array:
    """array: (slices, A, S) float32 from `prepare`, to (classes, slices, A, S) float32 probabilities.

    A few slices are looked at whole; the others only where these show spine, with a margin: the belly is a third of the
    field and of the time. Where nothing was looked at, background is certain. A network of one size looks at
    overlapping squares of everything, see `tiles`.
    """
    if model.card.spec.tile:
        logits = tiles.cover(model.run, array, model.card.spec, len(model.card.classes))
        logits += np.array(model.card.bias, np.float32)[:, None, None, None]
        _softmax(logits[None])
        return logits
    count, rows, columns = array.shape
    out = np.zeros((len(model.card.classes), count, rows, columns), np.float32)
    out[0] = 1
    first, whole = _first(count), (slice(0, rows), slice(0, columns))
    _fill(model, array, first, whole, out)
    rest = [i for i in range(count) if i not in first]
    _fill(model, array, rest, _spine(out[:, first], model.card.spec.multiple) or whole, out)
    return out


def again(model: Answers, array: Array, clicks: Array, base: Array) -> Array:
    """The same after clicks, as a new array: only slices in which a click is seen are looked at again.

    The network sees as much of them as before, so that an answer changes for a click's sake and not for another view's;
    more only where a click lies outside that.

    clicks: (classes, slices, A, S) from `clicks.channels`; base: (classes, slices, A, S), the answer without them.
    ModelError when the network reads no clicks.
    """
    spec = model.card.spec
    if spec.clicks is None:
        raise ModelError("the network reads no clicks")
    seen: Array = clicks.max(axis=0) > FAINT
    out, (count, rows, columns) = base.copy(), array.shape
    first, whole = _first(count), (slice(0, rows), slice(0, columns))
    box = _spine(base[:, first], spec.multiple) or whole
    if seen.any(axis=0).sum() > seen[:, box[0], box[1]].any(axis=0).sum():
        box = _box(seen | (best_class(base) > 0), spec.multiple) or whole
    asked = [i for i, there in enumerate(seen) if there.any()]
    _fill(model, array, [i for i in asked if i in first], whole, out, clicks)
    _fill(model, array, [i for i in asked if i not in first], box, out, clicks)
    return out


def _first(count: int) -> list[int]:
    """Of so many slices those that are looked at whole."""
    return [count // 2, count // 4, 3 * count // 4] if count >= _MANY else list(range(count))


def _fill(
    model: Answers,
    array: Array,
    slices: list[int],
    box: tuple[slice, slice],
    out: Array,
    clicks: Array | None = None,
) -> None:
    """Probabilities of some slices inside a box of the plane, written into `out`."""
    bias = np.array(model.card.bias, np.float32)[:, None, None]
    inside, said = array[:, box[0], box[1]], None if clicks is None else clicks[:, :, box[0], box[1]]
    _, rows, columns = inside.shape
    for start in range(0, len(slices), SLICES):
        some = slices[start : start + SLICES]
        logits = model.run(windows(inside, model.card.spec, said, some))[:, :, :rows, :columns] + bias
        _softmax(logits)
        for i, probabilities in zip(some, logits, strict=True):
            out[:, i, box[0], box[1]] = probabilities


def _spine(scores: Array, multiple: int) -> tuple[slice, slice] | None:
    """The box in plane, in multiples of the network's, that holds all foreground with a margin; None without any."""
    return _box(best_class(scores) > 0, multiple)


def _box(seen: Array, multiple: int) -> tuple[slice, slice] | None:
    """The box in plane about what is seen in any slice, (slices, A, S) bool."""
    plane: Array = np.any(seen, axis=0)
    if not plane.any():
        return None
    sides = []
    for axis in (0, 1):
        places = np.flatnonzero(plane.any(axis=1 - axis))
        low, high = max(0, int(places[0]) - MARGIN), min(plane.shape[axis], int(places[-1]) + 1 + MARGIN)
        size = min(plane.shape[axis], -(-(high - low) // multiple) * multiple)
        low = max(0, min(low, plane.shape[axis] - size))
        sides.append(slice(low, low + size))
    return sides[0], sides[1]


def _softmax(scores: Array) -> None:
    """scores: (N, classes, ...), our own; replaced by probabilities over the classes."""
    scores -= scores.max(1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(1, keepdims=True)
