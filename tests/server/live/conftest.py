"""A real server process on loopback, in MONAI Label's environment: `make test-serve` runs these tests there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.live import click_model

from lumbarseg.batch.demo import synthetic_exam
from lumbarseg.io import write_image
from lumbarseg.phantom import Phantom
from lumbarseg.resampling import reorient
from lumbarseg.server import environment
from lumbarseg.volume import Volume

ROOT = Path(__file__).resolve().parents[3]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests in any other environment."""
    if environment.is_complete(Path(sys.prefix)):
        return
    reason = pytest.mark.skip(reason="needs MONAI Label's environment: make test-serve")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(reason)


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[str]
    url: str
    studies: Path
    app: Path
    token: str = ""

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json", **headers: str) -> Any:
        """Send a request; return status and body, JSON or bytes."""
        all_headers = {
            "content-type": kind,
            **({"authorization": f"Bearer {self.token}"} if self.token else {}),
            **headers,
        }
        request = urllib.request.Request(self.url + path, body or None, all_headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                status, data = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, data = error.code, error.read()
        with suppress(ValueError):
            return status, json.loads(data)
        return status, data

    def infer(self, model: str, query: str, params: dict[str, Any] | None = None) -> Any:
        """Segment as a client does."""
        body, kind = form({"params": json.dumps(params or {})})
        return self.request("POST", f"/infer/{model}?{query}", body, kind)


def form(fields: dict[str, str], files: dict[str, Path] | None = None) -> tuple[bytes, str]:
    """Return a multipart body as 3D Slicer's plug-in makes it: fixed boundary, complete paths as file names."""
    limit, lines = "----------lImIt_of_THE_fIle_eW_$", []
    for key, value in fields.items():
        lines += [f"--{limit}", f'Content-Disposition: form-data; name="{key}"', "", value]
    for key, path in (files or {}).items():
        lines += [f"--{limit}", f'Content-Disposition: form-data; name="{key}"; filename="{path}"']
        lines += ["Content-Type: application/octet-stream", "", path.read_bytes()]
    lines += [f"--{limit}--", ""]
    body = b"\r\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\r\n"
    return body, f"multipart/form-data; boundary={limit}"


@contextmanager
def serving(studies: Path | str, app: Path, *arguments: str, token: str = "") -> Iterator[Server]:
    """Run `lumbarseg serve` until the block ends."""
    command = [sys.executable, "-m", "lumbarseg", "serve", str(studies), "--app", str(app), "--port", "0"]
    command += ["--env", sys.prefix, *arguments, *(["--token", token] if token else [])]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    assert process.stdout and process.stderr
    try:
        for line in process.stdout:
            if line.startswith("ready at "):
                yield Server(process, line.split()[2], Path(studies), app, token)
                break
        else:
            pytest.fail(f"the server did not start: {process.stderr.read()}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()
        process.stderr.close()


def wait_for_task(server: Server, path: str, timeout: float = 400.0) -> dict[str, Any]:
    """Wait for the end of a task of the server; return its state."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        status, task = server.request("GET", path)
        if status == 200 and task["status"] not in ("SUBMITTED", "RUNNING"):
            return dict(task)
        time.sleep(0.5)
    raise AssertionError(f"{path} did not finish")


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A synthetic exam with its labels."""
    return synthetic_exam(193)


@pytest.fixture(scope="session")
def oriented(phantom: Phantom) -> dict[str, Volume]:
    """The same exam with other axis orders, and rotated."""
    reoriented = {name: reorient(phantom.image, name) for name in ("RAS", "LPS", "SRA")}
    return {**reoriented, "oblique": Volume(phantom.image.array, rotation() @ phantom.image.affine)}


def rotation() -> np.ndarray:
    """Return a rotation by ten degrees about the feet-head axis."""
    angle = np.deg2rad(10)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory, oriented: dict[str, Volume]) -> Path:
    """A folder of exams, with blanks in its name."""
    folder = tmp_path_factory.mktemp("the studies") / "exams of june"
    folder.mkdir()
    for name, volume in oriented.items():
        write_image(volume, folder / f"{name}.nii.gz")
    shutil.copy(folder / "RAS.nii.gz", folder / "spare.nii.gz")
    write_image(Volume(bottle(), np.diag([4.0, 1.0, 1.0, 1.0])), folder / "water bottle.nii.gz")
    return folder


def bottle() -> np.ndarray:
    """Return a bright cylinder in noise."""
    noise = np.random.default_rng(1).normal(20, 4, (15, 128, 128)).astype(np.float32)
    radius = np.hypot(*np.meshgrid(np.arange(15) * 4.0 - 28, np.arange(128) - 64.0, indexing="ij"))
    noise[radius < 25] += 200
    return noise


@pytest.fixture(scope="session")
def server(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of most tests, with a model that follows every click."""
    app = tmp_path_factory.mktemp("the app")
    (app / "model").mkdir()
    click_model.write(app / "model" / "lumbar_deepedit.onnx")
    with serving(studies, app) as running:
        yield running
