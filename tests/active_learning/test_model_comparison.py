"""A candidate is accepted when it is not worse than the current model on the validation exams."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from tests import sets, tiny

from lumbarseg.active_learning.model_comparison import ModelComparison, compare_case_rows, compare_models
from lumbarseg.errors import DatasetError
from lumbarseg.inference import Model


def exam(case: str, dice: float | None, wrong: int = 0, error: str | None = None) -> dict[str, Any]:
    """A row of `evaluate_case` with one structure."""
    part = (
        {"name": "L3", "truth": 9, "found": 9, "dice": dice, "ratio": 1.0, "found_as": "L3"} if dice is not None else {}
    )
    return {
        "dataset": "d",
        "case": case,
        "patient": f"d/{case}",
        "contrast": "",
        "scanner": "",
        "error": error,
        "structures": [part] if part else [],
        "instances": [],
        "distances": False,
        "names_right": True,
        "wrong_names": ["L4 as L5"] * wrong,
        "wrong_flagged": [],
        "missing": [],
    }


@pytest.mark.parametrize(
    ("candidate", "current", "accepted"),
    [
        ([exam("a", 0.9), exam("b", 0.8)], [exam("a", 0.8), exam("b", 0.9)], True),
        ([exam("a", 0.9), exam("b", 0.8)], [exam("a", 0.9), exam("b", 0.81)], False),
        ([exam("a", 0.95, wrong=1)], [exam("a", 0.9)], False),
        ([exam("a", 0.95), exam("b", 0.9, error="no spine")], [exam("a", 0.9), exam("b", 0.8)], False),
        ([exam("a", 0.95, error="no")], [exam("a", 0.9, error="no")], True),
        ([exam("a", 0.1)], None, True),
        ([exam("a", 0.0)], None, False),
    ],
)
def test_candidate_must_not_be_worse_in_dice_names_and_failures(
    candidate: list[Any], current: list[Any] | None, accepted: bool
) -> None:
    comparison = compare_case_rows(candidate, current)
    assert comparison.accepted == accepted
    assert ModelComparison.from_dict(asdict(comparison)) == comparison


def test_exams_without_a_scored_structure_are_ignored() -> None:
    comparison = compare_case_rows([exam("a", None), exam("b", 0.7)], [exam("a", None), exam("b", 0.6)])
    assert [row["exam"] for row in comparison.exams] == ["b"]
    assert comparison.difference is not None
    assert comparison.difference[0] == pytest.approx(0.1)
    with pytest.raises(DatasetError, match="no validation exam shows a structure"):
        compare_case_rows([exam("a", None)], None)


def test_no_validation_exam_is_an_error(tmp_path: Path) -> None:
    model = Model.load(tiny.write(tmp_path / "a.onnx"))
    with pytest.raises(DatasetError, match="there is no validation exam"):
        compare_models(model, None, [sets.write(tmp_path / "data", train=1, val=0)])
