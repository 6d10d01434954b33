"""The rooms of the package, who may import whom, and where a heavy library lives. Late imports count too."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "lumbarseg"
FILES = sorted(SRC.rglob("*.py"))

# room: rooms it may import
ROOMS = {
    "errors": "",
    "anatomy": "errors",
    "terminology": "anatomy",
    "volume": "errors",
    "components": "volume",
    "cpus": "",
    "resampling": "errors volume",
    "clicks": "errors anatomy volume",
    "io": "components errors anatomy terminology volume",
    # axes in RAS order first: one exact reorientation in the package
    "measurement": "components anatomy volume resampling",
    "metrics": "components anatomy volume",
    "preprocessing": "errors anatomy volume resampling clicks",
    "phantom": "errors anatomy volume resampling",
    "inference": "cpus errors anatomy volume clicks preprocessing",
    "executors": "cpus errors io",
    "datasets": "components cpus errors anatomy volume io resampling",
    "segmentation": "components errors anatomy volume clicks preprocessing inference",
    "training": "components cpus errors anatomy volume resampling io clicks preprocessing metrics phantom "
    "datasets inference segmentation",
    "evaluation": "errors anatomy volume io resampling metrics inference datasets segmentation",
    "active_learning": "errors anatomy volume io resampling metrics preprocessing inference datasets "
    "segmentation training "
    "evaluation",
    # pictures are drawn from RAS order
    "report": "components errors anatomy volume resampling measurement segmentation",
    "batch": "cpus errors anatomy volume clicks io executors measurement metrics preprocessing inference "
    "datasets segmentation "
    "report terminology cli",
    "packaging": "errors anatomy io inference segmentation report",
    "server": "errors anatomy terminology volume resampling io clicks metrics inference datasets segmentation training "
    "active_learning",
    "cli": "cpus errors anatomy terminology volume resampling clicks io measurement metrics preprocessing "
    "phantom inference "
    "datasets segmentation training evaluation active_learning report packaging batch executors server",
    "__init__": "errors volume inference io",
    "__main__": "cli",
}
# library: rooms that may import it
HEAVY = {
    "torch": "training",
    "monai": "training",
    "onnx": "training",
    "tensorboard": "training",
    "onnxruntime": "inference",
    "openvino": "inference",
    "distributed": "executors",
    "monailabel": "server",
    "fastapi": "server",
    "uvicorn": "server",
    "nibabel": "io",
    "pydicom": "io",
    "highdicom": "io",
    "dicomweb_client": "io server",
    "nrrd": "io",
    "PIL": "report",
    "matplotlib": "",
    "SimpleITK": "",
    "requests": "",
    "urllib": "server",  # takes addresses apart
    "http": "",
    "socket": "",
    "pickle": "training",
}


def room_of(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imported(code: str, package: str) -> Iterator[str]:
    """Absolute names that `code`, a file of `package`, imports anywhere in it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def package_of(path: Path) -> str:
    return ".".join(("lumbarseg", *path.relative_to(SRC).parts[:-1]))


def faults(code: str, package: str, room: str) -> list[str]:
    """Imports of a file that its room may not make."""
    found = []
    for name in imported(code, package):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if top == "lumbarseg" and target in ROOMS and target not in {room, *ROOMS[room].split()}:
            found.append(f"{room} must not import {target}")
        if room not in HEAVY.get(top, room).split():
            found.append(f"{top} belongs to {HEAVY[top] or 'nobody'}, not to {room}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    room = room_of(path)
    assert room in ROOMS, f"{room} is a new room: give it a row in ROOMS, with a reason in the commit"
    assert faults(path.read_text(), package_of(path), room) == []


def test_late_and_relative_imports_are_checked_too() -> None:
    assert faults("def f():\n    import torch", "lumbarseg.segmentation", "segmentation") == [
        "torch belongs to training, not to segmentation"
    ]
    assert faults("from .. import training", "lumbarseg.inference", "inference") == [
        "inference must not import training"
    ]
    assert faults("from .training import trainer", "lumbarseg", "preprocessing") == [
        "preprocessing must not import training"
    ]
    assert faults("from . import model\nfrom ..preprocessing import Spec", "lumbarseg.inference", "inference") == []


def test_the_table_has_no_cycle_and_no_empty_room() -> None:
    graphlib.TopologicalSorter({room: allowed.split() for room, allowed in ROOMS.items()}).prepare()
    assert set(ROOMS) == {room_of(path) for path in FILES}
