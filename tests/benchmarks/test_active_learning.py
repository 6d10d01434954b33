"""`benchmarks.active_learning` counts corrections as documented."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import active_learning
from lumbarseg.anatomy import structure_by_name
from lumbarseg.volume import Array

LEVELS = ("L2", "L3", "L4")


def column(shift: int = 0) -> Array:
    """Three bodies of 8 x 6 pixels in four slices, from L2 down; shift: pixels to the front."""
    labels = np.zeros((4, 20, 40), np.uint8)
    for index, level in enumerate(LEVELS):
        labels[:, 5 + shift : 13 + shift, 32 - 12 * index : 38 - 12 * index] = structure_by_name(level).label
    return labels


def test_by_hand_each_cross_section_is_one_correction() -> None:
    reference = column()
    nothing = np.zeros_like(reference)
    assert active_learning.count_corrections(nothing, reference, target_dice=1.0) == 12
    assert active_learning.count_corrections(nothing, reference) == 11  # eleven of twelve are a mean Dice of 0.95
    assert active_learning.count_corrections(reference, reference) == 0


def test_a_shift_of_all_names_is_one_correction() -> None:
    reference = column()
    lower = {
        structure_by_name(a).label: structure_by_name(b).label for a, b in (("L2", "L3"), ("L3", "L4"), ("L4", "L5"))
    }
    named_lower = np.vectorize(lambda value: lower.get(value, 0))(reference).astype(np.uint8)
    assert active_learning.mean_dice(named_lower, reference) == 0
    assert active_learning.renamed_dice(named_lower, reference) == 1
    assert active_learning.count_corrections(named_lower, reference) == 1


def test_structures_outside_of_the_reference_cost_nothing() -> None:
    reference, prediction = column(), column()
    prediction[:, 5:13, 0:2] = structure_by_name("L5").label
    assert active_learning.count_corrections(prediction, reference) == 0


def test_larger_regions_are_corrected_first() -> None:
    reference, prediction = column(), column()
    prediction[0][prediction[0] == structure_by_name("L3").label] = 0  # a whole cross-section
    prediction[1:, 5, 33:35] = 0  # and three small dents
    assert active_learning.count_corrections(prediction, reference, target_dice=0.98) == 1
    assert active_learning.count_corrections(prediction, reference, target_dice=1.0) == 4


@given(st.integers(-4, 4), st.floats(0, 0.4), st.integers(0, 99))
def test_no_prediction_costs_more_than_annotating_by_hand(shift: int, noise: float, seed: int) -> None:
    reference, prediction = column(), column(shift)
    spots = np.random.default_rng(seed).random(prediction.shape) < noise
    prediction[spots] = structure_by_name("L3").label
    by_hand = active_learning.count_corrections(np.zeros_like(reference), reference)
    assert 0 <= active_learning.count_corrections(prediction, reference) <= by_hand
