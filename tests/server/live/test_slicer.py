"""Requests of 3D Slicer's plug-in, replayed as it sends them, and its reading of the answers."""

from __future__ import annotations

import json
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pytest
from scipy import ndimage
from tests.server.live.conftest import Server, form

from lumbarseg.anatomy import structure_by_name
from lumbarseg.io import read_image, read_labels, write_labels
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

EXAMS = ("RAS", "LPS", "SRA", "oblique")


def asked(
    server: Server, model: str, exam: str, params: dict[str, Any], folder: Path, quoted: bool = False
) -> tuple[Volume, list[str], Any]:
    """`SmartEdit` and `Auto Segmentation`: what the plug-in adds, and value n as the n-th name."""
    sent = {**params, "result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz"}
    body, kind = form({"params": json.dumps(sent)})
    status, data = server.ask("POST", f"/infer/{model}?image={exam if quoted else quote_plus(exam)}", body, kind)
    assert status == 200, data
    parts = [part.get_payload(decode=True) for part in parse(data)]
    told = json.loads(parts[0])
    path = folder / "answer.nrrd"
    path.write_bytes(parts[1])
    names = [name for name, _ in sorted(told["label_names"].items(), key=lambda item: item[1])]
    return read_labels(path), [name for name in names if name != "background"], told


def parse(data: bytes) -> list[Any]:
    boundary = data.split(b"\r\n", 1)[0].removeprefix(b"--").decode()
    whole = message_from_bytes(f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n".encode() + data)
    return list(whole.get_payload())


def segments(labels: Volume, names: list[str]) -> Volume:
    """What the plug-in shows, in declared values."""
    table = np.zeros(256, np.uint8)
    for place, name in enumerate(names, start=1):
        table[place] = structure_by_name(name).label
    assert labels.array.max() <= len(names)
    return Volume(table[labels.array], labels.affine)


def deepest(volume: Volume, name: str) -> np.ndarray:
    """A voxel deep inside a structure."""
    mask = volume.array == structure_by_name(name).label
    depth = ndimage.distance_transform_edt(mask, sampling=volume.grid.spacing)
    return np.array(np.unravel_index(depth.argmax(), depth.shape))


@pytest.fixture(scope="module")
def answers(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Volume]:
    folder = tmp_path_factory.mktemp("answers")
    found = {}
    for exam in EXAMS:
        labels, names, _ = asked(server, "lumbar_deepedit", exam, {}, folder)
        found[exam] = segments(labels, names)
    return found


def test_it_first_asks_whether_a_login_is_wanted_and_what_there_is(server: Server) -> None:
    assert server.ask("GET", "/auth/")[0] == 404
    assert server.ask("GET", "/info/")[1]["models"]


@pytest.mark.parametrize("exam", EXAMS)
def test_an_answer_is_the_same_in_every_orientation(server: Server, answers: dict[str, Volume], exam: str) -> None:
    assert answers[exam].grid.same_as(read_image(server.studies / f"{exam}.nii.gz").grid)
    if exam != "oblique":  # another place in space, the same axes
        back = reorient(answers[exam], "RAS")
        assert (back.array == answers["RAS"].array).mean() > 0.9999


def test_absent_levels_shift_no_name(server: Server, answers: dict[str, Volume], tmp_path: Path) -> None:
    labels, names, _ = asked(server, "lumbar_spine", "RAS", {"lowest": ["L4", "auto"]}, tmp_path)
    shown = segments(labels, names)
    assert "L5" in names and structure_by_name("L5").label not in np.unique(shown.array)
    was = tuple(deepest(answers["RAS"], "L5"))
    assert shown.array[was] == structure_by_name("L4").label


@pytest.mark.parametrize("exam", EXAMS)
def test_a_click_changes_the_voxel_under_it_in_every_orientation(
    server: Server, answers: dict[str, Volume], exam: str, tmp_path: Path
) -> None:
    before = answers[exam]
    world = reorient(answers["RAS"], "RAS")
    point = world.grid.to_world(deepest(world, "L3"))
    if exam == "oblique":
        point = before.grid.to_world(deepest(before, "L3"))
    voxel = np.rint(before.grid.to_index(point)).astype(int)
    assert np.linalg.norm(before.grid.to_world(voxel) - point) < 1.0 + max(before.grid.spacing) / 2
    assert before.array[tuple(voxel)] == structure_by_name("L3").label
    params = {"L3": [], "canal": [voxel.tolist()], "label": "canal"}
    labels, names, told = asked(server, "lumbar_deepedit", exam, params, tmp_path)
    after = segments(labels, names)
    assert told["clicks"] == 1
    assert after.array[tuple(voxel)] == structure_by_name("canal").label
    changed = np.argwhere(after.array != before.array)
    away = np.linalg.norm(before.grid.to_world(changed) - before.grid.to_world(voxel), axis=1)
    assert len(changed) and away.max() <= 41


def exported(labels: Volume, order: list[str], path: Path) -> list[dict[str, Any]]:
    """`Submit Label`: segments numbered 1..n in the order of the scene, `idx` one off after a background segment."""
    out = np.zeros_like(labels.array)
    for place, name in enumerate(order, start=1):
        out[labels.array == structure_by_name(name).label] = place
    write_labels(Volume(out, labels.affine), path, ())
    return [{"name": name, "idx": place + 1} for place, name in enumerate(order, start=1)]


def test_segments_in_the_order_of_the_scene_are_stored_by_their_names(
    server: Server, answers: dict[str, Volume], tmp_path: Path
) -> None:
    present = ["L4-L5", "sacrum", "L5", "L1", "canal", "L2-L3", "L3", "L1-L2", "L2", "L4"]
    info = exported(answers["SRA"], present, tmp_path / "label.nii.gz")
    body, kind = form({"params": json.dumps({"label_info": info})}, {"label": tmp_path / "label.nii.gz"})
    status, told = server.ask("PUT", "/datastore/label?image=SRA", body, kind)
    assert (status, told["image"]) == (200, "SRA")
    stored = read_labels(server.studies / "labels" / "final" / "SRA.nii.gz")
    wanted = np.isin(answers["SRA"].array, [structure_by_name(name).label for name in present])
    assert (stored.array == np.where(wanted, answers["SRA"].array, 0)).all()
    assert stored.grid.same_as(read_image(server.studies / "SRA.nii.gz").grid)


def test_an_exam_that_the_user_opened_is_answered_and_submitted_under_what_3d_slicer_calls_it(
    server: Server, tmp_path: Path
) -> None:
    """Such a volume is sent as a session; its name goes with every request, and `Submit Label` uploads it first."""
    import requests

    exam, name = server.studies / "LPS.nii.gz", "4: SAG T2/STIR *"
    with exam.open("rb") as file:
        sent = [("files", ("tmp1.nii.gz", file))]
        made = requests.put(f"{server.url}/session/", data={"client_id": "user-xyz"}, files=sent, timeout=60).json()
    assert server.ask("GET", f"/session/{made['session_id']}")[0] == 200
    query = f"{quote_plus(name)}&session_id={made['session_id']}"
    labels, names, _ = asked(server, "lumbar_spine", query, {"lowest": "auto"}, tmp_path, quoted=True)
    shown = segments(labels, names)
    upload, kind = form({"params": json.dumps({"client_id": "user-xyz"})}, {"file": exam})
    for _ in range(2):  # who opens a known exam again sends it again
        assert server.ask("PUT", f"/datastore/?image={quote_plus(name)}", upload, kind)[0] == 200
    info = exported(shown, names, tmp_path / "label.nii.gz")
    body, kind = form({"params": json.dumps({"label_info": info})}, {"label": tmp_path / "label.nii.gz"})
    assert server.ask("PUT", f"/datastore/label?image={quote_plus(name)}", body, kind)[0] == 200
    assert (read_labels(server.studies / "labels" / "final" / "4_ SAG T2_STIR _.nii.gz").array == shown.array).all()
    labels, names, _ = asked(server, "lumbar_spine", name, {}, tmp_path)
    assert (segments(labels, names).array == shown.array).all()
    other, kind = form({"params": "{}"}, {"file": server.studies / "water bottle.nii.gz"})
    assert server.ask("PUT", f"/datastore/?image={quote_plus(name)}", other, kind)[0] == 409


def test_the_names_that_get_landmarks_hold_the_background(server: Server) -> None:
    """Only landmarks of what `labels` of /info/ names are sent, and only to models of these types."""
    info = server.ask("GET", "/info/")[1]
    assert "background" in info["labels"]
    assert info["models"]["lumbar_deepedit"]["type"] in ("deepgrow", "deepedit")
    assert all(isinstance(choice, str) for choice in info["models"]["lumbar_spine"]["config"]["lowest"])


def test_a_stored_answer_is_read_back_in_the_order_of_its_names(server: Server, tmp_path: Path) -> None:
    """`Next Sample` fetches the label "original" and calls value n by the n-th key of its label_names."""
    body = json.dumps({"label_tag": "original"}).encode()
    assert server.ask("POST", "/batch/infer/lumbar_spine?images=unlabeled&run_sync=true", body)[0] == 200
    table = server.ask("GET", "/datastore/?output=all")[1]["objects"]["spare"]["labels"]["original"]
    names = list(table["info"]["params"]["label_names"])
    status, data = server.ask("GET", "/datastore/label?label=spare&tag=original")
    assert status == 200
    (tmp_path / "original.nii.gz").write_bytes(data)
    shown = segments(read_labels(tmp_path / "original.nii.gz"), names)
    assert {1, 2, 3, 4, 5, 6, 7, 8, 9} <= set(np.unique(shown.array).tolist())
