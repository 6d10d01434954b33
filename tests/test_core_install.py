"""A core install needs no torch and no network, and commands start without heavy libraries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

BLOCKED = """
import importlib.abc, socket, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "monai", "onnx", "tensorboard"):
            raise ImportError(f"{name} is blocked")

def refuse(*args, **kwargs):
    raise OSError("no network here")

class Refused(socket.socket):
    __init__ = refuse

sys.meta_path.insert(0, Blocked())
socket.socket = Refused
socket.create_connection = refuse
socket.getaddrinfo = refuse
from lumbarseg.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def python(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})


def test_demo_and_segment_run_without_torch_and_without_network(tmp_path: Path) -> None:
    demo = python(BLOCKED, "demo", "-o", tmp_path / "demo")
    assert demo.returncode in (0, 3), demo.stderr
    segmented = python(BLOCKED, "segment", tmp_path / "demo" / "demo.nii.gz", "-o", tmp_path / "out", "--json")
    assert segmented.returncode in (0, 3), segmented.stderr
    (exam,) = json.loads(segmented.stdout)["exams"]
    assert {Path(path).name for path in exam["files"].values()} == {
        "demo_labels.nii.gz",
        "demo_report.html",
        "demo_report.json",
        "demo_measurements.csv",
        "demo.png",
    }
    assert all(Path(path).stat().st_size > 0 for path in exam["files"].values())


@pytest.mark.parametrize(
    ("line", "message"),
    [("import torch", "torch is blocked"), ("socket.create_connection(('127.0.0.1', 9))", "no network here")],
)
def test_the_blocked_imports_fail(line: str, message: str) -> None:
    blocked = python(BLOCKED.replace("from lumbarseg", f"{line}\nfrom lumbarseg"), "--version")
    assert message in blocked.stderr
    direct = python(BLOCKED.replace("from lumbarseg", "socket.socket()\nfrom lumbarseg"), "--version")
    assert "no network here" in direct.stderr


@pytest.mark.parametrize(
    ("arguments", "banned"),
    [
        *(
            (arguments, {"numpy", "scipy", "nibabel", "pydicom", "onnxruntime", "torch", "monai", "PIL"})
            for arguments in (
                ["--help"],
                ["--version"],
                ["segmnet"],
                ["segment", "--help"],
                ["segment", "exam.nii.gz"],
                ["segment", "exam.nii.gz", "-o", "out", "--draw", "nothing"],
            )
        ),
        (["info"], {"onnxruntime", "torch", "monai", "pydicom", "scipy"}),
    ],
)
def test_commands_load_only_what_they_need(arguments: list[str], banned: set[str]) -> None:
    code = (
        "import sys\nfrom lumbarseg.cli.main import main\nmain(sys.argv[1:])\n"
        "print('loaded', *{name.partition('.')[0] for name in sys.modules})"
    )
    result = python(code, *arguments)
    loaded = set(result.stdout.splitlines()[-1].split())
    assert "lumbarseg" in loaded, result.stderr
    assert not loaded & banned
