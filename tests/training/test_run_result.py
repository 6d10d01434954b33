"""result.json: what is written is read; that of an earlier version is read too."""

from __future__ import annotations

import json
from pathlib import Path

from lumbarseg.training.run_result import ExamScore, RunResult, ValidationScores
from lumbarseg.training.settings import TrainingSettings

EXAM = ExamScore("exam", "patient", 1, 0.9, ["L4 as L5"])
BEST = ValidationScores(step=20, seconds=3.0, score=0.9, mixed=1, dice={"L1": 0.9}, exams=[EXAM])
RESULT = RunResult(
    preset="fine",
    targets=["L1"],
    init="shipped.onnx",
    datasets=["chu"],
    exams={"train": 8, "held_out": 1, "left_out": 0},
    epochs=2.0,
    minutes=9.0,
    finished=True,
    settings=TrainingSettings(fold="1/5", seed=3),
    best=BEST,
    last=ValidationScores(step=40, score=0.8, mixed=0, dice={"L1": 0.8}),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    values = RESULT.to_dict()
    assert (values["fold"], values["seed"], values["method"], values["before"]) == ("1/5", 3, "segmentation", {})
    (tmp_path / "result.json").write_text(json.dumps(values))
    assert RunResult.read(tmp_path) == RESULT


def test_a_result_of_version_0_1_is_read(tmp_path: Path) -> None:
    values = RESULT.to_dict()
    del values["before"], values["best"]["mixed"], values["best"]["waited"], values["best"]["exams"][0]["patient"]
    values["settings"]["rate"] = values["settings"].pop("learning_rate")
    values["last"]["mixed"] = 0.0
    (tmp_path / "result.json").write_text(json.dumps(values))
    result = RunResult.read(tmp_path)
    assert result.best == ValidationScores(
        20, 3.0, 0.9, 1, {"L1": 0.9}, [ExamScore("exam", "exam", 1, 0.9, EXAM.wrong)]
    )
    assert (result.before, result.settings, result.last) == (None, RESULT.settings, RESULT.last)
