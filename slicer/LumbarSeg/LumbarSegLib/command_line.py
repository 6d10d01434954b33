"""Run `lumbarseg segment` for the module and read its results; imports nothing of 3D Slicer.

It parses with Python 3.9, so that an older Slicer can report that it is too old.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MIN_PYTHON = (3, 11)
"""Oldest Python version that lumbarseg supports; 3D Slicer has 3.12 since version 5.10."""
POSTERIOR_ELEMENTS = {
    "separate": (),
    "with vertebra": ("--posterior-elements", "merge"),
    "omitted": ("--posterior-elements", "omit"),
}
"""Options of the command for each choice: segments of their own, part of their vertebra, or omitted."""
AUTOMATIC = "from the sacrum"
LOWEST_LEVELS = (AUTOMATIC, "T12", "L1", "L2", "L3", "L4", "L5", "L6")
"""Choices for the lowest complete vertebra."""
COLUMNS = ("structure", "volume ml", "height front mm", "height middle mm", "height back mm", "confidence", "review")

_MEASUREMENT_KEYS = ("volume_ml", "anterior_mm", "middle_mm", "posterior_mm")
_ERROR_PREFIX = "lumbarseg: error: "
_SUCCESS_CODES = (0, 3)  # 3: done, with warnings
_NAME = "exam"


class CommandError(Exception):
    """lumbarseg could not be installed or run; the message is one line."""


class Process(Protocol):
    """A running program, as `subprocess.Popen` and Slicer's launchConsoleProcess return it."""

    stdout: Any

    def wait(self) -> int:
        """Wait for its end; return its exit code."""

    def kill(self) -> None:
        """Stop it."""


@dataclass(frozen=True)
class Options:
    """Choices of the user. lowest: one of LOWEST_LEVELS; posterior_elements: key of POSTERIOR_ELEMENTS.

    model: a model file, "" for the bundled one.
    """

    lowest: str = AUTOMATIC
    posterior_elements: str = "separate"
    model: str = ""


@dataclass(frozen=True)
class Result:
    """Result of the command. segmentation: a .seg.nrrd file; rows: of the table COLUMNS; warnings: what to review."""

    segmentation: Path
    picture: Path
    rows: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]
    summary: str


def python_version_problem(version: Sequence[int]) -> str:
    """Return why lumbarseg does not run on a Python version, "" if it does."""
    if tuple(version[:2]) >= MIN_PYTHON:
        return ""
    version_text, needed = (".".join(str(part) for part in v[:2]) for v in (version, MIN_PYTHON))
    return f"this 3D Slicer has Python {version_text} and lumbarseg needs {needed}: use 3D Slicer 5.10 or newer"


def package_source(path: str, module: Path) -> str:
    """Return what pip installs: the chosen file or folder, else the source tree that contains the module."""
    if path.strip():
        source = Path(path.strip()).expanduser()
        if not (source.is_dir() or (source.is_file() and source.suffix in (".whl", ".gz", ".zip"))):
            raise CommandError(f"{source}: neither a wheel nor a folder; choose lumbarseg-....whl or the source tree")
        return str(source)
    for folder in module.resolve().parents:
        if (folder / "pyproject.toml").is_file() and (folder / "src" / "lumbarseg").is_dir():
            return str(folder)
    raise CommandError("choose a wheel of lumbarseg: this module is not in a source tree")


def build_command(program: Sequence[str], folder: Path, options: Options) -> list[str]:
    """Return the command that segments the exam of `folder`; program: how lumbarseg is started."""
    command = [*program, "segment", str(exam_path(folder)), "-o", str(folder / "output"), "--format", "seg-nrrd"]
    if options.lowest != AUTOMATIC:
        command += ["--lowest", options.lowest]
    if options.model.strip():
        command += ["--model", options.model.strip()]
    return [*command, *POSTERIOR_ELEMENTS[options.posterior_elements]]


def exam_path(folder: Path) -> Path:
    """Return the path where the volume is written for the command."""
    return folder / f"{_NAME}.nrrd"


def wait_for_process(
    process: Process, log: Callable[[str], None], is_cancelled: Callable[[], bool] = lambda: False
) -> list[str]:
    """Log and return the lines that a program prints; CommandError with its own message when it fails."""
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        log(lines[-1])
        if is_cancelled():
            process.kill()
            process.wait()
            raise CommandError("cancelled")
    code = process.wait()
    if code not in _SUCCESS_CODES:
        printed = [line for line in lines if line.strip()]
        errors = [line.partition(_ERROR_PREFIX)[2] for line in printed if line.startswith(_ERROR_PREFIX)]
        reasons = [*errors, *printed[-1:], f"lumbarseg ended with code {code}; see Slicer's log"]
        raise CommandError(reasons[0])
    return lines


def read_result(folder: Path) -> Result:
    """Read the results for the exam of `folder`; CommandError when a file is missing."""
    files = [folder / "output" / f"{_NAME}{suffix}" for suffix in (".seg.nrrd", ".png", "_report.json")]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise CommandError(f"lumbarseg wrote no {missing[0]}; does its version match this module?")
    report = json.loads(files[2].read_text(encoding="utf-8"))
    names = " ".join(f"{level['name']}{'?' if level['uncertain'] else ''}" for level in report["levels"])
    summary = f"{names}; counted from: {report['anchor']}; confidence {report['confidence']:.2f}"
    return Result(files[0], files[1], table_rows(report), tuple(report["warnings"]), summary)


def table_rows(report: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the measurements of a report as rows of the table COLUMNS, from head to foot."""
    levels = {level["name"]: level for level in report["levels"]}
    return tuple(_table_row(row, levels.get(row["name"])) for row in report["measurements"])


def _table_row(measurement: Mapping[str, Any], level: Mapping[str, Any] | None) -> tuple[str, ...]:
    numbers = [f"{measurement[key]:.1f}" if measurement.get(key) is not None else "" for key in _MEASUREMENT_KEYS]
    review = [] if measurement.get("complete", True) else ["cut by the edge"]
    review += ["name uncertain"] if level and level["uncertain"] else []
    confidence = f"{level['confidence']:.2f}" if level else ""
    return (measurement["name"], *numbers, confidence, ", ".join(review))
