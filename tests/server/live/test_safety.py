"""What must not be done, and what goes wrong: one clear answer with the right status, and the server lives on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from tests.server.live.conftest import ROOT, Server, form, serving

from lumbarseg.io import read_image, write_image, write_labels
from lumbarseg.volume import Volume


@pytest.fixture(autouse=True)
def lives(server: Server) -> Iterator[None]:
    """After each of them the server answers."""
    yield
    assert server.ask("GET", "/info/")[0] == 200


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("value", ["../secret", "/etc/hostname", "..%2F..%2Fetc%2Fpasswd", "C:\\x"])
def test_no_file_outside_is_read(server: Server, value: str) -> None:
    for path in (f"/datastore/image?image={quote(value)}", f"/datastore/label?label={quote(value)}&tag=final"):
        assert server.ask("GET", path)[0] in (400, 404)
    assert server.infer("lumbar_spine", f"image={quote(value)}")[0] in (400, 404)


@pytest.mark.parametrize("word", ["image", "session", "model", "save_label", "label_tag"])
def test_params_do_not_override_the_address(server: Server, word: str) -> None:
    status, told = server.infer("lumbar_spine", "image=RAS", {word: "/etc/hostname"})
    assert status == 400 and repr(word) in told["detail"]


@pytest.mark.parametrize("params", ["[1]", "{", '"x"'])
def test_params_that_are_no_object_are_refused(server: Server, params: str) -> None:
    body, kind = form({"params": params})
    assert server.ask("POST", "/infer/lumbar_spine?image=RAS", body, kind)[0] == 400


@pytest.mark.parametrize("query", ["image=..%2Fevil", "image=%2Ftmp%2Fevil", "image=.hidden", "image=a%0Ab"])
def test_no_upload_lands_outside(server: Server, query: str) -> None:
    before = names(server.studies.parent)
    body, kind = form({}, {"file": server.studies / "RAS.nii.gz"})
    assert server.ask("PUT", f"/datastore/image?{query}", body, kind)[0] == 400
    assert names(server.studies.parent) == before


def test_no_tag_makes_a_folder_outside_and_answers_of_models_are_not_overwritten(
    server: Server, tmp_path: Path
) -> None:
    image = read_image(server.studies / "RAS.nii.gz")
    write_labels(Volume(np.zeros(image.array.shape, np.uint8), image.affine), tmp_path / "label.nii.gz")
    body, kind = form({}, {"label": tmp_path / "label.nii.gz"})
    before = names(server.studies.parent)
    assert server.ask("PUT", "/datastore/label?image=RAS&tag=..%2F..%2Fx", body, kind)[0] == 400
    assert server.ask("PUT", "/datastore/label?image=RAS&tag=original", body, kind)[0] == 403
    assert names(server.studies.parent) == before


def test_an_upload_that_is_no_exam_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "noise.nii.gz").write_bytes(b"\x1f\x8b" + bytes(200))
    body, kind = form({}, {"file": tmp_path / "noise.nii.gz"})
    status, told = server.ask("PUT", "/datastore/image?image=noise", body, kind)
    assert status == 422 and "noise" in told["detail"] and "/tmp" not in told["detail"]
    (tmp_path / "run.sh").write_text("echo")
    body, kind = form({}, {"file": tmp_path / "run.sh"})
    assert server.ask("PUT", "/datastore/image?image=noise", body, kind)[0] == 415
    assert not list(server.studies.glob("noise*"))
    image = read_image(server.studies / "RAS.nii.gz")
    write_image(Volume(image.array[::-1], image.affine), tmp_path / "RAS.nii.gz")
    body, kind = form({}, {"file": tmp_path / "RAS.nii.gz"})
    status, told = server.ask("PUT", "/datastore/image?image=RAS", body, kind)
    assert status == 409 and "another exam 'RAS'" in told["detail"]
    assert np.array_equal(read_image(server.studies / "RAS.nii.gz").array, image.array)


def test_a_label_of_another_exam_or_with_grey_values_or_strange_names_is_refused(
    server: Server, tmp_path: Path
) -> None:
    image = read_image(server.studies / "RAS.nii.gz")
    zeros = np.zeros(image.array.shape, np.uint8)
    other = image.affine.copy()
    other[:3, 3] += 5
    write_labels(Volume(zeros, other), tmp_path / "other.nii.gz")
    write_image(image, tmp_path / "grey.nii.gz")
    write_labels(Volume(np.ones_like(zeros), image.affine), tmp_path / "strange.nii.gz", ())
    for file, info, reason in (
        ("other.nii.gz", [], "grid"),
        ("grey.nii.gz", [], "grey values"),
        ("strange.nii.gz", [{"name": "Segment_1", "idx": 1}], "'Segment_1' is no structure"),
    ):
        body, kind = form({"params": json.dumps({"label_info": info})}, {"label": tmp_path / file})
        status, told = server.ask("PUT", "/datastore/label?image=RAS", body, kind)
        assert status == 422 and reason in told["detail"]
    assert not (server.studies / "labels" / "final" / "RAS.nii.gz").exists()


def test_an_exam_that_is_not_lumbar_or_is_gone_is_one_clear_answer(server: Server) -> None:
    status, told = server.infer("lumbar_spine", "image=water%20bottle")
    assert status == 422 and "no lumbar spine" in told["detail"]
    status, told = server.infer("lumbar_spine", "image=nobody")
    assert status == 404 and "'nobody'" in told["detail"]
    gone = arrived(server, "gone")
    gone.unlink()
    assert server.infer("lumbar_spine", "image=gone")[0] == 404


def arrived(server: Server, name: str) -> Path:
    """A new exam in the folder, once the server has seen it: written under another name first, as programs do."""
    path, part = server.studies / f"{name}.nii.gz", server.studies / f"{name}.part"
    part.write_bytes((server.studies / "RAS.nii.gz").read_bytes())
    part.rename(path)
    end = time.monotonic() + 30
    while server.ask("HEAD", f"/datastore/image?image={quote(name)}")[0] != 200:
        assert time.monotonic() < end, "the server does not see a new exam"
        time.sleep(0.1)
    return path


def test_an_exam_that_is_deleted_while_it_waits_for_its_answer_is_one_clear_answer(server: Server) -> None:
    paths = [arrived(server, f"going {number}") for number in range(3)]
    with ThreadPoolExecutor(len(paths)) as pool:
        asked = [pool.submit(server.infer, "lumbar_spine", f"image={quote(path.name[:-7])}") for path in paths]
        time.sleep(0.3)  # one is at the network now, and the others wait for it
        for path in paths:
            path.unlink()
        answers = [one.result() for one in asked]
    assert {status for status, _ in answers} <= {200, 404}
    assert all(
        "there any more" in told["detail"] or "removed" in told["detail"] for status, told in answers if status == 404
    )


def test_pickled_weights_and_damaged_models_are_refused(server: Server, tmp_path: Path) -> None:
    for name, status in (("model.pt", 415), ("model.onnx", 422)):
        (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
        body, kind = form({}, {"file": tmp_path / name})
        assert server.ask("PUT", "/model/lumbar_spine", body, kind)[0] == status
    assert server.infer("no_such_model", "image=RAS")[0] == 404
    assert not (server.app / "model" / "lumbar_spine.onnx").exists()


def test_contradictory_and_stray_clicks_are_refused(server: Server) -> None:
    status, told = server.infer("lumbar_deepedit", "image=RAS", {"L3": [[0, 0, 999]]})
    assert status == 422 and "outside the exam" in told["detail"]
    status, told = server.infer("lumbar_deepedit", "image=RAS", {"L3": [[5, 9, 9]], "L4": [[5, 9, 9]]})
    assert status == 422 and "contradict" in told["detail"]
    assert server.infer("lumbar_spine", "image=RAS", {"result_extension": ".exe"})[0] == 422


def test_foreign_pages_are_refused(server: Server) -> None:
    assert server.ask("GET", "/info/", origin="http://evil.example")[0] == 403
    assert server.ask("GET", "/info/", host="evil.example")[0] == 403


def test_archives_are_not_unpacked(server: Server) -> None:
    body, kind = form({}, {"files": server.studies / "RAS.nii.gz"})
    assert server.ask("PUT", "/session/?uncompress=true", body, kind)[0] == 415


def test_with_a_token_nobody_else_is_answered(server: Server, tmp_path: Path) -> None:
    from monailabel.client import MONAILabelClient

    token = "a-secret-of-two"
    with serving(server.studies, tmp_path / "app", token=token) as other:
        bare = MONAILabelClient(other.url)
        assert bare.auth_enabled()
        with pytest.raises(Exception, match="401"):
            bare.info()
        bare.update_auth(bare.auth_token("anybody", token))
        assert bare.auth_valid_token() and bare.info()["name"] == "lumbarseg"


def test_a_port_in_use_is_told(server: Server, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    words = ["serve", str(server.studies), "--app", str(tmp_path / "app"), "--port", port, "--env", sys.prefix]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-m", "lumbarseg", *words], capture_output=True, text=True, env=variables)
    assert done.returncode == 1
    assert "ended before it answered" in done.stderr and "address already in use" in done.stderr
