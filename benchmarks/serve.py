"""MONAI Label with our app and with its stock `deepedit` app: python -m benchmarks.serve [--env DIR] [--clicks MODEL].

Both servers get HTTP requests for the same routine exam, in the same environment, one after the other; the stock app
with the untrained network that it starts with offline, because its time does not depend on its weights. Then errors are
injected into synthetic exams in four orientations and corrected by clicks with our app (`benchmarks.injected_errors`).
Prints seconds, Dice, and whether the same voxels changed; writes benchmarks/results/serve.json.
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
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.injected_errors import ERRORS, ORIENTATIONS, Row, Server, cpu_seconds, measure_clicks, picture, post
from benchmarks.speed import routine_phantom
from lumbarseg.batch.demo import synthetic_exam
from lumbarseg.io import write_image
from lumbarseg.server import environment
from lumbarseg.server.launcher import ServerOptions, running_server

RESULTS = Path(__file__).resolve().parent / "results" / "serve.json"
EXAM = "routine"
SEEDS = (30, 193, 227)  # of exams with the sacrum in view
_PATIENCE = 600.0
_ITK = """import SimpleITK
from SimpleITK import GetImageFromArray as image_from_array
size = lambda image: image.GetSize()
matrix_from_array = lambda matrix: matrix.flatten().tolist()
imwrite = SimpleITK.WriteImage
"""
"""What the stock app needs of ITK, which is 1.5 GB, by SimpleITK."""


@contextmanager
def start_monai_label(python: Path, studies: Path, home: Path) -> Iterator[str]:
    """Start the radiology app of MONAI Label with its model deepedit, as its documentation says."""
    (home / "itk.py").write_text(_ITK)
    stubs = Path(environment.__file__).parent / "stubs"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (home, stubs)))}
    variables |= {"MONAI_LABEL_TRACKING_ENABLED": "false", "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    apps = [str(python), "-m", "monailabel.main"]
    subprocess.run(
        [*apps, "apps", "--name", "radiology", "--download", "--output", str(home)],
        check=True, env=variables, capture_output=True,
    )  # fmt: skip
    arguments = ["start_server", "--app", str(home / "radiology"), "--studies", str(studies), "--host", "127.0.0.1"]
    arguments += ["--port", str(port), "--conf", "models", "deepedit", "--conf", "use_pretrained_model", "false"]
    with (home / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*apps, *arguments, "--conf", "scribbles", "false"], env=variables, stdout=log, stderr=log
        )
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server responds."""
    end = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{url}/info/", timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError("the stock server does not start")


@contextmanager
def start_lumbarseg(python: Path, folder: Path, studies: Path, app: Path) -> Iterator[Server]:
    """Start `lumbarseg serve`."""
    with running_server(ServerOptions(str(studies), app, port=0), python, folder) as server:
        yield Server(f"http://127.0.0.1:{server.wait_until_ready().port}", server.process.pid)


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, default=environment.default_folder(), help="MONAI Label's environment")
    parser.add_argument("--clicks", type=Path, help="a model that reads clicks")
    parser.add_argument("--without-stock", action="store_true", help="only ours")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="write a picture of each error there")
    parser.add_argument("--only-planted", action="store_true", help="other figures stay as they were measured")
    args = parser.parse_args()
    env = args.env.absolute()
    python = environment.ensure_installed(env, print)
    with tempfile.TemporaryDirectory() as folder_name:
        home = Path(folder_name)
        studies, app = home / "studies", home / "app"
        for folder in (studies, app / "model", home / "stock"):
            folder.mkdir(parents=True)
        write_image(routine_phantom(7).image, studies / f"{EXAM}.nii.gz")
        if args.clicks:
            (app / "model" / "lumbar_deepedit.onnx").write_bytes(args.clicks.read_bytes())
        result: dict[str, Any] = {"machine": machine.machine_facts(), "load": os.getloadavg()[0]}
        if args.only_planted:
            result = json.loads(RESULTS.read_text())
        elif not args.without_stock:
            with start_monai_label(python, studies, home / "stock") as url:
                result["stock first"], _ = post(f"{url}/infer/deepedit?image={EXAM}", {"spleen": [[7, 45, 20]]})
                result["stock again"], _ = post(f"{url}/infer/deepedit?image={EXAM}", {"spleen": [[7, 45, 20]]})
        with start_lumbarseg(python, env, studies, app) as server:
            if not args.only_planted:
                start_seconds = cpu_seconds(server.pid)
                result["first"], _ = post(f"{server.url}/infer/lumbar_spine?image={EXAM}", {})
                result["first work"] = round(cpu_seconds(server.pid) - start_seconds, 2)
            result["planted load"] = os.getloadavg()[0]
            result["planted"] = {kind: _errors(server, kind, studies, args.pictures) for kind in ERRORS}
    print_results(result)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


def _errors(server: Server, kind: str, studies: Path, pictures: Path | None) -> dict[str, Row]:
    """Correct one kind of error by clicks, by exam and orientation; write a picture of the first exam."""
    result: dict[str, Row] = {}
    for seed in SEEDS:
        error = ERRORS[kind](synthetic_exam(seed))
        rows = measure_clicks(server, error, studies, f"{kind} {seed}")
        first = rows[ORIENTATIONS[0]]
        same = {
            name: [bool((a == b).all()) for a, b in zip(row["answers"], first["answers"], strict=True)]
            for name, row in rows.items()
        }
        result[str(seed)] = {
            "clicks": first["clicks"],
            "same": same,
            **{name: {key: row[key] for key in ("dice", "slices", "seconds", "work")} for name, row in rows.items()},
        }
        if pictures and seed == SEEDS[0]:
            picture(error, first, pictures / f"annotate-{kind}.jpg")
    return result


def print_results(result: dict[str, Any]) -> None:
    """Print the result."""
    print(machine.describe_machine(result["machine"]), f"load {result['load']:.1f}")
    print(f"first automatic answer over HTTP: {result['first']:.2f} s, {result['first work']:.2f} of the processor")
    if "stock first" in result:
        print(f"the stock deepedit app: {result['stock first']:.2f} s, again {result['stock again']:.2f} s")
        ratios = [result[key] / result["first"] for key in ("stock first", "stock again")]
        print(f"times as fast: {ratios[0]:.1f}, again {ratios[1]:.1f}")
    print(f"planted errors, at a load of {result['planted load']:.1f}")
    for kind, exams in result["planted"].items():
        for seed, row in exams.items():
            first, clicks = row[ORIENTATIONS[0]], [float(v) for name in ORIENTATIONS for v in row[name]["seconds"][1:]]
            same = "the same voxels" if all(map(all, row["same"].values())) else f"the same voxels: {row['same']}"
            work_ = max(max(row[name]["work"][1:]) for name in ORIENTATIONS)
            print(f"{kind} {seed}: Dice after 0, 1, 2 clicks {first['dice']}; in four orientations {same}")
            print(f"  in each click's slice, before and after: {first['slices']}; clicks {row['clicks']}")
            print(
                f"  a click: median {np.median(clicks):.2f} s, at most {max(clicks):.2f}, {work_:.2f} of the processor"
            )


if __name__ == "__main__":
    sys.exit(main())
