"""Runs side by side: folds are joined, other runs are not, and each figure is the one its run had."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from lumbarseg.cli.main import main
from lumbarseg.training.run_comparison import RunResult, compare_runs, structure_names


def result(fold: str = "", **changes: Any) -> dict[str, Any]:
    exams = [{"exam": "a", "group": 0, "dice": 0.9, "wrong": []}, {"exam": "b", "group": 0, "dice": 0.8, "wrong": []}]
    return {
        "preset": "chu-5",
        "targets": ["L1", "L2"],
        "method": "segmentation",
        "network": "planar",
        "init": "shipped.onnx",
        "fold": fold,
        "seed": 0,
        "datasets": ["chu"],
        "exams": {"train": 8, "held_out": 2, "left_out": 0},
        "epochs": 30.0,
        "minutes": 9.0,
        "finished": True,
        "settings": {},
        "best": {"score": 0.85, "step": 200, "dice": {"L2": 0.8, "L1": 0.9}, "exams": exams},
        "last": {"score": 0.8, "step": 300, "mixed": 0.0, "dice": {"L2": 0.7, "L1": 0.9}},
        **changes,
    }


def of(*results: RunResult) -> list[tuple[Path, RunResult]]:
    return [(Path(f"run-{i}"), values) for i, values in enumerate(results)]


def test_folds_share_a_line_with_their_means() -> None:
    second = result("2/5", epochs=50.0, minutes=11.0)
    second["best"] = {**second["best"], "score": 0.95, "dice": {"L1": 0.96, "L2": 0.94}}
    second["best"]["exams"] = [{"exam": "c", "group": 0, "dice": 0.95, "wrong": ["L1 as L2"]}]
    (line,) = compare_runs(of(second, result("1/5")))
    assert (line.name, line.folds, line.target_count) == ("chu-5", ("1/5", "2/5"), 2)
    assert (line.epochs, line.minutes, line.training_exams) == (40, 10, 8)
    assert (line.scored_exams, line.name_errors) == (3, 1)
    assert line.mean_dice == pytest.approx(0.9)
    assert line.dice == pytest.approx({"L1": 0.93, "L2": 0.87})
    assert list(line.dice) == ["L1", "L2"]
    assert line.founding is not None
    assert line.founding.dice == 0.92


def test_other_runs_stay_apart() -> None:
    others = [result("1/5"), result("1/5"), result("1/10"), result("2/5", method="deepedit"), result("2/5", seed=1)]
    assert len(compare_runs(of(*others))) == 5
    assert len(compare_runs(of(*others, result("2/5")))) == 5


def test_a_run_without_a_best_moment_has_its_last() -> None:
    (line,) = compare_runs(of(result(best={}, preset="", last={"score": 0.0, "mixed": 2.0, "dice": {"L1": 0.0}})))
    assert (line.name, line.mean_dice, line.name_errors, line.founding) == ("run-0", 0.0, 2, None)
    (line,) = compare_runs(of(result(best={}, last={}, exams={"train": 3, "held_out": 0, "left_out": 0})))
    assert (line.mean_dice, line.dice, line.scored_exams) == (None, {}, 0)
    assert structure_names([line]) == []


def test_the_command_tells_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, values in (("a", result("1/5")), ("b", result("2/5")), ("mine", result(preset="", finished=False))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(values))
    folders = [str(tmp_path / name) for name in ("a", "b", "mine")]
    assert main(["compare", *folders, "--csv", str(tmp_path / "table.csv")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == [*("chu-5", "segmentation", "2", "2", "8", "4", "30", "9.0", "0.850", "0", "0.92")]
    assert out[2].startswith("mine (not ended)")
    assert out[-1] == "the founding page on chu-5: 0.92 after 2000 epochs, names mixed up"
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(row["name"], row["folds"], row["L1"], row["founding_page"]) for row in rows] == [
        ("chu-5", "1/5 2/5", "0.9", "0.92"),
        ("mine", "", "0.9", ""),
    ]
    assert main(["compare", *folders, "--json"]) == 0
    assert [line["name"] for line in json.loads(capsys.readouterr().out)["lines"]] == ["chu-5", "mine"]
    assert main(["compare", folders[0], str(tmp_path / "none")]) == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert "none/result.json: not found; give the folder of a run" in err[0]
