"""The loop with a real server: labels saved, training begun, refused beside another, killed, gone on, stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.live.conftest import Server, finished, form, serving

from lumbarseg.inference import Model
from lumbarseg.io import write_image, write_labels
from lumbarseg.phantom import draw_recipe, render_phantom

EXAMS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Exams with labels beside, which a person will have drawn."""
    import numpy as np

    home = tmp_path_factory.mktemp("training")
    studies = home / "studies"
    studies.mkdir()
    for seed in range(EXAMS):
        phantom = render_phantom(draw_recipe(np.random.default_rng(100 + seed)))
        write_image(phantom.image, studies / f"patient{seed}.nii.gz")
        write_labels(phantom.labels, home / f"patient{seed}.nii.gz")
    return home, studies


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture
def server(folders: tuple[Path, Path], app: Path) -> Iterator[Server]:
    with serving(folders[1], app) as running:
        yield running


def begin(server: Server, **words: Any) -> Any:
    return server.ask("POST", "/train/lumbar_spine", json.dumps({"model": "lumbar_spine", **words}).encode())


def round_of(app: Path) -> dict[str, Any]:
    return dict(json.loads((app / "learn" / "rounds" / "0001" / "round.json").read_text()))


def wait_for(path: Path, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.2)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_there_must_be_labels_and_sound_options(server: Server, folders: tuple[Path, Path]) -> None:
    assert begin(server)[0] == 409
    home, _ = folders
    for seed in range(EXAMS):
        body, kind = form({"params": "{}"}, {"label": home / f"patient{seed}.nii.gz"})
        status, told = server.ask("PUT", f"/datastore/label?image=patient{seed}", body, kind)
        assert status == 200, told
    assert begin(server, minutes="long")[0] == 422
    assert server.ask("POST", "/train/nothing", b"{}")[0] == 404
    assert server.ask("GET", "/train/?check_if_running=true")[0] == 404


def test_a_killed_server_goes_on_with_its_training_and_publishes_what_is_not_worse(
    server: Server, app: Path, folders: tuple[Path, Path]
) -> None:
    status, task = begin(server, steps=3)
    assert status == 200, task
    assert begin(server, steps=3)[0] == 429  # one at a time
    plan = app / "learn" / "rounds" / "0001" / "round.json"
    wait_for(plan)
    (child,) = children(server.process.pid)
    os.kill(child, signal.SIGKILL)
    server.process.wait(60)
    time.sleep(3)  # the training ends with its server
    assert round_of(app)["stage"] in ("training", "judging")
    with serving(folders[1], app) as again:
        status, task = begin(again, steps=3)
        assert status == 200, task
        assert finished(again, "/train/")["status"] == "DONE"
        told = again.ask("GET", "/info/")[1]["train_stats"]["lumbar_spine"]
        assert told["stage"] == "done" and told["verdict"]["exams"]
        model = app / "model" / "lumbar_spine.onnx"
        assert model.exists() == told["verdict"]["better"]
        if model.exists():
            assert (
                Model.load(model).card.digest[:12]
                in again.ask("GET", "/info/")[1]["models"]["lumbar_spine"]["description"]
            )
    assert len(list((app / "learn" / "rounds").iterdir())) == 1


def test_a_training_is_stopped_when_asked(server: Server, app: Path) -> None:
    assert begin(server, steps=100_000, begin_anew=True)[0] == 200
    wait_for(app / "learn" / "rounds" / "0002" / "run" / "settings.json")
    assert server.ask("GET", "/train/?check_if_running=true")[0] == 200
    status, task = server.ask("DELETE", "/train/")
    assert status == 200 and task["status"] == "STOPPED"
    assert task["details"][-1]  # 3D Slicer reads it
    assert server.ask("GET", "/train/?check_if_running=true")[0] == 404
    assert server.ask("GET", "/info/")[0] == 200
