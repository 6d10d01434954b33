"""Corrected exams are sampled more often, within limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.active_learning.sampling_weights import case_weight, dataset_weights
from lumbarseg.datasets import Case

counts = st.integers(1, 5000)


def case(**annotated: float) -> Case:
    return Case("x", Path(), Path(), {}, metadata={"annotated": annotated})


def test_corrected_and_new_exams_have_higher_weights() -> None:
    confirmed, small, large = (case(answer_dice=dice) for dice in (1.0, 0.95, 0.3))
    assert case_weight(confirmed, was_trained_on=True) == 1
    assert case_weight(confirmed, True) < case_weight(small, True) < case_weight(large, True) == 2
    assert case_weight(case(), True) == case_weight(large, True)  # annotated from scratch
    assert case_weight(large, was_trained_on=False) == 2 * case_weight(large, was_trained_on=True)


@given(counts, st.lists(counts, max_size=4))
def test_dataset_weights_sum_to_one_and_balance_corrected_exams(corrected: int, base: list[int]) -> None:
    weights = dataset_weights(corrected, base)
    assert len(weights) == 1 + len(base) or (not base and weights == (1.0,))
    assert sum(weights) == pytest.approx(1)
    if base:
        base_total = sum(base)
        assert weights[0] >= corrected / (corrected + base_total) - 1e-12
        repetition = (weights[0] / corrected) / ((1 - weights[0]) / base_total)
        assert 1 - 1e-9 <= repetition <= 10 + 1e-9
        assert weights[0] >= 0.5 or repetition == pytest.approx(10)
        assert [weight / weights[1] for weight in weights[1:]] == pytest.approx([count / base[0] for count in base])
