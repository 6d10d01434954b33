"""Corrected exams count for more, within bounds."""

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


def test_what_was_corrected_much_or_is_new_is_seen_more_often() -> None:
    confirmed, little, redrawn = (case(answer_dice=dice) for dice in (1.0, 0.95, 0.3))
    assert case_weight(confirmed, was_trained_on=True) == 1
    assert case_weight(confirmed, True) < case_weight(little, True) < case_weight(redrawn, True) == 2
    assert case_weight(case(), True) == case_weight(redrawn, True)  # drawn by hand
    assert case_weight(redrawn, was_trained_on=False) == 2 * case_weight(redrawn, was_trained_on=True)


@given(counts, st.lists(counts, max_size=4))
def test_shares_are_of_one_and_corrected_exams_neither_drown_nor_drown_out(mine: int, base: list[int]) -> None:
    found = dataset_weights(mine, base)
    assert len(found) == 1 + len(base) or (not base and found == (1.0,))
    assert sum(found) == pytest.approx(1)
    if base:
        others = sum(base)
        assert found[0] >= mine / (mine + others) - 1e-12
        often = (found[0] / mine) / ((1 - found[0]) / others)
        assert 1 - 1e-9 <= often <= 10 + 1e-9
        assert found[0] >= 0.5 or often == pytest.approx(10)
        assert [share / found[1] for share in found[1:]] == pytest.approx([count / base[0] for count in base])
