"""Prediction of an exam with its axes turned as the anatomy shows: headers may swap front and back, or head and feet.

A lumbar spine has its canal behind its vertebral bodies and its sacrum below them. The network was trained on mirrored
exams too, so it segments both wherever they are; where they lie on the wrong side, the header is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.inference import Predictor, predict
from lumbarseg.orientation import estimate_orientation
from lumbarseg.preprocessing import PreparedImage, argmax_classes
from lumbarseg.volume import Array, Grid, Volume

from .centerline import BODY, CANAL, DISC, SACRUM, Centerline, fit_centerline

Flips = tuple[bool, bool]
"""Whether the anterior and the superior axis are reversed."""

_MIN_WRONG_SHARE = 0.75  # of the canal, or of the sacrum, that must lie on the wrong side
_MIN_VOLUME = 2000.0  # mm3 in view; less is no evidence
_MIN_AREA_RATIO = 0.9  # of the axial area of the bodies next to the sacrum to that of the bodies furthest from it


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
    has_canal = Kind.CANAL in model.card.trained_kinds
    return predict_with_flips(lambda flips: predict(model, flip_axes(prepared.array, flips)), prepared, has_canal)


def predict_with_flips(
    predict_flipped: Callable[[Flips], Array], prepared: PreparedImage, has_canal: bool = True
) -> Prediction:
    """Predict as the header orients the exam, and again with reversed axes when the anatomy contradicts the header.

    Parameters
    ----------
    predict_flipped : returns (classes, slices, A, S) probabilities of the prepared image with reversed axes
    prepared : the image on the network grid
    has_canal : whether the canal is predicted, which shows most clearly where the back is
    """
    flips = (False, False)
    probabilities = predict_flipped(flips)
    classes = argmax_classes(probabilities)
    flips = estimate_flips(classes, np.array(prepared.grid.spacing))
    if not has_canal:
        flips = (_is_reversed_by_shape(classes, prepared), flips[1])
    if any(flips):
        probabilities = predict_flipped(flips)
        classes = argmax_classes(probabilities)
    return Prediction(prepared, flips, probabilities, classes)


def estimate_flips(classes: Array, spacing: Array) -> Flips:
    """Estimate whether front and back, and head and feet, are swapped.

    Parameters
    ----------
    classes : (slices, A, S) uint8 class map
    spacing : (3,) mm
    """
    centerline = fit_centerline(classes, spacing)
    if centerline is None:
        return False, False
    return _is_front_back_reversed(classes, spacing, centerline), _is_upside_down(classes, spacing)


def _is_reversed_by_shape(classes: Array, prepared: PreparedImage) -> bool:
    """Return whether the shape of bodies and discs and the grey values about them show that front and back are swapped.

    In 60 real exams this never contradicted the canal: it showed nothing in 14 of them, single slices mostly.
    """
    visible = np.where((classes == BODY) | (classes == DISC), classes, 0).astype(np.uint8)
    affine = prepared.grid.affine
    names = {0: ("background",), BODY: (Kind.BODY.value,), DISC: (Kind.DISC.value,)}
    return estimate_orientation(Volume(prepared.array, affine), Volume(visible, affine), names).anterior_posterior < 0


def _is_front_back_reversed(classes: Array, spacing: Array, centerline: Centerline) -> bool:
    """Return whether the canal lies in front of the bodies."""
    canal = np.argwhere(classes == CANAL) * spacing
    if len(canal) * np.prod(spacing) < _MIN_VOLUME:
        return False
    anterior = canal[:, 1] - np.interp(canal[:, 2], centerline.points[:, 2], centerline.points[:, 1])
    return bool((anterior > 5).mean() > _MIN_WRONG_SHARE)


def _is_upside_down(classes: Array, spacing: Array) -> bool:
    """Return whether the sacrum lies above the bodies, and the bodies near it are not the smaller ones.

    Bodies grow from head to foot; where they shrink towards what looks like a sacrum, that is a thoracic vertebra.
    """
    sacrum, bodies = (np.argwhere(classes == kind)[:, 2] for kind in (SACRUM, BODY))
    if min(len(sacrum), len(bodies)) * np.prod(spacing) < _MIN_VOLUME:
        return False
    if (sacrum > np.median(bodies)).mean() <= _MIN_WRONG_SHARE:
        return False
    areas = np.bincount(bodies)
    rows = np.flatnonzero(areas > 0.5 * np.median(areas[areas > 0]))  # not those at the height of discs
    third = max(1, len(rows) // 3)
    return bool(np.median(areas[rows[-third:]]) > _MIN_AREA_RATIO * np.median(areas[rows[:third]]))


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
