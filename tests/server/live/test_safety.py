"""Attacks and errors: a clear refusal with the right status, and the server keeps running."""

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
def keeps_running(server: Server) -> Iterator[None]:
    """Check after each test that the server still responds."""
    yield
    assert server.request("GET", "/info/")[0] == 200


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("value", ["../secret", "/etc/hostname", "..%2F..%2Fetc%2Fpasswd", "C:\\x"])
def test_files_outside_are_not_read(server: Server, value: str) -> None:
    for path in (f"/datastore/image?image={quote(value)}", f"/datastore/label?label={quote(value)}&tag=final"):
        assert server.request("GET", path)[0] in (400, 404)
    assert server.infer("lumbar_spine", f"image={quote(value)}")[0] in (400, 404)


@pytest.mark.parametrize("key", ["image", "session", "model", "save_label", "label_tag"])
def test_params_do_not_override_the_address(server: Server, key: str) -> None:
    status, body = server.infer("lumbar_spine", "image=RAS", {key: "/etc/hostname"})
    assert status == 400 and repr(key) in body["detail"]


@pytest.mark.parametrize("params", ["[1]", "{", '"x"'])
def test_params_must_be_an_object(server: Server, params: str) -> None:
    body, kind = form({"params": params})
    assert server.request("POST", "/infer/lumbar_spine?image=RAS", body, kind)[0] == 400


@pytest.mark.parametrize("query", ["image=..%2Fevil", "image=%2Ftmp%2Fevil", "image=.hidden", "image=a%0Ab"])
def test_uploads_stay_in_the_folder(server: Server, query: str) -> None:
    before = names(server.studies.parent)
    body, kind = form({}, {"file": server.studies / "RAS.nii.gz"})
    assert server.request("PUT", f"/datastore/image?{query}", body, kind)[0] == 400
    assert names(server.studies.parent) == before


def test_tags_stay_in_the_folder_and_original_is_reserved(server: Server, tmp_path: Path) -> None:
    image = read_image(server.studies / "RAS.nii.gz")
    write_labels(Volume(np.zeros(image.array.shape, np.uint8), image.affine), tmp_path / "label.nii.gz")
    body, kind = form({}, {"label": tmp_path / "label.nii.gz"})
    before = names(server.studies.parent)
    assert server.request("PUT", "/datastore/label?image=RAS&tag=..%2F..%2Fx", body, kind)[0] == 400
    assert server.request("PUT", "/datastore/label?image=RAS&tag=original", body, kind)[0] == 403
    assert names(server.studies.parent) == before


def test_upload_must_be_a_new_exam(server: Server, tmp_path: Path) -> None:
    (tmp_path / "noise.nii.gz").write_bytes(b"\x1f\x8b" + bytes(200))
    upload, kind = form({}, {"file": tmp_path / "noise.nii.gz"})
    status, body = server.request("PUT", "/datastore/image?image=noise", upload, kind)
    assert status == 422 and "noise" in body["detail"] and "/tmp" not in body["detail"]
    (tmp_path / "run.sh").write_text("echo")
    body, kind = form({}, {"file": tmp_path / "run.sh"})
    assert server.request("PUT", "/datastore/image?image=noise", body, kind)[0] == 415
    assert not list(server.studies.glob("noise*"))
    image = read_image(server.studies / "RAS.nii.gz")
    write_image(Volume(image.array[::-1], image.affine), tmp_path / "RAS.nii.gz")
    body, kind = form({}, {"file": tmp_path / "RAS.nii.gz"})
    status, body = server.request("PUT", "/datastore/image?image=RAS", body, kind)
    assert status == 409 and "another exam 'RAS'" in body["detail"]
    assert np.array_equal(read_image(server.studies / "RAS.nii.gz").array, image.array)


def test_invalid_labels_are_refused(server: Server, tmp_path: Path) -> None:
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
        status, body = server.request("PUT", "/datastore/label?image=RAS", body, kind)
        assert status == 422 and reason in body["detail"]
    assert not (server.studies / "labels" / "final" / "RAS.nii.gz").exists()


def test_exam_without_spine_or_missing_exam_is_an_error(server: Server) -> None:
    status, body = server.infer("lumbar_spine", "image=water%20bottle")
    assert status == 422 and "no lumbar spine" in body["detail"]
    status, body = server.infer("lumbar_spine", "image=nobody")
    assert status == 404 and "'nobody'" in body["detail"]
    add_exam(server, "removed").unlink()
    assert server.infer("lumbar_spine", "image=removed")[0] == 404


def add_exam(server: Server, name: str) -> Path:
    """Add an exam to the folder and wait until the server lists it; it is written under another name first."""
    path, part = server.studies / f"{name}.nii.gz", server.studies / f"{name}.part"
    part.write_bytes((server.studies / "RAS.nii.gz").read_bytes())
    part.rename(path)
    end = time.monotonic() + 30
    while server.request("HEAD", f"/datastore/image?image={quote(name)}")[0] != 200:
        assert time.monotonic() < end, "the server does not list a new exam"
        time.sleep(0.1)
    return path


def test_exam_deleted_during_the_request_is_an_error(server: Server) -> None:
    paths = [add_exam(server, f"temporary {number}") for number in range(3)]
    with ThreadPoolExecutor(len(paths)) as pool:
        requests = [pool.submit(server.infer, "lumbar_spine", f"image={quote(path.name[:-7])}") for path in paths]
        time.sleep(0.3)  # one is being segmented, the others wait
        for path in paths:
            path.unlink()
        responses = [future.result() for future in requests]
    assert {status for status, _ in responses} <= {200, 404}
    assert all("removed" in body["detail"] for status, body in responses if status == 404)


def test_pickled_weights_and_damaged_models_are_refused(server: Server, tmp_path: Path) -> None:
    for name, status in (("model.pt", 415), ("model.onnx", 422)):
        (tmp_path / name).write_bytes(b"\x80\x04K\x01.")
        body, kind = form({}, {"file": tmp_path / name})
        assert server.request("PUT", "/model/lumbar_spine", body, kind)[0] == status
    assert server.infer("no_such_model", "image=RAS")[0] == 404
    assert not (server.app / "model" / "lumbar_spine.onnx").exists()


def test_invalid_clicks_are_refused(server: Server) -> None:
    status, body = server.infer("lumbar_deepedit", "image=RAS", {"L3": [[0, 0, 999]]})
    assert status == 422 and "outside the exam" in body["detail"]
    status, body = server.infer("lumbar_deepedit", "image=RAS", {"L3": [[5, 9, 9]], "L4": [[5, 9, 9]]})
    assert status == 422 and "contradict" in body["detail"]
    assert server.infer("lumbar_spine", "image=RAS", {"result_extension": ".exe"})[0] == 422


def test_foreign_origins_are_refused(server: Server) -> None:
    assert server.request("GET", "/info/", origin="http://evil.example")[0] == 403
    assert server.request("GET", "/info/", host="evil.example")[0] == 403


def test_archives_are_refused(server: Server) -> None:
    body, kind = form({}, {"files": server.studies / "RAS.nii.gz"})
    assert server.request("PUT", "/session/?uncompress=true", body, kind)[0] == 415


def test_token_is_required(server: Server, tmp_path: Path) -> None:
    from monailabel.client import MONAILabelClient

    token = "a-secret-of-two"
    with serving(server.studies, tmp_path / "app", token=token) as protected:
        client = MONAILabelClient(protected.url)
        assert client.auth_enabled()
        with pytest.raises(Exception, match="401"):
            client.info()
        client.update_auth(client.auth_token("anybody", token))
        assert client.auth_valid_token() and client.info()["name"] == "lumbarseg"


def test_port_in_use_is_an_error(server: Server, tmp_path: Path) -> None:
    port = server.url.rpartition(":")[2]
    arguments = ["serve", str(server.studies), "--app", str(tmp_path / "app"), "--port", port, "--env", sys.prefix]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(
        [sys.executable, "-m", "lumbarseg", *arguments], capture_output=True, text=True, env=variables
    )
    assert result.returncode == 1
    assert "address already in use; choose another port with --port" in result.stderr
