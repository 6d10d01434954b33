"""From a prepared exam to class probabilities, a few slices at a time."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from lumbarseg.prepare import Spec, windows
from lumbarseg.volume import Array

from .card import Card

SLICES = 4
"""Slices per call of the network: enough to keep the cores busy, few enough for little memory."""


class Answers(Protocol):
    """Anything with a card that turns windows into logits."""

    @property
    def card(self) -> Card:
        """What it was made for."""

    def run(self, windows: Array) -> Array:
        """windows: (N, 2 * neighbours + 1, A, S) float32 to (N, classes, A, S) float32."""


def predict(model: Answers, array: Array) -> Array:
    """array: (slices, A, S) float32 from `prepare`, to (classes, slices, A, S) float32 probabilities."""
    count, rows, columns = array.shape
    bias = np.array(model.card.bias, np.float32)[:, None, None]
    out = np.empty((len(model.card.classes), count, rows, columns), np.float32)
    for first in range(0, count, SLICES):
        last = min(first + SLICES, count)
        logits = model.run(_some(array, first, last, model.card.spec))
        out[:, first:last] = (logits[:, :, :rows, :columns] + bias).swapaxes(0, 1)
        _softmax(out[:, first:last])
    return out


def _some(array: Array, first: int, last: int, spec: Spec) -> Array:
    """Windows of slices first..last-1 of an exam."""
    begin = max(0, first - spec.neighbours)
    return windows(array[begin : last + spec.neighbours], spec)[first - begin : last - begin]


def _softmax(scores: Array) -> None:
    """scores: (classes, ...), our own; replaced by probabilities over the first axis."""
    scores -= scores.max(0)
    np.exp(scores, out=scores)
    scores /= scores.sum(0)
