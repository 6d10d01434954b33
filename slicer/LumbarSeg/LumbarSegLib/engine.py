"""The command `lumbarseg segment` as the module calls it, and what comes back; nothing of 3D Slicer is imported here.

Readable by Python 3.9, so that an older Slicer can say that it is too old.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

PYTHON = (3, 11)
"""The oldest Python that the core runs on; 3D Slicer has 3.12 from 5.10 on."""
PARTS = {"apart": (), "whole": ("--whole",), "bodies": ("--bodies",)}
"""Posterior elements: segments of their own, one with their vertebra, or left out."""
AUTOMATIC = "from the sacrum"
LOWEST = (AUTOMATIC, "T12", "L1", "L2", "L3", "L4", "L5", "L6")
"""What the lowest whole vertebra may be called."""
COLUMNS = ("structure", "volume ml", "height front mm", "height middle mm", "height back mm", "confidence", "look at")

_KEYS = ("volume_ml", "anterior_mm", "middle_mm", "posterior_mm")
_ERROR = "lumbarseg: error: "
_DONE = (0, 3)  # 3: done, with warnings that a person should look at
_STEM = "exam"


class EngineError(Exception):
    """The core could not be installed or gave no answer; one line for a person."""


class Process(Protocol):
    """A running program, as `subprocess.Popen` and Slicer's launchConsoleProcess give it."""

    stdout: Any

    def wait(self) -> int:
        """Its exit code, when it has ended."""

    def kill(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Wish:
    """What the user chose. lowest: of LOWEST; parts: of PARTS; model: a model file, "" for the shipped one."""

    lowest: str = AUTOMATIC
    parts: str = "apart"
    model: str = ""


@dataclass(frozen=True)
class Answer:
    """What came back. segmentation: a .seg.nrrd; rows: of the table COLUMNS; warnings: to be looked at."""

    segmentation: Path
    picture: Path
    rows: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]
    summary: str = field(default="")


def too_old(version: Sequence[int]) -> str:
    """Why the core does not run on a Python of this version, "" where it does."""
    if tuple(version[:2]) >= PYTHON:
        return ""
    has, needs = (".".join(str(part) for part in v[:2]) for v in (version, PYTHON))
    return f"this 3D Slicer has Python {has} and lumbarseg needs {needs}: use 3D Slicer 5.10 or newer"


def source(chosen: str, module: Path) -> str:
    """What pip installs: the file or folder that was chosen, else the repository in which the module lies."""
    if chosen.strip():
        path = Path(chosen.strip()).expanduser()
        if not (path.is_dir() or (path.is_file() and path.suffix in (".whl", ".gz", ".zip"))):
            raise EngineError(f"{path}: neither a wheel nor a folder; choose lumbarseg-....whl or the sources")
        return str(path)
    found = next((folder for folder in module.resolve().parents if _is_source(folder)), None)
    if found is None:
        raise EngineError("choose a wheel of lumbarseg: this module does not lie in the sources")
    return str(found)


def _is_source(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / "src" / "lumbarseg").is_dir()


def command(program: Sequence[str], folder: Path, wish: Wish) -> list[str]:
    """The call that answers the exam of `folder`; program: how lumbarseg is started."""
    words = [*program, "segment", str(exam(folder)), "-o", str(folder / "answer"), "--format", "seg-nrrd"]
    if wish.lowest != AUTOMATIC:
        words += ["--lowest", wish.lowest]
    if wish.model.strip():
        words += ["--model", wish.model.strip()]
    return [*words, *PARTS[wish.parts]]


def exam(folder: Path) -> Path:
    """Where the volume is written for the core."""
    return folder / f"{_STEM}.nrrd"


def follow(process: Process, tell: Callable[[str], None], cancelled: Callable[[], bool] = lambda: False) -> list[str]:
    """The lines that a program prints, told as they come; EngineError with its own words where it fails."""
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        tell(lines[-1])
        if cancelled():
            process.kill()
            process.wait()
            raise EngineError("cancelled")
    code = process.wait()
    if code not in _DONE:
        raise EngineError(_reason(lines) or f"lumbarseg ended with code {code}; see Slicer's log")
    return lines


def _reason(lines: Iterable[str]) -> str:
    said = [line for line in lines if line.strip()]
    named = [line.partition(_ERROR)[2] for line in said if line.startswith(_ERROR)]
    return (named or said[-1:] or [""])[0]


def answer(folder: Path) -> Answer:
    """What the core left for the exam of `folder`; EngineError where something is missing."""
    place = folder / "answer"
    files = [place / f"{_STEM}{suffix}" for suffix in (".seg.nrrd", ".png", "_report.json")]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise EngineError(f"lumbarseg wrote no {missing[0]}; is it of the same version as this module?")
    report = json.loads(files[2].read_text(encoding="utf-8"))
    names = " ".join(f"{level['name']}{'?' if level['uncertain'] else ''}" for level in report["levels"])
    summary = f"{names}; counted from: {report['anchor']}; confidence {report['confidence']:.2f}"
    return Answer(files[0], files[1], rows(report), tuple(report["warnings"]), summary)


def rows(report: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The measurements of a report as the table COLUMNS, in the order of the report, from head to foot."""
    levels = {level["name"]: level for level in report["levels"]}
    return tuple(_row(measured, levels.get(measured["name"])) for measured in report["measurements"])


def _row(measured: Mapping[str, Any], level: Mapping[str, Any] | None) -> tuple[str, ...]:
    numbers = [f"{measured[key]:.1f}" if measured.get(key) is not None else "" for key in _KEYS]
    look = [] if measured.get("complete", True) else ["cut by the edge"]
    look += ["name uncertain"] if level and level["uncertain"] else []
    confidence = f"{level['confidence']:.2f}" if level else ""
    return (measured["name"], *numbers, confidence, ", ".join(look))
