"""A new model takes the old one's place where it is not worse; every version is kept, and none is ever half there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import sets, tiny

from lumbarseg.active_learning.model_registry import ModelComparison, ModelRegistry, compare_case_rows, compare_models
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import Model


def exam(case: str, dice: float | None, wrong: int = 0, error: str | None = None) -> dict[str, Any]:
    """As `examine` gives it, with one structure."""
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
    ("new", "old", "better"),
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
def test_not_worse_is_in_overlap_names_and_answers(new: list[Any], old: list[Any] | None, better: bool) -> None:
    verdict = compare_case_rows(new, old)
    assert verdict.better == better
    assert ModelComparison.from_dict(verdict.to_dict()) == verdict


def test_exams_without_a_scored_structure_judge_nothing() -> None:
    verdict = compare_case_rows([exam("a", None), exam("b", 0.7)], [exam("a", None), exam("b", 0.6)])
    assert [row["exam"] for row in verdict.exams] == ["b"]
    assert verdict.difference is not None
    assert verdict.difference[0] == pytest.approx(0.1)
    with pytest.raises(DatasetError, match="no held-out exam shows a structure"):
        compare_case_rows([exam("a", None)], None)


def test_without_held_out_exams_nothing_is_judged(tmp_path: Path) -> None:
    model = Model.load(tiny.write(tmp_path / "a.onnx"))
    with pytest.raises(DatasetError, match="no exam is held out"):
        compare_models(model, None, [sets.write(tmp_path / "data", train=1, val=0)])


def test_versions_are_numbered_kept_and_can_come_back(tmp_path: Path) -> None:
    shelf = ModelRegistry(tmp_path / "app", "mine")
    files = [tiny.write(tmp_path / f"{seed}.onnx", seed=seed) for seed in range(3)]
    assert shelf.current() is None
    assert shelf.publish(files[0], {"round": "rounds/0001"}).number == 1
    assert shelf.publish(files[1], {"round": "rounds/0002"}).number == 2
    assert shelf.publish(files[1], {"round": "rounds/0002"}).number == 2  # done again after an interruption
    assert shelf.model_path.read_bytes() == files[1].read_bytes()
    current = shelf.current()
    assert current is not None
    assert current.info == {"round": "rounds/0002"}
    shelf.restore(1)
    assert shelf.model_path.read_bytes() == files[0].read_bytes()
    assert [one.number for one in shelf.versions()] == [1, 2]
    with pytest.raises(ModelError, match="no version 9 of mine; there are: 1, 2"):
        shelf.restore(9)
    shelf.model_path.write_bytes(files[2].read_bytes())  # somebody put a model there
    assert shelf.current() is None
    assert shelf.publish(files[1], {}).number == 2
    assert [one.path.read_bytes() for one in shelf.versions()] == [files[n].read_bytes() for n in range(3)]


def test_a_file_that_is_no_model_is_not_published(tmp_path: Path) -> None:
    shelf = ModelRegistry(tmp_path / "app", "mine")
    shelf.publish(tiny.write(tmp_path / "good.onnx"), {})
    before = shelf.model_path.read_bytes()
    (tmp_path / "bad.onnx").write_bytes(before[:-10])
    with pytest.raises(ModelError):
        shelf.publish(tmp_path / "bad.onnx", {})
    assert shelf.model_path.read_bytes() == before
    assert len(shelf.versions()) == 1
