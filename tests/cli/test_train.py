"""The words of `lumbarseg train`: what a run begins with, who is held out, and errors of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests import sets

from lumbarseg.cli.main import main
from lumbarseg.inference import bundled_model_path
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.presets import PRESETS

SMALL = ["--steps", "1", "--batch-size", "2", "--crop-size", "32", "--precision", "float32", "--threads", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "blobs"
    sets.write(folder, train=5, val=0)
    return folder


def settings_of(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "settings.json").read_text()))


def test_few_cases_begin_with_the_shipped_weights(model_file: Path, data: Path, tmp_path: Path) -> None:
    assert main(["train", str(data), "-o", str(tmp_path / "run"), *SMALL]) == 0
    values = settings_of(tmp_path / "run")
    assert (values["learning_rate"], values["distillation_weight"]) == (
        PRESETS["fine"].settings.learning_rate,
        PRESETS["fine"].settings.distillation_weight,
    )
    checkpoint = Checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    assert checkpoint.details["init"]["file"] == bundled_model_path().name
    assert checkpoint.teacher_weights


def test_the_initial_weights_are_validated_first(
    model_file: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(data), "-o", str(tmp_path / "run"), "--fold", "1/5", *SMALL]) == 0
    assert "preset: fine; initial weights: " in (errors := capsys.readouterr().err)
    assert errors.count("before training  mean Dice") == 1
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["before"]["step"], result["last"]["step"]) == (0, 1)
    assert main(["train", str(data), "-o", str(tmp_path / "run"), "--resume", "--steps", "2"]) == 0
    assert "before training" not in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["before"] == result["before"]


def test_cross_validation_trains_each_fold_once(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["train", str(data), "-o", str(tmp_path / "run"), "--init", "none", "--cross-validate", "2", *SMALL]
    assert main(run) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split()[4] == "2"  # folds in one row
    assert "<svg" in (tmp_path / "run" / "index.html").read_text()
    held_out = [
        {exam["exam"] for exam in json.loads((folder / "result.json").read_text())["best"].get("exams", [])}
        for folder in (tmp_path / "run" / "fold-1", tmp_path / "run" / "fold-2")
    ]
    assert not held_out[0] & held_out[1]
    assert main(run) == 0
    assert "training exams" not in capsys.readouterr().err
    assert main([*run, "--fold", "1/2"]) == 2
    assert "neither --fold nor --resume" in capsys.readouterr().err
    assert main([*run[: -len(SMALL)], *SMALL[2:], "--steps", "2"]) == 0  # a longer training resumes each fold
    steps = [json.loads((tmp_path / "run" / f"fold-{k}" / "result.json").read_text())["last"]["step"] for k in (1, 2)]
    assert steps == [2, 2]


@pytest.mark.parametrize(
    ("options", "name"), [(["--cross-validate", "3"], "number of folds"), (["--seed", "9"], "seed")]
)
def test_cross_validation_with_other_options_needs_another_folder(
    options: list[str], name: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["train", str(data), "-o", str(tmp_path / "run"), "--init", "none", "--cross-validate", "2", *SMALL]
    assert main(run) == 0
    before = (tmp_path / "run" / "cross-validation.json").read_bytes()
    capsys.readouterr()
    assert main([*run, *options]) == 1
    assert f"its folds were trained with another {name}; choose another folder" in capsys.readouterr().err
    assert (tmp_path / "run" / "cross-validation.json").read_bytes() == before


def test_export_of_an_unfinished_run_is_a_warning(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(data), "-o", str(run), "--init", "none", "--fold", "1/5", *SMALL]) == 0
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "finished": False}))
    assert main(["export", str(run), "-o", str(tmp_path / "a.onnx")]) == 0
    assert "has not ended (step 1 of 1); lumbarseg train --resume continues it" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--minutes", "--learning-rate"])
def test_zero_is_refused(option: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(data), "-o", str(tmp_path / "run"), option, "0"]) == 2
    assert "must be above 0, not 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_nothing_to_begin_with(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", str(data), "-o", str(tmp_path / "run"), "--preset", "quick", *SMALL]
    assert main([*arguments, "--fold", "2/5", "--targets", "tissues"]) == 0
    checkpoint = Checkpoint.load(tmp_path / "run" / "checkpoint.pt")
    assert "init" not in checkpoint.details
    assert checkpoint.details["preset"] == "quick"
    text = (tmp_path / "run" / "index.html").read_text()
    assert "<svg" in text
    assert "case-" in text
    assert checkpoint.details["fold"] == "2/5"
    assert checkpoint.settings.targets == ("tissues",)
    assert "4 training exams, 1 validation exams" in capsys.readouterr().err
    assert main([*arguments[:4], "--resume", "--epochs", "1"]) == 0  # four exams of six slices, two a step
    assert Checkpoint.load(tmp_path / "run" / "checkpoint.pt").step == 12
    assert "4 training exams, 1 validation exams" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets", "L9"], "'L9' is no structure of the table"),
        (["--targets", "L4 arch", "L2-L3"], None),
        (["--fold", "three"], "write K/N"),
        (["--fold", "1/9"], "there are only 5 patients"),
        (["--contrast", "CT"], "no case with CT"),
        (["--init", "nowhere.onnx"], "nowhere.onnx: cannot be read"),
        (["--init", "nowhere"], "nowhere: not found"),
        (["--preset", "quick", "--crop-size", "33"], "crop_size must be a multiple of"),
    ],
)
def test_errors_are_one_line(
    arguments: list[str], message: str | None, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["train", str(data), "-o", str(tmp_path / "run"), "--preset", "quick", *SMALL, *arguments])
    err = capsys.readouterr().err
    assert code == (0 if message is None else 1)
    if message is not None:
        assert message in err
        assert len(err.splitlines()) == 1
        assert not (tmp_path / "run").exists()
