"""Training with a real server: started, refused beside another one, killed, continued, stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.live.conftest import Server, form, serving, wait_for_task

from lumbarseg.inference import Model
from lumbarseg.io import write_image, write_labels
from lumbarseg.phantom import render_phantom, sample_recipe

EXAMS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Exams, and their labels in another folder."""
    import numpy as np

    home = tmp_path_factory.mktemp("training")
    studies = home / "studies"
    studies.mkdir()
    for seed in range(EXAMS):
        phantom = render_phantom(sample_recipe(np.random.default_rng(100 + seed)))
        write_image(phantom.image, studies / f"patient{seed}.nii.gz")
        write_labels(phantom.labels, home / f"patient{seed}.nii.gz")
    return home, studies


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("app")


@pytest.fixture
def server(folders: tuple[Path, Path], app: Path) -> Iterator[Server]:
    with serving(folders[1], app) as server:
        yield server


def start_training(server: Server, **options: Any) -> Any:
    return server.request("POST", "/train/lumbar_spine", json.dumps({"model": "lumbar_spine", **options}).encode())


def first_round(app: Path) -> dict[str, Any]:
    return dict(json.loads((app / "learn" / "rounds" / "0001" / "round.json").read_text()))


def wait_for(path: Path, seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not written"
        time.sleep(0.2)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_labels_and_valid_options_are_required(server: Server, folders: tuple[Path, Path]) -> None:
    assert start_training(server)[0] == 409
    home, _ = folders
    for seed in range(EXAMS):
        body, kind = form({"params": "{}"}, {"label": home / f"patient{seed}.nii.gz"})
        status, response = server.request("PUT", f"/datastore/label?image=patient{seed}", body, kind)
        assert status == 200, response
    assert start_training(server, minutes="long")[0] == 422
    assert server.request("POST", "/train/nothing", b"{}")[0] == 404
    assert server.request("GET", "/train/?check_if_running=true")[0] == 404


def test_killed_server_continues_its_training(server: Server, app: Path, folders: tuple[Path, Path]) -> None:
    status, task = start_training(server, steps=3)
    assert status == 200, task
    assert start_training(server, steps=3)[0] == 429  # one at a time
    plan = app / "learn" / "rounds" / "0001" / "round.json"
    wait_for(plan)
    (child,) = children(server.process.pid)
    os.kill(child, signal.SIGKILL)
    server.process.wait(60)
    time.sleep(3)  # the training ends with its server
    assert first_round(app)["stage"] in ("training", "comparing")
    with serving(folders[1], app) as restarted:
        status, task = start_training(restarted, steps=3)
        assert status == 200, task
        assert wait_for_task(restarted, "/train/")["status"] == "DONE"
        stats = restarted.request("GET", "/info/")[1]["train_stats"]["lumbar_spine"]
        assert stats["stage"] == "done" and stats["comparison"]["exams"]
        model = app / "model" / "lumbar_spine.onnx"
        assert model.exists() == stats["comparison"]["accepted"]
        if model.exists():
            assert (
                Model.load(model).card.digest[:12]
                in restarted.request("GET", "/info/")[1]["models"]["lumbar_spine"]["description"]
            )
    assert len(list((app / "learn" / "rounds").iterdir())) == 1


def test_training_is_stopped(server: Server, app: Path) -> None:
    assert start_training(server, steps=100_000, new_round=True)[0] == 200
    wait_for(app / "learn" / "rounds" / "0002" / "run" / "settings.json")
    assert server.request("GET", "/train/?check_if_running=true")[0] == 200
    status, task = server.request("DELETE", "/train/")
    assert status == 200 and task["status"] == "STOPPED"
    assert task["details"][-1]  # 3D Slicer reads it
    assert server.request("GET", "/train/?check_if_running=true")[0] == 404
    assert server.request("GET", "/info/")[0] == 200
