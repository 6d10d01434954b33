"""OHIF, as included in MONAI Label, with our server: python -m benchmarks.ohif [--env DIR] [--shot FILE].

A phantom lies on a DICOMweb server (Orthanc); `lumbarseg serve` runs in front of it, and headless Chromium opens OHIF
from it, runs the automatic model, and sets a point. Prints whether every voxel in OHIF has the name that the server
gave it, and the result of the point; the exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.io.dicom.examples import with_frame_of_reference
from tests.io.make_dicom import T2, write_series
from tests.io.orthanc import put, running

from benchmarks.browser import chromium
from lumbarseg.anatomy import STRUCTURES
from lumbarseg.batch.demo import synthetic_exam
from lumbarseg.inference import Model, default_model_path
from lumbarseg.io import read_exam
from lumbarseg.packaging import npm_packages
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import segment
from lumbarseg.server import environment
from lumbarseg.server.launcher import ServerOptions, running_server
from lumbarseg.volume import Volume

SEED, LABEL = 193, "L3"


def write_study(folder: Path) -> Path:
    """Write the phantom as a scanner exports it."""
    image = reorient(synthetic_exam(SEED).image, "PIR")
    array = np.round(image.array - float(image.array.min())).astype(np.int16)
    write_series(folder, Volume(array, image.affine), with_frame_of_reference(T2))
    return folder


def inspect_ohif(url: str, home: Path, shot: Path) -> dict[str, Any]:
    """Return the state of OHIF and the requests to the server."""
    browser, node = chromium(), shutil.which("node")
    if browser is None or node is None:
        raise SystemExit("Chromium and Node.js drive OHIF, and one of them is not installed")
    plan = {
        "modules": str(npm_packages.ensure_node_modules(for_tests=True)),
        "chromium": browser,
        "url": url,
        "patient": "Somebody",
    }
    plan |= {"label": LABEL, "shot": str(shot), "out": str(home / "seen.json")}
    (home / "plan.json").write_text(json.dumps(plan))
    subprocess.run([node, str(Path(__file__).with_suffix(".mjs")), str(home / "plan.json")], check=True, timeout=900)
    return dict(json.loads((home / "seen.json").read_text()))


def compare_voxels(state: dict[str, Any], folder: Path) -> bool:
    """Print whether the voxels in OHIF are those of the exam and have the names of our segmentation."""
    volume = read_exam(folder).volume
    labels = segment(volume, Model.load(default_model_path())).labels.array
    same = np.array_equal(np.array(state["image"]["values"]), volume.array.ravel(order="F"))
    print(f"OHIF holds the exam's voxels in the exam's order: {same}")
    held = np.array(state["labels"]["values"], np.intp).reshape(labels.shape, order="F")
    values = {name: int(value) for value, name in state["names"].items()}
    rows = [
        (s.name, labels == s.label, held == values.get(s.name, -1)) for s in STRUCTURES if (labels == s.label).any()
    ]
    shown = [name for name, expected, shown_mask in rows if name in values and np.array_equal(expected, shown_mask)]
    wrong = [name for name, expected, shown_mask in rows if name in values and not np.array_equal(expected, shown_mask)]
    left = [name for name, *_ in rows if name not in values]
    print(f"every voxel with its name: {', '.join(shown)}")
    print(f"other voxels: {', '.join(wrong) or 'none'}; not offered by the model, so not shown: {', '.join(left)}")
    return same and not wrong


def main() -> int:
    """Start everything, inspect, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, default=environment.default_folder(), help="MONAI Label's environment")
    parser.add_argument("--shot", type=Path, default=Path("ohif.jpg"), help="the picture (default: %(default)s)")
    args = parser.parse_args()
    env = args.env.absolute()
    python = environment.ensure_installed(env, print)
    with tempfile.TemporaryDirectory() as folder_name:
        home = Path(folder_name)
        folder = write_study(home / "study")
        with running(home / "orthanc") as pacs:
            put(pacs, sorted(folder.iterdir()))
            with running_server(ServerOptions(pacs, home / "app", port=0), python, env) as server:
                port = server.wait_until_ready().port
                state = inspect_ohif(f"http://127.0.0.1:{port}", home, args.shot.absolute())
        right = compare_voxels(state, folder)
    point = state["clickResult"]
    print(f"a point on {LABEL}: status {point['status']}, sent {point['params'].get(LABEL)}")
    print("errors of the page:", "; ".join(state["messages"]) or "nothing")
    return 0 if right and point["status"] == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
