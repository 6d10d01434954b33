"""Validation patients are chosen once; the assignment stays when patients are added."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.active_learning.validation_patients import VALIDATION_FILE, ValidationPatients, load_validation_patients
from lumbarseg.errors import DatasetError

patients = st.lists(st.text("abcdef0123456789", min_size=1, max_size=4), min_size=3, max_size=40, unique=True)


@given(patients, st.integers(3, 40), st.floats(0.05, 0.6))
def test_assignment_is_stable_and_fraction_is_kept(people: list[str], first: int, fraction: float) -> None:
    early = ValidationPatients(fraction).with_patients(people[: max(3, first)])
    late = early.with_patients(people)
    assert {**late.is_validation, **early.is_validation} == late.is_validation
    assert set(late.is_validation) == set(people)
    count = sum(late.is_validation.values())
    assert 1 <= count < len(people)
    assert count <= max(1, fraction * len(people) + 0.5)


def test_stored_assignment_takes_precedence_over_options(tmp_path: Path) -> None:
    first = load_validation_patients(tmp_path, 0.34, 0, ["a", "b", "c"])
    assert load_validation_patients(tmp_path, 0.9, 7, ["a", "b", "c"]) == first
    assert sum(load_validation_patients(tmp_path, 0.9, 7, [*"abcdefghi"]).is_validation.values()) == 3
    (tmp_path / VALIDATION_FILE).write_text("{}")
    with pytest.raises(DatasetError, match="restore it, it lists the validation patients"):
        load_validation_patients(tmp_path, 0.2, 0, ["a"])


def test_too_few_patients_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"finished exams of 1 patient: .* correct 2 more"):
        ValidationPatients().with_patients(["a"])
