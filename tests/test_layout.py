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
    "resample": "errors volume",
    "clicks": "errors anatomy volume",
    "files": "errors anatomy terminology volume",
    "measure": "anatomy volume resample",  # axes in RAS order first: one exact reorientation in the package
    "score": "anatomy volume",
    "prepare": "errors anatomy volume resample clicks",
    "phantom": "errors anatomy volume resample",
    "model": "errors anatomy volume clicks prepare",
    "datasets": "errors anatomy volume files resample",
    "segment": "errors anatomy volume clicks prepare model",
    "train": "errors anatomy volume resample files clicks prepare score phantom datasets model segment",  # as used
    "evaluate": "errors anatomy volume files resample score model datasets segment",  # anybody's answers, judged
    "pseudo": "errors anatomy volume files resample score prepare model datasets segment",  # labels of models
    "learn": "errors anatomy volume files resample score model datasets segment train evaluate pseudo",  # the loop
    "report": "errors anatomy volume resample measure segment",  # pictures are drawn from RAS order
    "batch": "errors files",  # many pieces of work of any kind; what is done with an exam, cli says
    "deploy": "errors anatomy files model segment report",  # a leaf: packs and pages for computers without network
    "serve": "errors anatomy terminology volume resample files clicks score model datasets segment train learn",  # late
    "cli": "errors anatomy terminology volume resample clicks files measure score prepare phantom model datasets "
    "segment train evaluate pseudo learn report deploy batch serve",
    "__init__": "errors volume model files",
    "__main__": "cli",
}
# library: rooms that may import it
HEAVY = {
    "torch": "train",
    "monai": "train",
    "onnx": "train",
    "tensorboard": "train",
    "onnxruntime": "model",
    "openvino": "model",
    "distributed": "batch",
    "monailabel": "serve",
    "fastapi": "serve",
    "uvicorn": "serve",
    "nibabel": "files",
    "pydicom": "files",
    "highdicom": "files",
    "dicomweb_client": "files serve",
    "nrrd": "files",
    "PIL": "report",
    "matplotlib": "",
    "SimpleITK": "",
    "requests": "",
    "urllib": "serve",  # takes addresses apart
    "http": "",
    "socket": "",
    "pickle": "train",
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


def test_the_judge_sees_late_and_relative_imports() -> None:
    assert faults("def f():\n    import torch", "lumbarseg.segment", "segment") == [
        "torch belongs to train, not to segment"
    ]
    assert faults("from .. import train", "lumbarseg.model", "model") == ["model must not import train"]
    assert faults("from .train import loop", "lumbarseg", "prepare") == ["prepare must not import train"]
    assert faults("from . import run\nfrom ..prepare import Spec", "lumbarseg.model", "model") == []


def test_the_table_has_no_cycle_and_no_empty_room() -> None:
    graphlib.TopologicalSorter({room: allowed.split() for room, allowed in ROOMS.items()}).prepare()
    assert set(ROOMS) == {room_of(path) for path in FILES}
