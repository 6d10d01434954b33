"""OHIF, as MONAI Label's wheel carries it, against our server: python -m benchmarks.ohif [--env DIR] [--shot FILE].

A phantom lies on a DICOMweb server (Orthanc); `lumbarseg serve` stands before it, and headless Chromium opens OHIF from
it, runs the automatic model, and sets a point. Prints whether every voxel that OHIF then holds has the name that the
server gave it, and what became of the point; the exit code is 1 when anything differs.
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
    """The phantom as a scanner exports it."""
    image = reorient(synthetic_exam(SEED).image, "PIR")
    array = np.round(image.array - float(image.array.min())).astype(np.int16)
    write_series(folder, Volume(array, image.affine), with_frame_of_reference(T2))
    return folder


def inspect_ohif(url: str, home: Path, shot: Path) -> dict[str, Any]:
    """What OHIF held, and what was asked of the server."""
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


def compare_voxels(told: dict[str, Any], folder: Path) -> bool:
    """Print whether OHIF's voxels are the exam's and have the names of our own answer."""
    volume = read_exam(folder).volume
    found = segment(volume, Model.load(default_model_path())).labels.array
    same = np.array_equal(np.array(told["image"]["values"]), volume.array.ravel(order="F"))
    print(f"OHIF holds the exam's voxels in the exam's order: {same}")
    held = np.array(told["labels"]["values"], np.intp).reshape(found.shape, order="F")
    values = {name: int(value) for value, name in told["names"].items()}
    rows = [(s.name, found == s.label, held == values.get(s.name, -1)) for s in STRUCTURES if (found == s.label).any()]
    shown = [name for name, ours, theirs in rows if name in values and np.array_equal(ours, theirs)]
    wrong = [name for name, ours, theirs in rows if name in values and not np.array_equal(ours, theirs)]
    left = [name for name, *_ in rows if name not in values]
    print(f"every voxel with its name: {', '.join(shown)}")
    print(f"other voxels: {', '.join(wrong) or 'none'}; not offered by the model, so not shown: {', '.join(left)}")
    return same and not wrong


def main() -> int:
    """Start everything, look, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, default=environment.default_folder(), help="MONAI Label's environment")
    parser.add_argument("--shot", type=Path, default=Path("ohif.jpg"), help="the picture (default: %(default)s)")
    args = parser.parse_args()
    env = args.env.absolute()
    python = environment.ensure_installed(env, print)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        folder = write_study(home / "study")
        with running(home / "orthanc") as pacs:
            put(pacs, sorted(folder.iterdir()))
            with running_server(ServerOptions(pacs, home / "app", port=0), python, env) as server:
                port = server.wait_until_ready().port
                told = inspect_ohif(f"http://127.0.0.1:{port}", home, args.shot.absolute())
        right = compare_voxels(told, folder)
    print(f"a point on {LABEL}: status {told['clicked']['status']}, sent {told['clicked']['params'].get(LABEL)}")
    print("what the page complained of:", "; ".join(told["said"]) or "nothing")
    return 0 if right and told["clicked"]["status"] == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
