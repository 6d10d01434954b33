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

from lumbarseg.io.file_access import open_for_reading

REPORT_KEY = "record"
"""The entry of a report that holds the record."""
_BLOCK_BYTES = 2**20  # bytes
_HEADERS = (".mhd", ".nhdr")
_DETACHED = re.compile(rb"(?im)^\s*(?:ElementDataFile\s*=|data ?file\s*:)\s*(\S.*?)\s*$")


@dataclass(frozen=True)
class Provenance:
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
    def from_dict(cls, values: Any) -> Provenance | None:
        """The inverse of `to_dict`; None for what is no record."""
        try:
            exam, model, wish, program, run = (str(values[key]) for key in ("exam", "model", "wish", "program", "run"))
            files = {str(name): str(digest) for name, digest in values["files"].items()}
            warnings, left_out = (tuple(map(str, values[key])) for key in ("warnings", "left_out"))
            return cls(exam, model, wish, program, files, warnings, left_out, run)
        except (KeyError, TypeError, AttributeError):
            return None

    def matches(self, exam: str, model: str, wish: str, program: str) -> bool:
        """Whether the answer would be the same again."""
        return (self.exam, self.model, self.wish, self.program) == (exam, model, wish, program)


def read_provenance(report: Path) -> tuple[dict[str, Any], Provenance] | None:
    """A report and its record; None where there is no such report, or one without a record."""
    try:
        facts = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    record = Provenance.from_dict(facts.get(REPORT_KEY)) if isinstance(facts, dict) else None
    return (facts, record) if record else None


def missing_and_modified(provenance: Provenance, files: Mapping[str, Path]) -> tuple[list[Path], list[Path]]:
    """Of an answer's files those that are gone, and those whose content is no longer what was written."""
    known = {name: path for name, path in files.items() if name in provenance.files}
    gone = [path for path in known.values() if not path.is_file()]
    other = [
        path for name, path in known.items() if path not in gone and content_digest(path) != provenance.files[name]
    ]
    return gone, other


def values_digest(values: Any) -> str:
    """SHA-256 of plain values; what JSON does not know counts as its text."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def content_digest(path: Path) -> str | None:
    """SHA-256 of what an exam is read from: a file, with the voxels that a header names beside it, or every file of a
    folder and below, or the ZIP that it lies in. None where that cannot be told; FileError when it cannot be read.
    """
    if path.is_dir():
        return _digest_files(path, sorted(_files_below(path)))
    if not path.is_file():
        archive = next((place for place in path.parents if place.is_file()), None)
        return values_digest([_digest_file(archive), path.relative_to(archive).as_posix()]) if archive else None
    if path.suffix.lower() not in _HEADERS:
        return _digest_file(path)
    beside = _detached_data_files(path)
    return None if beside is None else _digest_files(path.parent, [path, *beside])


def _digest_file(path: Path) -> str:
    whole = hashlib.sha256()
    with open_for_reading(path) as stream:
        while block := stream.read(_BLOCK_BYTES):
            whole.update(block)
    return whole.hexdigest()


def _digest_files(folder: Path, paths: Iterable[Path]) -> str:
    """Of several files and their names."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(f"{path.relative_to(folder).as_posix()}\0{_digest_file(path)}\n".encode())
    return whole.hexdigest()


def _files_below(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        yield from (Path(place) / name for name in names if (Path(place) / name).is_file())


def _detached_data_files(header: Path) -> list[Path] | None:
    """Files of voxels that a header names; None where it names a list, a pattern or a file elsewhere."""
    with open_for_reading(header) as stream:
        named = [match.decode("utf-8", "replace") for match in _DETACHED.findall(stream.read(1_000_000))]
    files = [header.parent / name for name in named if name.upper() != "LOCAL"]
    return files if all(path.is_file() and path.parent == header.parent for path in files) else None
