"""Training rounds: interruption, comparison, publication, and validation exams that are never trained on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests import tiny

from lumbarseg.active_learning.corrected_dataset import update_corrected_dataset
from lumbarseg.active_learning.model_registry import ModelRegistry
from lumbarseg.active_learning.rounds import (
    CANDIDATE_FILE,
    PLAN_FILE,
    RoundOptions,
    TrainingRound,
    find_rounds,
    find_unfinished_round,
    run_round,
)
from lumbarseg.datasets import Dataset
from lumbarseg.datasets.writing import exclusive_folder
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.training.checkpoint import Checkpoint

from .conftest import Studies

SMALL = {
    "steps": 4,
    "batch_size": 2,
    "crop_size": 64,
    "channels": (4, 6),
    "threads": 1,
    "precision": "float32",
    "loader_threads": 1,
}
FIRST = RoundOptions(initial_model="none", training_settings=SMALL)


@pytest.fixture(scope="module")
def first_app(studies: Studies, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Studies of five finished exams and an app after one round."""
    home = tmp_path_factory.mktemp("rounds")
    folder, app = studies(home / "studies", 5), home / "app"
    result = run_round(folder, app, FIRST)
    assert (result.number, result.training_exams, result.validation_exams) == (1, 4, 1)
    return folder, app


def checkpoint_of(training_round: TrainingRound) -> Checkpoint:
    return Checkpoint.load(training_round.folder / "run" / "checkpoint.pt")


def validation_cases(training_round: TrainingRound) -> set[str]:
    return {name for name, split in training_round.splits.items() if split == "val"}


def test_round_stores_candidate_and_comparison(first_app: tuple[Path, Path]) -> None:
    _, app = first_app
    (finished,) = find_rounds(app)
    assert finished.stage == "done"
    details = Model.load(finished.folder / CANDIDATE_FILE).card.details
    assert details["loop"] == {"corrected_exams": 4, "annotators": ["reader one"]}
    assert finished.comparison is not None
    assert finished.comparison.current is None
    assert finished.comparison.accepted == (finished.comparison.candidate > 0)
    assert ModelRegistry(app, "lumbar_spine").model_path.is_file() == finished.comparison.accepted


@pytest.mark.parametrize(
    ("steps", "minutes", "row", "progress"),
    [(100, 0.0, "40,9.5", 0.4), (0, 2.0, "40,90.0", 0.75), (1000, 2.0, "40,90.0", 0.75), (10, 0.0, "10,3.0", 1.0)],
)
def test_progress_of_training(tmp_path: Path, steps: int, minutes: float, row: str, progress: float) -> None:
    running = TrainingRound(tmp_path, "training", "", RoundOptions(), "", (), {}, {})
    run = tmp_path / "run"
    assert running.training_progress() == 0
    run.mkdir()
    (run / "settings.json").write_text(json.dumps({"steps": steps, "minutes": minutes}))
    (run / "history.csv").write_text("step,seconds,loss\n")
    assert running.training_progress() == 0
    (run / "history.csv").write_text(f"step,seconds,loss\n20,4.0,0.5\n{row},0.4\n")
    assert running.training_progress() == pytest.approx(progress)


def test_progress_of_finished_training_is_one(first_app: tuple[Path, Path]) -> None:
    (finished,) = find_rounds(first_app[1])
    assert finished.training_progress() == 1


def test_no_round_without_new_exams(first_app: tuple[Path, Path]) -> None:
    folder, app = first_app
    result = run_round(folder, app, FIRST)
    assert (result.number, result.comparison) == (1, None)
    assert len(find_rounds(app)) == 1


def test_validation_patients_are_never_trained_on(first_app: tuple[Path, Path], studies: Studies) -> None:
    _, app = first_app
    first = find_rounds(app)[0]
    run_round(studies(app.parent / "more", 9), app, FIRST, new_round=True)
    second = find_rounds(app)[-1]
    assert len(second.splits) == 9
    assert validation_cases(first) == validation_cases(second) & set(first.splits)
    assert len(validation_cases(second)) == 2
    assert checkpoint_of(second).details["loop"]["corrected_exams"] == 7


def test_changed_and_removed_labels_are_imported_again(studies: Studies, tmp_path: Path) -> None:
    folder = studies(tmp_path / "studies", 3)
    before = update_corrected_dataset(folder, tmp_path / "data").dataset
    labels = sorted((folder / "labels" / "final").iterdir())
    labels[0].write_bytes(labels[1].read_bytes())  # imported if both exams have the same grid, else refused
    labels[2].unlink()
    after = update_corrected_dataset(folder, tmp_path / "data")
    assert {case.name for case in before.all_cases} - {case.name for case in after.dataset.all_cases} >= {"exam2"}
    assert Dataset.open(tmp_path / "data").cases() == after.dataset.cases()
    assert any("exam2" in name for name in after.refused)


def test_validation_exam_is_not_trained_on_under_another_name(studies: Studies, tmp_path: Path) -> None:
    folder, app = studies(tmp_path / "studies", 4), tmp_path / "app"
    copy = update_corrected_dataset(folder, tmp_path / "copy").dataset  # the same exams in another dataset
    result = run_round(folder, app, replace(FIRST, base_datasets=(str(copy.folder),)))
    assert (result.training_exams, result.validation_exams) == (3, 1)
    assert checkpoint_of(find_rounds(app)[0]).settings.sampling_weights == (0.5, 0.5)  # three of each dataset


def test_only_a_model_that_is_not_worse_is_published(studies: Studies, tmp_path: Path) -> None:
    try:
        bundled_model_path()
    except ModelError as error:
        pytest.skip(str(error))
    folder, registry = studies(tmp_path / "studies", 3), ModelRegistry(tmp_path / "app", "lumbar_spine")
    app = registry.app_folder
    registry.model_path.parent.mkdir(parents=True)
    bad = tiny.write(registry.model_path).read_bytes()
    settings = {name: value for name, value in SMALL.items() if name != "channels"} | {"steps": 2}
    gentle = RoundOptions(initial_model="shipped", training_settings={**settings, "learning_rate": 1e-6})
    first = run_round(folder, app, gentle)
    assert first.comparison is not None
    assert (first.comparison.current or 0) < 0.5 < first.comparison.candidate
    assert (first.published, first.version) == (True, 2)
    assert [version.path.read_bytes() == bad for version in registry.versions()] == [True, False]
    good = registry.model_path.read_bytes()
    harmful = RoundOptions(training_settings={**settings, "learning_rate": 0.05})
    second = run_round(folder, app, harmful, new_round=True)
    assert second.comparison is not None
    assert second.comparison.candidate < (second.comparison.current or 0) == pytest.approx(first.comparison.candidate)
    assert not second.published
    assert registry.model_path.read_bytes() == good
    last = find_rounds(app)[-1]
    assert last.initial_model.endswith("rounds/0001/run")
    assert set(last.trained_on) == set(last.splits) - validation_cases(last)


def test_failed_round_is_left(studies: Studies, tmp_path: Path) -> None:
    folder, app = studies(tmp_path / "studies", 3), tmp_path / "app"
    diverging = {**SMALL, "learning_rate": 1e30, "warmup_steps": 0}
    with pytest.raises(ModelError, match="the loss is"):
        run_round(folder, app, RoundOptions(initial_model="none", training_settings=diverging))
    failed = find_rounds(app)[0]
    assert failed.stage == "failed"
    assert "the loss is" in failed.error
    assert find_unfinished_round(app) is None
    assert run_round(folder, app, FIRST).number == 2


def test_models_share_validation_patients(first_app: tuple[Path, Path]) -> None:
    folder, app = first_app
    run_round(folder, app, replace(FIRST, model="other"))
    first, other = (find_rounds(app, model)[0] for model in ("lumbar_spine", "other"))
    assert first.splits == other.splits
    assert find_unfinished_round(app, "other") is None


def test_too_few_patients_is_an_error(studies: Studies, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="finished exams of 2 patients: one of 3 is needed for validation"):
        run_round(studies(tmp_path / "studies", 2), tmp_path / "app", FIRST)
    assert not find_rounds(tmp_path / "app")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_model_name_must_stay_in_the_folder(name: str) -> None:
    with pytest.raises(ModelError, match="cannot name a model"):
        RoundOptions(model=name)


def test_concurrent_round_is_an_error(first_app: tuple[Path, Path]) -> None:
    folder, app = first_app
    with exclusive_folder(app / "learn"), pytest.raises(DatasetError, match="another program is writing here"):
        run_round(folder, app, FIRST)


SCRIPT = """
import json, sys
from pathlib import Path
from lumbarseg.active_learning.rounds import RoundOptions, run_round
options = RoundOptions(initial_model="none", training_settings=json.loads(sys.argv[3]))
run_round(Path(sys.argv[1]), Path(sys.argv[2]), options)
"""


def start_round(folder: Path, app: Path, steps: int) -> subprocess.Popen[bytes]:
    settings = json.dumps({**SMALL, "steps": steps, "checkpoint_seconds": 0.0})
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), str(app), settings],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )


def test_killed_round_continues_to_the_same_model(studies: Studies, tmp_path: Path) -> None:
    folder, steps = studies(tmp_path / "studies", 3), 30
    process = start_round(folder, tmp_path / "killed", steps)
    round_folder = tmp_path / "killed" / "learn" / "rounds" / "0001"
    checkpoint = round_folder / "run" / "checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < Checkpoint.load(checkpoint).step < steps
    assert TrainingRound.load(round_folder).stage == "training"
    assert not (tmp_path / "killed" / "model").exists()
    apps = [tmp_path / name for name in ("killed", "complete")]
    settings = {**SMALL, "steps": steps, "checkpoint_seconds": 0.0}
    results = [run_round(folder, app, RoundOptions(initial_model="none", training_settings=settings)) for app in apps]
    assert results[0].comparison == results[1].comparison
    assert results[0].number == 1
    rounds = [find_rounds(app)[0] for app in apps]
    assert Model.load(rounds[0].folder / CANDIDATE_FILE).card.details["step"] == steps
    weights = [checkpoint_of(training_round).ema_weights for training_round in rounds]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
    assert (round_folder / PLAN_FILE).is_file()
