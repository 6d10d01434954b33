"""What a result was made from, kept in its report, so that a batch that is run again does only what is left.

Everything is compared by content: the exam's bytes, the model's digest, the options, and the files of the result.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumbarseg.io.file_access import open_for_reading

REPORT_KEY = "record"
"""The entry of a report that holds the record."""
_HEADERS = (".mhd", ".nhdr")
_DETACHED = re.compile(rb"(?im)^\s*(?:ElementDataFile\s*=|data ?file\s*:)\s*(\S.*?)\s*$")


@dataclass(frozen=True)
class ResultRecord:
    """What a result was made from, and what was written.

    Attributes
    ----------
    exam, model, options : SHA-256 of what went in
    program : its version
    files : SHA-256 of each file of the result but the report, by what it is
    run : identifies the batch that made it
    """

    exam: str
    model: str
    options: str
    program: str
    files: dict[str, str]
    run: str

    @classmethod
    def from_dict(cls, values: Any) -> ResultRecord | None:
        """Return the record that was written to a report; None for anything else."""
        try:
            keys = ("exam", "model", "options", "program", "run")
            exam, model, options, program, run = (str(values[key]) for key in keys)
            files = {str(name): str(digest) for name, digest in values["files"].items()}
            return cls(exam, model, options, program, files, run)
        except (KeyError, TypeError, AttributeError):
            return None

    def matches(self, exam: str, model: str, options: str, program: str) -> bool:
        """Return whether the same result would be made again."""
        return (self.exam, self.model, self.options, self.program) == (exam, model, options, program)

    def missing_files(self, files: Mapping[str, Path]) -> list[Path]:
        """Return the files of the result that are gone."""
        return [path for name, path in files.items() if name in self.files and not path.is_file()]

    def modified_files(self, files: Mapping[str, Path]) -> list[Path]:
        """Return the files of the result whose content is no longer what was written."""
        recorded = [(path, self.files[name]) for name, path in files.items() if name in self.files and path.is_file()]
        return [path for path, digest in recorded if content_digest(path) != digest]


def read_report(path: Path) -> tuple[dict[str, Any], ResultRecord] | None:
    """Return a report and its record; None where there is no such report, or one without a record."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    record = ResultRecord.from_dict(report.get(REPORT_KEY)) if isinstance(report, dict) else None
    return (report, record) if record else None


def values_digest(values: Any) -> str:
    """Return the SHA-256 of plain values; what JSON does not know counts as its text."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def content_digest(path: Path) -> str | None:
    """Return the SHA-256 of what an exam is read from; None where that is unknown, FileError when it cannot be read.

    This is a file, with the voxels that a header names beside it, or all files of a folder, or the ZIP that it is in.
    """
    if path.is_dir():
        return _digest_files(path, sorted(_files_below(path)))
    if not path.is_file():
        archive = next((parent for parent in path.parents if parent.is_file()), None)
        return values_digest([_digest_file(archive), path.relative_to(archive).as_posix()]) if archive else None
    if path.suffix.lower() not in _HEADERS:
        return _digest_file(path)
    beside = _detached_data_files(path)
    return None if beside is None else _digest_files(path.parent, [path, *beside])


def _digest_file(path: Path) -> str:
    with open_for_reading(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # any binary stream will do


def _digest_files(folder: Path, paths: Iterable[Path]) -> str:
    """Return the SHA-256 of several files and their names."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{_digest_file(path)}\n".encode())
    return digest.hexdigest()


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names if (Path(parent) / name).is_file())


def _detached_data_files(header: Path) -> list[Path] | None:
    """Return the files of voxels that a header names; None where it names a list, a pattern or a file elsewhere."""
    with open_for_reading(header) as stream:
        data_names = [match.decode("utf-8", "replace") for match in _DETACHED.findall(stream.read(1_000_000))]
    files = [header.parent / name for name in data_names if name.upper() != "LOCAL"]
    return files if all(path.is_file() and path.parent == header.parent for path in files) else None
