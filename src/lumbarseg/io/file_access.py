"""Opening and replacing files, with one clear line when the system says no."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lumbarseg.errors import FileError

_REASONS = {
    errno.ENOENT: "not found; check the path",
    errno.EACCES: "no permission; change it, or work on a copy",
    errno.EPERM: "no permission; change it, or work on a copy",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; make room, or choose another folder",
    errno.EDQUOT: "the disk quota is used up; make room, or choose another folder",
    errno.EFBIG: "the file would be larger than the system allows; choose another folder",
    errno.EISDIR: "a folder, where a file is meant",
    errno.ENOTDIR: "part of the path is a file, not a folder; check the path",
    errno.EEXIST: "a file stands where a folder is meant; check the path",
    errno.ENAMETOOLONG: "the name is too long for the system; choose a shorter one",
}


def to_file_error(path: Path, error: OSError, verb: str = "read") -> FileError:
    """The system's refusal to read or write `path`, as one line that says what to do."""
    if error.errno == errno.ENOENT and verb == "read" and path.is_symlink():
        reason = "a link to a file that is not there"
    else:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
    return FileError(f"{path}: cannot be {verb}: {reason}")


@contextmanager
def open_for_reading(path: Path) -> Iterator[BinaryIO]:
    """`path`, also one in a ZIP, opened for reading, in binary; FileError when it cannot be opened or read."""
    try:
        with _open_binary(path) as stream:
            yield stream
    except OSError as error:
        raise to_file_error(path, error) from error


def _open_binary(path: Path) -> AbstractContextManager[BinaryIO]:
    try:
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        from . import archives

        if archives.locate_in_archive(path) is None:
            raise
        return archives.open_member(path)


def file_size(path: Path) -> int:
    """Bytes of a file, also of one in a ZIP."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        from . import archives

        inside = archives.member_size(path)
        if inside is None:
            raise
        return inside


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A new binary file that takes the place of `path` when the block ends well, and vanishes when it does not.

    It is written beside `path` under a name of its own, so two writers never mix and nobody sees half a file. The
    folder is made when it is missing. FileError when it cannot be written; what was there before then stays.
    """
    part = path.parent / f".lumbarseg-{secrets.token_hex(6)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as stream:
            yield stream
        os.replace(part, path)
    except OSError as error:
        raise to_file_error(path, error, "written") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(path: Path, values: Any) -> None:
    """Write values as an indented JSON file, atomically; FileError when it cannot be written."""
    with atomic_write(path) as file:
        file.write((json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def file_fingerprint(path: Path) -> tuple[str, int, int]:
    """Return the path, modification time (ns) and size (bytes) of a file; they change when the file does. OSError."""
    state = path.stat()
    return str(path), state.st_mtime_ns, state.st_size
