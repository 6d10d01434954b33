"""Runs side by side: folds are joined, other runs are not, and each number is that of its run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lumbarseg.cli.main import main
from lumbarseg.training.run_comparison import compare_runs, structure_names
from lumbarseg.training.run_result import RunResult


def run_result(fold: str = "", method: str = "segmentation", seed: int = 0, **changes: Any) -> dict[str, Any]:
    exams = [{"exam": "a", "group": 0, "dice": 0.9, "wrong": []}, {"exam": "b", "group": 0, "dice": 0.8, "wrong": []}]
    return {
        "preset": "fine",
        "targets": ["L1", "L2"],
        "init": "shipped.onnx",
        "datasets": ["chu"],
        "exams": {"train": 8, "held_out": 2, "left_out": 0},
        "epochs": 30.0,
        "minutes": 9.0,
        "finished": True,
        "settings": {"method": method, "fold": fold, "seed": seed},
        "best": {"score": 0.85, "step": 200, "dice": {"L2": 0.8, "L1": 0.9}, "exams": exams},
        "before": {"score": 0.6, "step": 0, "dice": {"L2": 0.5, "L1": 0.7}},
        "last": {"score": 0.8, "step": 300, "mixed": 0.0, "dice": {"L2": 0.7, "L1": 0.9}},
        **changes,
    }


def with_paths(*results: dict[str, Any]) -> list[tuple[Path, RunResult]]:
    return [(Path(f"run-{i}"), RunResult.from_dict(values)) for i, values in enumerate(results)]


def test_folds_share_a_row_with_their_means() -> None:
    second = run_result("2/5", epochs=50.0, minutes=11.0)
    second["best"] = {**second["best"], "score": 0.95, "dice": {"L1": 0.96, "L2": 0.94}}
    second["best"]["exams"] = [{"exam": "c", "group": 0, "dice": 0.95, "wrong": ["L1 as L2"]}]
    (row,) = compare_runs(with_paths(second, run_result("1/5")))
    assert (row.name, row.folds, row.target_count) == ("fine", ("1/5", "2/5"), 2)
    assert (row.epochs, row.minutes, row.training_exams) == (40, 10, 8)
    assert (row.scored_exams, row.name_errors) == (3, 1)
    assert row.mean_dice == pytest.approx(0.9)
    assert row.dice == pytest.approx({"L1": 0.93, "L2": 0.87})
    assert list(row.dice) == ["L1", "L2"]


def test_other_runs_have_rows_of_their_own() -> None:
    others = [
        *(run_result("1/5"), run_result("1/5"), run_result("1/10")),
        *(run_result("2/5", method="deepedit"), run_result("2/5", seed=1)),
    ]
    assert len(compare_runs(with_paths(*others))) == 5
    assert len(compare_runs(with_paths(*others, run_result("2/5")))) == 5


def test_a_run_without_a_best_validation_has_its_last() -> None:
    last = {"score": 0.0, "mixed": 2.0, "dice": {"L1": 0.0}}
    (row,) = compare_runs(with_paths(run_result(best={}, preset="", last=last)))
    assert (row.name, row.mean_dice, row.name_errors) == ("run-0", 0.0, 2)
    exams = {"train": 3, "held_out": 0, "left_out": 0}
    (row,) = compare_runs(with_paths(run_result(best={}, last={}, exams=exams)))
    assert (row.mean_dice, row.dice, row.scored_exams) == (None, {}, 0)
    assert structure_names([row]) == []


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = (("a", run_result("1/5")), ("b", run_result("2/5")), ("mine", run_result(preset="", finished=False)))
    for name, values in results:
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(values))
    folders = [str(tmp_path / name) for name in ("a", "b", "mine")]
    (tmp_path / "a" / "history.csv").write_text("step,seconds,loss,rate,score,mixed\n0,1,,,0.6,0\n200,9,,,0.85,0\n")
    page = tmp_path / "runs.html"
    assert main(["compare", *folders, "--csv", str(tmp_path / "table.csv"), "--html", str(page)]) == 0
    assert all(text in page.read_text() for text in ("<svg", "0.800 to 0.900", "mine (not ended)"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        *("fine", "segmentation", "2", "2", "8", "4", "30", "9.0", "0.600", "0.850", "0.800", "to", "0.900", "0")
    ]
    assert lines[2].startswith("mine (not ended)")
    assert lines[-1].split() == ["mine", "0.900", "0.800"]
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(row["name"], row["folds"], row["L1"]) for row in rows] == [("fine", "1/5 2/5", "0.9"), ("mine", "", "0.9")]
    assert main(["compare", *folders, "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["lines"]] == ["fine", "mine"]
    assert main(["compare", folders[0], str(tmp_path / "none")]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "none/result.json: not found; give the folder of a run" in errors[0]
