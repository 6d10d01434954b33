"""benchmarks.active_learning counts a person's work as it says it does."""

from __future__ import annotations

import numpy as np
from benchmarks import active_learning
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.anatomy import structure_by_name
from lumbarseg.volume import Array

LEVELS = ("L2", "L3", "L4")


def column(shift: int = 0) -> Array:
    """Three bodies of 8 x 6 pixels in four slices, from L2 down; shift: pixels to the front."""
    labels = np.zeros((4, 20, 40), np.uint8)
    for place, level in enumerate(LEVELS):
        labels[:, 5 + shift : 13 + shift, 32 - 12 * place : 38 - 12 * place] = structure_by_name(level).label
    return labels


def test_by_hand_each_cross_section_is_one_correction_until_it_is_enough() -> None:
    truth = column()
    nothing = np.zeros_like(truth)
    assert active_learning.count_corrections(nothing, truth, target_dice=1.0) == 12
    assert active_learning.count_corrections(nothing, truth) == 11  # eleven of twelve are a mean Dice of 0.95
    assert active_learning.count_corrections(truth, truth) == 0


def test_wrong_names_of_the_whole_column_are_one_correction() -> None:
    truth = column()
    lower = {
        structure_by_name(a).label: structure_by_name(b).label for a, b in (("L2", "L3"), ("L3", "L4"), ("L4", "L5"))
    }
    named_lower = np.vectorize(lambda value: lower.get(value, 0))(truth).astype(np.uint8)
    assert active_learning.mean_dice(named_lower, truth) == 0
    assert active_learning.renamed_dice(named_lower, truth) == 1
    assert active_learning.count_corrections(named_lower, truth) == 1


def test_what_the_reference_does_not_draw_costs_nothing() -> None:
    truth, found = column(), column()
    found[:, 5:13, 0:2] = structure_by_name("L5").label
    assert active_learning.count_corrections(found, truth) == 0


def test_larger_regions_are_made_right_first() -> None:
    truth, found = column(), column()
    found[0][found[0] == structure_by_name("L3").label] = 0  # a whole cross-section
    found[1:, 5, 33:35] = 0  # and three small dents
    assert active_learning.count_corrections(found, truth, target_dice=0.98) == 1
    assert active_learning.count_corrections(found, truth, target_dice=1.0) == 4


@given(st.integers(-4, 4), st.floats(0, 0.4), st.integers(0, 99))
def test_no_answer_costs_more_than_drawing_by_hand(shift: int, noise: float, seed: int) -> None:
    truth, found = column(), column(shift)
    spots = np.random.default_rng(seed).random(found.shape) < noise
    found[spots] = structure_by_name("L3").label
    by_hand = active_learning.count_corrections(np.zeros_like(truth), truth)
    assert 0 <= active_learning.count_corrections(found, truth) <= by_hand
