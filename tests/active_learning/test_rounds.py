"""The loop: finished exams in, training that survives kill -9, a judgement, and a new model where it is not worse."""

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
from tests import tiny

from lumbarseg.active_learning.corrected_dataset import update_corrected_dataset
from lumbarseg.active_learning.model_registry import ModelRegistry
from lumbarseg.active_learning.rounds import (
    CANDIDATE_FILE,
    COMPARISON_FILE,
    PLAN_FILE,
    RoundOptions,
    find_rounds,
    find_unfinished_round,
    read_plan,
    run_round,
    training_progress,
)
from lumbarseg.datasets import Dataset
from lumbarseg.datasets.workers import exclusive_folder
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.training.checkpoint import Checkpoint

from .conftest import Studies

SMALL = {"steps": 4, "batch_size": 2, "crop_size": 64, "channels": (4, 6), "threads": 1, "precision": "float32", "loader_threads": 1}
FIRST = RoundOptions(initial_model="none", training_settings=SMALL)


@pytest.fixture(scope="module")
def trained(studies: Studies, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Studies of five finished exams and an app after one round."""
    place = tmp_path_factory.mktemp("loop")
    folder, app = studies(place / "studies", 5), place / "app"
    done = run_round(folder, app, FIRST)
    assert (done.number, done.training_exams, done.validation_exams) == (1, 4, 1)
    return folder, app


def test_a_round_leaves_a_candidate_and_a_verdict(trained: tuple[Path, Path]) -> None:
    _, app = trained
    (place,) = find_rounds(app / "learn")
    assert read_plan(place)["stage"] == "done"
    assert Model.load(place / CANDIDATE_FILE).card.details["loop"] == {
        "corrected_exams": 4,
        "annotators": ["reader one"],
    }
    verdict = json.loads((place / COMPARISON_FILE).read_text())
    assert verdict["current"] is None
    assert verdict["better"] == (verdict["candidate"] > 0)
    assert ModelRegistry(app, "lumbar_spine").model_path.is_file() == verdict["better"]


@pytest.mark.parametrize(
    ("steps", "minutes", "row", "share"),
    [(100, 0.0, "40,9.5", 0.4), (0, 2.0, "40,90.0", 0.75), (1000, 2.0, "40,90.0", 0.75), (10, 0.0, "10,3.0", 1.0)],
)
def test_a_training_tells_how_far_it_is(tmp_path: Path, steps: int, minutes: float, row: str, share: float) -> None:
    run = tmp_path / "run"
    assert training_progress(tmp_path) == 0
    run.mkdir()
    (run / "settings.json").write_text(json.dumps({"steps": steps, "minutes": minutes}))
    (run / "history.csv").write_text("step,seconds,loss\n")
    assert training_progress(tmp_path) == 0
    (run / "history.csv").write_text(f"step,seconds,loss\n20,4.0,0.5\n{row},0.4\n")
    assert training_progress(tmp_path) == pytest.approx(share)


def test_a_finished_training_is_done_whole(trained: tuple[Path, Path]) -> None:
    (place,) = find_rounds(trained[1] / "learn")
    assert training_progress(place) == 1


def test_nothing_new_is_no_round(trained: tuple[Path, Path]) -> None:
    folder, app = trained
    done = run_round(folder, app, FIRST)
    assert (done.number, done.comparison) == (1, None)
    assert len(find_rounds(app / "learn")) == 1


def test_who_judges_is_never_trained_on_and_never_moves(trained: tuple[Path, Path], studies: Studies) -> None:
    _, app = trained
    plan = read_plan(find_rounds(app / "learn")[0])
    judges = {name for name, split in plan["splits"].items() if split == "val"}
    more = studies(app.parent / "more", 9)
    run_round(more, app, FIRST, new_round=True)
    later = read_plan(find_rounds(app / "learn")[-1])["splits"]
    assert len(later) == 9
    assert judges == {name for name in plan["splits"] if later[name] == "val"}
    assert sum(split == "val" for split in later.values()) == 2
    data = Checkpoint.load(find_rounds(app / "learn")[-1] / "run" / "checkpoint.pt").details["loop"]
    assert data["corrected_exams"] == 7


def test_a_label_that_is_drawn_again_is_read_again(studies: Studies, tmp_path: Path) -> None:
    folder = studies(tmp_path / "studies", 3)
    before = update_corrected_dataset(folder, tmp_path / "data").dataset
    finals = sorted((folder / "labels" / "final").iterdir())
    finals[0].write_bytes(finals[1].read_bytes())  # both exams have one grid in common or the label is refused
    finals[2].unlink()
    again = update_corrected_dataset(folder, tmp_path / "data")
    assert {case.name for case in before.all_cases} - {case.name for case in again.dataset.all_cases} >= {"exam2"}
    assert Dataset.open(tmp_path / "data").cases() == again.dataset.cases()
    assert any("exam2" in name for name in again.refused)


def test_an_exam_that_judges_is_not_learned_from_under_another_name(studies: Studies, tmp_path: Path) -> None:
    folder = studies(tmp_path / "studies", 4)
    other = update_corrected_dataset(folder, tmp_path / "other").dataset  # the same exams once more, in another dataset
    done = run_round(
        folder, tmp_path / "app", RoundOptions(initial_model="none", base=(str(other.folder),), training_settings=SMALL)
    )
    run = Checkpoint.load(find_rounds(tmp_path / "app" / "learn")[0] / "run" / "checkpoint.pt")
    assert (done.training_exams, done.validation_exams) == (3, 1)
    assert run.settings.sampling_weights == (0.5, 0.5)  # three beside three, the fourth of either is held out


def test_a_better_model_is_published_and_a_worse_one_is_not(studies: Studies, tmp_path: Path) -> None:
    try:
        bundled_model_path()
    except ModelError as error:
        pytest.skip(str(error))
    folder, shelf = studies(tmp_path / "studies", 3), ModelRegistry(tmp_path / "app", "lumbar_spine")
    shelf.model_path.parent.mkdir(parents=True)
    bad = tiny.write(shelf.model_path).read_bytes()
    few = {name: value for name, value in SMALL.items() if name != "channels"} | {"steps": 2}
    first = run_round(
        folder, shelf.app_folder, RoundOptions(initial_model="shipped", training_settings={**few, "learning_rate": 1e-6})
    )
    assert first.comparison is not None
    assert (first.comparison.current or 0) < 0.5 < first.comparison.candidate
    assert (first.published, first.version) == (True, 2)
    assert [one.path.read_bytes() == bad for one in shelf.versions()] == [True, False]
    good = shelf.model_path.read_bytes()
    second = run_round(folder, shelf.app_folder, RoundOptions(training_settings={**few, "learning_rate": 0.05}), new_round=True)
    assert second.comparison is not None
    assert second.comparison.candidate < (second.comparison.current or 0) == pytest.approx(first.comparison.candidate)
    assert not second.published
    assert shelf.model_path.read_bytes() == good
    plan = read_plan(find_rounds(shelf.app_folder / "learn")[-1])
    assert plan["init"].endswith("rounds/0001/run")
    assert plan["seen"] == sorted(name for name, split in plan["splits"].items() if split == "train")


def test_a_round_that_cannot_end_is_left(studies: Studies, tmp_path: Path) -> None:
    folder, app = studies(tmp_path / "studies", 3), tmp_path / "app"
    with pytest.raises(ModelError, match="the loss is"):
        run_round(
            folder, app, RoundOptions(initial_model="none", training_settings={**SMALL, "learning_rate": 1e30, "warmup_steps": 0})
        )
    failed = read_plan(find_rounds(app / "learn")[0])
    assert failed["stage"] == "failed"
    assert "the loss is" in failed["error"]
    assert find_unfinished_round(app / "learn") is None
    assert run_round(folder, app, FIRST).number == 2


def test_models_learn_apart_but_are_judged_by_the_same_patients(trained: tuple[Path, Path]) -> None:
    folder, app = trained
    run_round(folder, app, replace(FIRST, model="other"))
    mine, other = (read_plan(find_rounds(app / "learn", model)[0]) for model in ("lumbar_spine", "other"))
    assert mine["splits"] == other["splits"]
    assert find_unfinished_round(app / "learn", "other") is None


def test_too_few_patients_are_told(studies: Studies, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="finished exams of 2 patients: one of 3 is held out"):
        run_round(studies(tmp_path / "studies", 2), tmp_path / "app", FIRST)
    assert not find_rounds(tmp_path / "app" / "learn")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="cannot name a model"):
        RoundOptions(model=name)


def test_a_second_round_at_once_is_refused(trained: tuple[Path, Path]) -> None:
    folder, app = trained
    with exclusive_folder(app / "learn"), pytest.raises(DatasetError, match="another program is writing here"):
        run_round(folder, app, FIRST)


LOOP = """
import sys
from pathlib import Path
from lumbarseg.active_learning.rounds import Wish, learn
import json
words = json.loads(sys.argv[3])
done = learn(Path(sys.argv[1]), Path(sys.argv[2]), Wish(init="none", changes=words))
print(json.dumps({"round": done.number, "candidate": done.verdict.candidate}))
"""


def child(folder: Path, app: Path, steps: int) -> subprocess.Popen[str]:
    words = json.dumps({**SMALL, "steps": steps, "checkpoint_seconds": 0.0})
    return subprocess.Popen(
        [sys.executable, "-c", LOOP, str(folder), str(app), words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )


def test_killed_in_the_middle_it_goes_on_and_ends_in_the_same_model(studies: Studies, tmp_path: Path) -> None:
    folder, steps = studies(tmp_path / "studies", 3), 30
    process = child(folder, tmp_path / "broken", steps)
    checkpoint = tmp_path / "broken" / "learn" / "rounds" / "0001" / "run" / "checkpoint.pt"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert 0 < Checkpoint.load(checkpoint).step < steps
    assert read_plan(tmp_path / "broken" / "learn" / "rounds" / "0001")["stage"] == "training"
    assert not (tmp_path / "broken" / "model").exists()
    told = [json.loads(child(folder, tmp_path / app, steps).communicate()[0]) for app in ("broken", "whole")]
    assert told[0] == told[1]
    assert told[0]["round"] == 1
    models = [tmp_path / app / "learn" / "rounds" / "0001" / CANDIDATE_FILE for app in ("broken", "whole")]
    assert Model.load(models[0]).card.details["step"] == steps
    weights = [Checkpoint.load(model.parent / "run" / "checkpoint.pt").ema_weights for model in models]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
    assert (tmp_path / "broken" / "learn" / "rounds" / "0001" / PLAN_FILE).is_file()
