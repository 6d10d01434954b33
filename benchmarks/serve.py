"""MONAI Label with our app beside its stock `deepedit` app: python -m benchmarks.serve [--env DIR] [--clicks MODEL].

Both servers are asked over HTTP for the same routine exam, in the same environment, one after the other; the stock app
with the untrained network that it starts with offline, for its time does not depend on its weights. Then an error is
planted in four orientations of an exam, the front half of L3 being made bright, and clicked away in ours. Prints
seconds, how much of that half is right, and whether the same voxels changed; writes benchmarks/results/serve.json.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import by_name
from lumbarseg.cli.demo import exam
from lumbarseg.files import read_labels, write_image
from lumbarseg.phantom import Phantom
from lumbarseg.resample import reorient
from lumbarseg.serve import environment
from lumbarseg.serve.server import Plan, begun
from lumbarseg.volume import Array, Volume

from . import machine
from .speed import routine

RESULTS = Path(__file__).resolve().parent / "results" / "serve.json"
EXAM, LEVEL = "routine", "L3"
ORIENTATIONS = ("RAS", "LPS", "SRA", "oblique")
Row = dict[str, Any]
_PATIENCE = 600.0
_SEED = 193
_ITK = """import SimpleITK
from SimpleITK import GetImageFromArray as image_from_array
size = lambda image: image.GetSize()
matrix_from_array = lambda matrix: matrix.flatten().tolist()
imwrite = SimpleITK.WriteImage
"""
"""What the stock app needs of ITK, which is 1.5 GB, by SimpleITK."""


@dataclass(frozen=True)
class Server:
    """Our server: its address and process."""

    url: str
    pid: int


def post(url: str, params: dict[str, Any]) -> tuple[float, bytes]:
    """Seconds and body of an inference request as 3D Slicer sends it."""
    limit = "lImIt"
    text = json.dumps({**params, "result_extension": ".nrrd", "result_dtype": "uint8"})
    body = f'--{limit}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{text}\r\n--{limit}--\r\n'.encode()
    request = urllib.request.Request(url, body, {"content-type": f"multipart/form-data; boundary={limit}"})
    start = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            return time.perf_counter() - start, response.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url}: {error.code}: {error.read()[:300]!r}") from error


@contextmanager
def stock(python: Path, studies: Path, home: Path) -> Iterator[str]:
    """The radiology app of MONAI Label's wheel with its model deepedit, as its documentation starts it."""
    (home / "itk.py").write_text(_ITK)
    standins = Path(environment.__file__).parent / "standins"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (home, standins)))}
    variables |= {"MONAI_LABEL_TRACKING_ENABLED": "false", "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    apps = [str(python), "-m", "monailabel.main"]
    subprocess.run(
        [*apps, "apps", "--name", "radiology", "--download", "--output", str(home)],
        check=True, env=variables, capture_output=True,
    )  # fmt: skip
    words = ["start_server", "--app", str(home / "radiology"), "--studies", str(studies), "--host", "127.0.0.1"]
    words += ["--port", str(port), "--conf", "models", "deepedit", "--conf", "use_pretrained_model", "false"]
    with (home / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*apps, *words, "--conf", "scribbles", "false"], env=variables, stdout=log, stderr=log
        )
        try:
            answers(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def answers(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/info/", timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("the stock server does not start")


@contextmanager
def ours(python: Path, folder: Path, studies: Path, app: Path) -> Iterator[Server]:
    """`lumbarseg serve`."""
    with begun(Plan(str(studies), app, port=0), python, folder) as server:
        *_, ready = server.messages()
        yield Server(f"http://127.0.0.1:{ready['ready']}", server.process.pid)


def planted(phantom: Phantom) -> tuple[Volume, Array]:
    """An exam whose front half of one body is as bright as fat, in RAS order, and where that half is."""
    labels, image = (reorient(volume, "RAS") for volume in (phantom.labels, phantom.image))
    front = labels.array == by_name(LEVEL).label
    front[:, : int(np.median(np.argwhere(front)[:, 1]))] = False
    array = image.array.copy()
    array[ndimage.binary_dilation(front, np.ones((1, 3, 3)))] = np.percentile(array, 99)
    return Volume(array, image.affine), front


def oriented(image: Volume) -> dict[str, Volume]:
    """The same voxels in four orientations; the oblique one lies elsewhere in space."""
    turn, angle = np.eye(4), np.deg2rad(12)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    found = {name: reorient(image, name) for name in ORIENTATIONS[:3]}
    return {**found, "oblique": Volume(image.array, turn @ image.affine)}


def read(body: bytes, folder: Path) -> Volume:
    """The answer of our server in declared values."""
    head, rest = body.split(b"\r\n\r\n", 2)[1:]
    names = json.loads(head.split(b"\r\n")[0])["label_names"]
    path = folder / "answer.nrrd"
    path.write_bytes(rest.rpartition(b"\r\n--")[0])
    labels = read_labels(path)
    table = np.zeros(256, np.uint8)
    for name, place in names.items():
        table[place] = by_name(name).label
    return Volume(table[labels.array], labels.affine)


def worst(found: Array, front: Array, spacing: Any) -> list[int]:
    """A voxel deep inside the largest part of the half that was not found."""
    missed, _ = ndimage.label(front & (found != by_name(LEVEL).label))
    sizes = np.bincount(missed.ravel())[1:]
    depth = ndimage.distance_transform_edt(missed == 1 + sizes.argmax(), sampling=spacing)
    return [int(v) for v in np.unravel_index(depth.argmax(), depth.shape)]


def clicked(server: Server, name: str, image: Volume, front: Array, clicks: list[list[int]], folder: Path) -> Row:
    """An exam in some orientation after 0, 1 and 2 clicks: the share of the planted half that is right, seconds.

    clicks: voxels in RAS order, chosen with the first orientation and then kept; "answers" are in RAS order.
    """
    row: Row = {"share": [], "seconds": [], "work": [], "answers": []}
    canonical = reorient(Volume(np.zeros(image.array.shape, np.uint8), image.affine), "RAS").grid
    if name == "oblique":
        canonical = image.grid
    for count in range(3):
        if count > len(clicks):
            clicks.append(worst(row["answers"][-1], front, canonical.spacing))
        points = canonical.to_world(np.array(clicks[:count], float).reshape(-1, 3))
        voxels = np.rint(image.grid.to_index(points)).astype(int).tolist()
        before = work(server.pid)
        seconds, body = post(f"{server.url}/infer/lumbar_deepedit?image={name}", {LEVEL: voxels, "label": LEVEL})
        found = read(body, folder)
        answer = found.array if name == "oblique" else reorient(Volume(found.array, image.affine), "RAS").array
        row["share"].append(round(float((answer[front] == by_name(LEVEL).label).mean()), 3))
        row["seconds"].append(round(seconds, 2))
        row["work"].append(round(work(server.pid) - before, 2))
        row["answers"].append(answer)
    return row


def work(pid: int) -> float:
    """Processor seconds that a process has used, where the system tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, default=environment.place(), help="MONAI Label's environment")
    parser.add_argument("--clicks", type=Path, help="a model that reads clicks")
    parser.add_argument("--without-stock", action="store_true", help="only ours")
    args = parser.parse_args()
    env = args.env.absolute()
    python = environment.ready(env, print)
    image, front = planted(exam(_SEED))  # with the sacrum in view
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        studies, app = home / "studies", home / "app"
        for folder in (studies, app / "model", home / "stock"):
            folder.mkdir(parents=True)
        write_image(routine(7).image, studies / f"{EXAM}.nii.gz")
        exams = oriented(image)
        if args.clicks:
            (app / "model" / "lumbar_deepedit.onnx").write_bytes(args.clicks.read_bytes())
        told: dict[str, Any] = {"machine": machine.facts(), "load": os.getloadavg()[0]}
        if not args.without_stock:
            with stock(python, studies, home / "stock") as url:
                told["stock first"], _ = post(f"{url}/infer/deepedit?image={EXAM}", {"spleen": [[7, 45, 20]]})
                told["stock again"], _ = post(f"{url}/infer/deepedit?image={EXAM}", {"spleen": [[7, 45, 20]]})
        for name, turned in exams.items():
            write_image(turned, studies / f"{name}.nii.gz")
        with ours(python, env, studies, app) as server:
            begun_at = work(server.pid)
            told["first"], _ = post(f"{server.url}/infer/lumbar_spine?image={EXAM}", {})
            told["first work"] = round(work(server.pid) - begun_at, 2)
            clicks: list[list[int]] = []
            rows = {name: clicked(server, name, turned, front, clicks, home) for name, turned in exams.items()}
    told["same"] = {
        name: [bool((a == b).all()) for a, b in zip(row["answers"], rows["RAS"]["answers"], strict=True)]
        for name, row in rows.items()
    }
    told["clicks"] = {name: {key: row[key] for key in ("share", "seconds", "work")} for name, row in rows.items()}
    show(told)
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")


def show(told: dict[str, Any]) -> None:
    """The figures for a person."""
    print(machine.sentence(told["machine"]), f"load {told['load']:.1f}")
    print(f"first automatic answer over HTTP: {told['first']:.2f} s, {told['first work']:.2f} of the processor")
    if "stock first" in told:
        print(f"the stock deepedit app: {told['stock first']:.2f} s, again {told['stock again']:.2f} s")
        print(
            f"times as fast: {told['stock first'] / told['first']:.1f}, again {told['stock again'] / told['first']:.1f}"
        )
    for name, row in told["clicks"].items():
        shares, seconds, work_ = (" ".join(f"{value:g}" for value in row[key]) for key in ("share", "seconds", "work"))
        same = "same voxels as in RAS" if all(told["same"][name]) else f"same as in RAS: {told['same'][name]}"
        print(f"{name:8} right after 0, 1, 2 clicks: {shares}; seconds {seconds}; of the processor {work_}; {same}")


if __name__ == "__main__":
    sys.exit(main())
