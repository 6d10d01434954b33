"""The network's prediction for one exam, with the axes turned as the anatomy shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lumbarseg.inference import Predictor, predict
from lumbarseg.preprocessing import PreparedImage, argmax_classes
from lumbarseg.volume import Array, Grid

from .orientation import Flips, estimate_flips, flip_axes


@dataclass(frozen=True, eq=False)
class Prediction:
    """Class probabilities of an exam on the network grid, whose anterior and superior axes are reversed by `flips`.

    Attributes
    ----------
    prepared : the image on the network grid as the header orients it, not flipped
    flips : whether the anterior and the superior axis were reversed
    probabilities : (classes, slices, A, S) float32
    classes : (slices, A, S) uint8, the most probable class
    """

    prepared: PreparedImage
    flips: Flips
    probabilities: Array
    classes: Array

    @property
    def spacing(self) -> Array:
        """Return the voxel spacing of the network grid, (3,) mm."""
        return np.array(self.prepared.grid.spacing)

    @property
    def grid(self) -> Grid:
        """Return the flipped network grid; its points stay where the header places them."""
        shape, flip = self.prepared.grid.shape, np.eye(4)
        for axis, reverse in enumerate(self.flips, start=1):
            if reverse:
                flip[axis, axis], flip[axis, 3] = -1, shape[axis] - 1
        return Grid(shape, self.prepared.grid.affine @ flip)


def predict_upright(model: Predictor, prepared: PreparedImage) -> Prediction:
    """Predict class probabilities, a second time with reversed axes when the anatomy contradicts the header."""
    return predict_with_flips(lambda flips: predict(model, flip_axes(prepared.array, flips)), prepared)


def predict_with_flips(predict_flipped: Callable[[Flips], Array], prepared: PreparedImage) -> Prediction:
    """Predict as the header orients the exam, and again with reversed axes when the anatomy contradicts the header.

    Parameters
    ----------
    predict_flipped : returns (classes, slices, A, S) probabilities of the prepared image with reversed axes
    prepared : the image on the network grid
    """
    flips = (False, False)
    probabilities = predict_flipped(flips)
    classes = argmax_classes(probabilities)
    flips = estimate_flips(classes, np.array(prepared.grid.spacing))
    if any(flips):
        probabilities = predict_flipped(flips)
        classes = argmax_classes(probabilities)
    return Prediction(prepared, flips, probabilities, classes)
