"""What an answer was made from, kept in its report, so that a batch which is begun again does only what is left.

Everything is compared by content: the exam's bytes, the model's digest, the wish, and the files of the answer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lumbarseg.files.disk import reading

KEY = "record"
"""The entry of a report that holds the record."""
_BLOCK = 2**20  # bytes
_HEADERS = (".mhd", ".nhdr")
_DETACHED = re.compile(rb"(?im)^\s*(?:ElementDataFile\s*=|data ?file\s*:)\s*(\S.*?)\s*$")


@dataclass(frozen=True)
class Record:
    """exam, model, wish: SHA-256 of what went in; program: its version; files: SHA-256 of each file of the answer but
    the report, by what it is; warnings, left_out: what a person was told; run: the call that made it.
    """

    exam: str
    model: str
    wish: str
    program: str
    files: dict[str, str]
    warnings: tuple[str, ...]
    left_out: tuple[str, ...]
    run: str

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Record | None:
        """The inverse of `to_dict`; None for what is no record."""
        try:
            exam, model, wish, program, run = (str(values[key]) for key in ("exam", "model", "wish", "program", "run"))
            files = {str(name): str(digest) for name, digest in values["files"].items()}
            warnings, left_out = (tuple(map(str, values[key])) for key in ("warnings", "left_out"))
            return cls(exam, model, wish, program, files, warnings, left_out, run)
        except (KeyError, TypeError, AttributeError):
            return None

    def made_from(self, exam: str, model: str, wish: str, program: str) -> bool:
        """Whether the answer would be the same again."""
        return (self.exam, self.model, self.wish, self.program) == (exam, model, wish, program)


def read(report: Path) -> tuple[dict[str, Any], Record] | None:
    """A report and its record; None where there is no such report, or one without a record."""
    try:
        facts = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    record = Record.from_dict(facts.get(KEY)) if isinstance(facts, dict) else None
    return (facts, record) if record else None


def changed(record: Record, files: Mapping[str, Path]) -> tuple[list[Path], list[Path]]:
    """Of an answer's files those that are gone, and those whose content is no longer what was written."""
    known = {name: path for name, path in files.items() if name in record.files}
    gone = [path for path in known.values() if not path.is_file()]
    other = [path for name, path in known.items() if path not in gone and digest(path) != record.files[name]]
    return gone, other


def text_digest(values: Any) -> str:
    """SHA-256 of plain values; what JSON does not know counts as its text."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def digest(path: Path) -> str | None:
    """SHA-256 of what an exam is read from: a file, with the voxels that a header names beside it, or every file of a
    folder and below, or the ZIP that it lies in. None where that cannot be told; FileError when it cannot be read.
    """
    if path.is_dir():
        return _of(path, sorted(_below(path)))
    if not path.is_file():
        archive = next((place for place in path.parents if place.is_file()), None)
        return text_digest([_one(archive), path.relative_to(archive).as_posix()]) if archive else None
    if path.suffix.lower() not in _HEADERS:
        return _one(path)
    beside = _detached(path)
    return None if beside is None else _of(path.parent, [path, *beside])


def _one(path: Path) -> str:
    whole = hashlib.sha256()
    with reading(path) as stream:
        while block := stream.read(_BLOCK):
            whole.update(block)
    return whole.hexdigest()


def _of(folder: Path, paths: Iterable[Path]) -> str:
    """Of several files and their names."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.relative_to(folder).as_posix()}\0{_one(path)}\n".encode())
    return whole.hexdigest()


def _below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names if (Path(place) / name).is_file())


def _detached(header: Path) -> list[Path] | None:
    """Files of voxels that a header names; None where it names a list, a pattern or a file elsewhere."""
    with reading(header) as stream:
        named = [match.decode("utf-8", "replace") for match in _DETACHED.findall(stream.read(1_000_000))]
    files = [header.parent / name for name in named if name.upper() != "LOCAL"]
    return files if all(path.is_file() and path.parent == header.parent for path in files) else None
