"""Corrected exams count for more, within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.datasets import Case
from lumbarseg.learn.weights import shares, weight_of

counts = st.integers(1, 5000)


def case(**annotated: float) -> Case:
    return Case("x", Path(), Path(), {}, about={"annotated": annotated})


def test_what_was_corrected_much_or_is_new_is_seen_more_often() -> None:
    confirmed, little, redrawn = (case(answer_dice=dice) for dice in (1.0, 0.95, 0.3))
    assert weight_of(confirmed, seen=True) == 1
    assert weight_of(confirmed, True) < weight_of(little, True) < weight_of(redrawn, True) == 2
    assert weight_of(case(), True) == weight_of(redrawn, True)  # drawn by hand
    assert weight_of(redrawn, seen=False) == 2 * weight_of(redrawn, seen=True)


@given(counts, st.lists(counts, max_size=4))
def test_shares_are_of_one_and_corrected_exams_neither_drown_nor_drown_out(mine: int, base: list[int]) -> None:
    found = shares(mine, base)
    assert len(found) == 1 + len(base) or (not base and found == (1.0,))
    assert sum(found) == pytest.approx(1)
    if base:
        others = sum(base)
        assert found[0] >= mine / (mine + others) - 1e-12
        often = (found[0] / mine) / ((1 - found[0]) / others)
        assert 1 - 1e-9 <= often <= 10 + 1e-9
        assert found[0] >= 0.5 or often == pytest.approx(10)
        assert [share / found[1] for share in found[1:]] == pytest.approx([count / base[0] for count in base])
