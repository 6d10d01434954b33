"""Who judges is drawn once: whoever comes later, nobody who is there moves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.errors import DatasetError
from lumbarseg.learn.held import FILE, Held, held

patients = st.lists(st.text("abcdef0123456789", min_size=1, max_size=4), min_size=3, max_size=40, unique=True)


@given(patients, st.integers(3, 40), st.floats(0.05, 0.6))
def test_nobody_moves_and_the_share_is_kept(people: list[str], first: int, share: float) -> None:
    early = Held(share).joined(people[: max(3, first)])
    late = early.joined(people)
    assert {**late.judges, **early.judges} == late.judges
    assert set(late.judges) == set(people)
    count = sum(late.judges.values())
    assert 1 <= count < len(people)
    assert count <= max(1, share * len(people) + 0.5)


def test_it_is_kept_in_the_folder_whatever_is_asked_later(tmp_path: Path) -> None:
    first = held(tmp_path, 0.34, 0, ["a", "b", "c"])
    assert held(tmp_path, 0.9, 7, ["a", "b", "c"]) == first
    assert sum(held(tmp_path, 0.9, 7, [*"abcdefghi"]).judges.values()) == 3
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(DatasetError, match="says who may not be trained on"):
        held(tmp_path, 0.2, 0, ["a"])


def test_too_few_are_told() -> None:
    with pytest.raises(DatasetError, match=r"finished exams of 1 patient: .* correct 2 more"):
        Held().joined(["a"])
