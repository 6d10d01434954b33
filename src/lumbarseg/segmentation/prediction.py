"""Prediction of an exam with its axes turned as the anatomy shows: headers may swap front and back, or head and feet.

The network was trained on mirrored exams too, so it segments canal and sacrum wherever they are; where they lie on the
wrong side of the bodies, the header is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lumbarseg.anatomy import CLASSES
from lumbarseg.inference import Predictor, predict
from lumbarseg.orientation import MIN_PREDICTION_EVIDENCE, estimate_orientation
from lumbarseg.preprocessing import PreparedImage, argmax_classes
from lumbarseg.volume import Array, Grid, Volume

Flips = tuple[bool, bool]
"""Whether the anterior and the superior axis are reversed."""

_CLASS_TABLE = {channel: (str(kind),) for channel, kind in enumerate(CLASSES)}


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


def predict_with_orientation_check(model: Predictor, prepared: PreparedImage) -> Prediction:
    """Predict class probabilities; when their anatomy contradicts the header, reverse these axes and predict again."""
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
    flips = estimate_flips(classes, prepared)
    if any(flips):
        probabilities = predict_flipped(flips)
        classes = argmax_classes(probabilities)
    return Prediction(prepared, flips, probabilities, classes)


def estimate_flips(classes: Array, prepared: PreparedImage) -> Flips:
    """Estimate whether front and back, and head and feet, are swapped.

    Parameters
    ----------
    classes : (slices, A, S) uint8, class map of the prepared image as the header orients it
    """
    affine = prepared.grid.affine @ np.diag([1.0, 2.0, 2.0, 1.0])  # every second pixel is enough
    image, labels = (Volume(array[:, ::2, ::2], affine) for array in (prepared.array, classes))
    return estimate_orientation(image, labels, _CLASS_TABLE, MIN_PREDICTION_EVIDENCE).flips


def flip_axes(array: Array, flips: Flips) -> Array:
    """Return a view of (..., A, S) voxels with the anterior and superior axes reversed where `flips` is true."""
    return array[..., :: -1 if flips[0] else 1, :: -1 if flips[1] else 1]


def swapped_directions(flips: Flips) -> list[str]:
    """Return the names of the swapped directions."""
    return [name for name, flip in zip(("front and back", "head and feet"), flips, strict=True) if flip]


def describe_flips(flips: Flips) -> tuple[str, ...]:
    """Return a warning that names the swapped directions; () when there are none."""
    swapped = swapped_directions(flips)
    if not swapped:
        return ()
    return (
        f"the header has {' and '.join(swapped)} the wrong way round, as the anatomy shows; corrected. "
        "Left and right cannot be verified",
    )
