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

from lumbarseg.datasets import Dataset
from lumbarseg.datasets.workers import alone
from lumbarseg.errors import DatasetError, ModelError
from lumbarseg.learn.corrected import corrected
from lumbarseg.learn.publish import Shelf
from lumbarseg.learn.round import CANDIDATE, PLAN, VERDICT, Wish, learn, progress, read, rounds, unfinished
from lumbarseg.model import Model, shipped
from lumbarseg.train.checkpoint import Checkpoint

from .conftest import Studies

SMALL = {"steps": 4, "batch": 2, "crop": 64, "channels": (4, 6), "threads": 1, "precision": "float32", "loaders": 1}
FIRST = Wish(init="none", changes=SMALL)


@pytest.fixture(scope="module")
def trained(studies: Studies, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Studies of five finished exams and an app after one round."""
    place = tmp_path_factory.mktemp("loop")
    folder, app = studies(place / "studies", 5), place / "app"
    done = learn(folder, app, FIRST)
    assert (done.number, done.exams, done.judges) == (1, 4, 1)
    return folder, app


def test_a_round_leaves_a_candidate_and_a_verdict(trained: tuple[Path, Path]) -> None:
    _, app = trained
    (place,) = rounds(app / "learn")
    assert read(place)["stage"] == "done"
    assert Model.load(place / CANDIDATE).card.about["loop"] == {"corrected_exams": 4, "annotators": ["reader one"]}
    verdict = json.loads((place / VERDICT).read_text())
    assert verdict["current"] is None
    assert verdict["better"] == (verdict["candidate"] > 0)
    assert Shelf(app, "lumbar_spine").model.is_file() == verdict["better"]


@pytest.mark.parametrize(
    ("steps", "minutes", "row", "share"),
    [(100, 0.0, "40,9.5", 0.4), (0, 2.0, "40,90.0", 0.75), (1000, 2.0, "40,90.0", 0.75), (10, 0.0, "10,3.0", 1.0)],
)
def test_a_training_tells_how_far_it_is(tmp_path: Path, steps: int, minutes: float, row: str, share: float) -> None:
    run = tmp_path / "run"
    assert progress(tmp_path) == 0
    run.mkdir()
    (run / "settings.json").write_text(json.dumps({"steps": steps, "minutes": minutes}))
    (run / "history.csv").write_text("step,seconds,loss\n")
    assert progress(tmp_path) == 0
    (run / "history.csv").write_text(f"step,seconds,loss\n20,4.0,0.5\n{row},0.4\n")
    assert progress(tmp_path) == pytest.approx(share)


def test_a_finished_training_is_done_whole(trained: tuple[Path, Path]) -> None:
    (place,) = rounds(trained[1] / "learn")
    assert progress(place) == 1


def test_nothing_new_is_no_round(trained: tuple[Path, Path]) -> None:
    folder, app = trained
    done = learn(folder, app, FIRST)
    assert (done.number, done.verdict) == (1, None)
    assert len(rounds(app / "learn")) == 1


def test_who_judges_is_never_trained_on_and_never_moves(trained: tuple[Path, Path], studies: Studies) -> None:
    _, app = trained
    plan = read(rounds(app / "learn")[0])
    judges = {name for name, split in plan["splits"].items() if split == "val"}
    more = studies(app.parent / "more", 9)
    learn(more, app, FIRST, anew=True)
    later = read(rounds(app / "learn")[-1])["splits"]
    assert len(later) == 9
    assert judges == {name for name in plan["splits"] if later[name] == "val"}
    assert sum(split == "val" for split in later.values()) == 2
    data = Checkpoint.load(rounds(app / "learn")[-1] / "run" / "checkpoint.pt").about["loop"]
    assert data["corrected_exams"] == 7


def test_a_label_that_is_drawn_again_is_read_again(studies: Studies, tmp_path: Path) -> None:
    folder = studies(tmp_path / "studies", 3)
    before = corrected(folder, tmp_path / "data").dataset
    finals = sorted((folder / "labels" / "final").iterdir())
    finals[0].write_bytes(finals[1].read_bytes())  # both exams have one grid in common or the label is refused
    finals[2].unlink()
    again = corrected(folder, tmp_path / "data")
    assert {case.name for case in before.everything} - {case.name for case in again.dataset.everything} >= {"exam2"}
    assert Dataset.open(tmp_path / "data").cases() == again.dataset.cases()
    assert any("exam2" in name for name in again.refused)


def test_an_exam_that_judges_is_not_learned_from_under_another_name(studies: Studies, tmp_path: Path) -> None:
    folder = studies(tmp_path / "studies", 4)
    other = corrected(folder, tmp_path / "other").dataset  # the same exams once more, in another dataset
    done = learn(folder, tmp_path / "app", Wish(init="none", base=(str(other.folder),), changes=SMALL))
    run = Checkpoint.load(rounds(tmp_path / "app" / "learn")[0] / "run" / "checkpoint.pt")
    assert (done.exams, done.judges) == (3, 1)
    assert run.settings.shares == (0.5, 0.5)  # three beside three, the fourth of either is held out


def test_a_better_model_is_published_and_a_worse_one_is_not(studies: Studies, tmp_path: Path) -> None:
    try:
        shipped()
    except ModelError as error:
        pytest.skip(str(error))
    folder, shelf = studies(tmp_path / "studies", 3), Shelf(tmp_path / "app", "lumbar_spine")
    shelf.model.parent.mkdir(parents=True)
    bad = tiny.write(shelf.model).read_bytes()
    few = {name: value for name, value in SMALL.items() if name != "channels"} | {"steps": 2}
    first = learn(folder, shelf.app, Wish(init="shipped", changes={**few, "rate": 1e-6}))
    assert first.verdict is not None
    assert (first.verdict.current or 0) < 0.5 < first.verdict.candidate
    assert (first.published, first.version) == (True, 2)
    assert [one.path.read_bytes() == bad for one in shelf.versions()] == [True, False]
    good = shelf.model.read_bytes()
    second = learn(folder, shelf.app, Wish(changes={**few, "rate": 0.05}), anew=True)
    assert second.verdict is not None
    assert second.verdict.candidate < (second.verdict.current or 0) == pytest.approx(first.verdict.candidate)
    assert not second.published
    assert shelf.model.read_bytes() == good
    plan = read(rounds(shelf.app / "learn")[-1])
    assert plan["init"].endswith("rounds/0001/run")
    assert plan["seen"] == sorted(name for name, split in plan["splits"].items() if split == "train")


def test_a_round_that_cannot_end_is_left(studies: Studies, tmp_path: Path) -> None:
    folder, app = studies(tmp_path / "studies", 3), tmp_path / "app"
    with pytest.raises(ModelError, match="the loss is"):
        learn(folder, app, Wish(init="none", changes={**SMALL, "rate": 1e30, "warmup": 0}))
    failed = read(rounds(app / "learn")[0])
    assert failed["stage"] == "failed"
    assert "the loss is" in failed["error"]
    assert unfinished(app / "learn") is None
    assert learn(folder, app, FIRST).number == 2


def test_models_learn_apart_but_are_judged_by_the_same_patients(trained: tuple[Path, Path]) -> None:
    folder, app = trained
    learn(folder, app, replace(FIRST, model="other"))
    mine, other = (read(rounds(app / "learn", model)[0]) for model in ("lumbar_spine", "other"))
    assert mine["splits"] == other["splits"]
    assert unfinished(app / "learn", "other") is None


def test_too_few_patients_are_told(studies: Studies, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="finished exams of 2 patients: one of 3 is held out"):
        learn(studies(tmp_path / "studies", 2), tmp_path / "app", FIRST)
    assert not rounds(tmp_path / "app" / "learn")


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="cannot name a model"):
        Wish(model=name)


def test_a_second_round_at_once_is_refused(trained: tuple[Path, Path]) -> None:
    folder, app = trained
    with alone(app / "learn"), pytest.raises(DatasetError, match="another program is writing here"):
        learn(folder, app, FIRST)


LOOP = """
import sys
from pathlib import Path
from lumbarseg.learn.round import Wish, learn
import json
words = json.loads(sys.argv[3])
done = learn(Path(sys.argv[1]), Path(sys.argv[2]), Wish(init="none", changes=words))
print(json.dumps({"round": done.number, "candidate": done.verdict.candidate}))
"""


def child(folder: Path, app: Path, steps: int) -> subprocess.Popen[str]:
    words = json.dumps({**SMALL, "steps": steps, "checkpoint_every": 0.0})
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
    assert read(tmp_path / "broken" / "learn" / "rounds" / "0001")["stage"] == "training"
    assert not (tmp_path / "broken" / "model").exists()
    told = [json.loads(child(folder, tmp_path / app, steps).communicate()[0]) for app in ("broken", "whole")]
    assert told[0] == told[1]
    assert told[0]["round"] == 1
    models = [tmp_path / app / "learn" / "rounds" / "0001" / CANDIDATE for app in ("broken", "whole")]
    assert Model.load(models[0]).card.about["step"] == steps
    weights = [Checkpoint.load(model.parent / "run" / "checkpoint.pt").average for model in models]
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])
    assert (tmp_path / "broken" / "learn" / "rounds" / "0001" / PLAN).is_file()
