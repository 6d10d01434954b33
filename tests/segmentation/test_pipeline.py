"""The pipeline as a whole: its orientation travels with the result, and names of the user are checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from lumbarseg.inference import Model, ModelCard
from lumbarseg.measurement import measure_structures
from lumbarseg.phantom import Phantom
from lumbarseg.segmentation import segment
from lumbarseg.segmentation.centerline import BODY
from lumbarseg.volume import Array, Volume


@dataclass(frozen=True, eq=False)
class BodyOnlyModel:
    """The model of the package, as one that was trained on vertebral bodies alone."""

    model: Model

    @property
    def card(self) -> ModelCard:
        return replace(self.model.card, trained_names=("background", "body"), targets=(), lowest_structure=("L5", 1.0))

    def run(self, windows: Array) -> Array:
        logits = self.model.run(windows)
        out = np.full_like(logits, -1e4)
        out[:, BODY], out[:, 0] = logits[:, BODY], np.delete(logits, BODY, 1).max(1)
        return out


@pytest.fixture(scope="module")
def model(bundled_model: Model) -> Model:
    return bundled_model


def test_a_model_of_bodies_alone_finds_swapped_axes_and_measures_the_right_way_round(
    model: Model, phantom: Phantom
) -> None:
    body_model = BodyOnlyModel(model)
    correct = segment(phantom.image, body_model)
    swapped_affine = np.diag([1.0, -1.0, 1.0, 1.0]) @ phantom.image.affine
    swapped = segment(Volume(phantom.image.array, swapped_affine), body_model)
    assert (correct.flips, swapped.flips) == ((False, False), (True, False))
    assert any("front and back" in warning for warning in swapped.warnings)
    sizes = measure_structures(correct.labels, correct.flips)
    swapped_sizes = measure_structures(swapped.labels, swapped.flips)
    assert len(sizes) > 4
    for row, swapped_row in zip(sizes, swapped_sizes, strict=True):
        for key in ("anterior", "posterior", "tilt_top", "slip"):
            value, swapped_value = getattr(row, key), getattr(swapped_row, key)
            assert (value is None) == (swapped_value is None)
            assert value is None or swapped_value == pytest.approx(value, abs=1.0), (row.name, key)
