"""Open files, also inside ZIP archives, and replace files atomically; report system errors in one clear line."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from lumbarseg.errors import FileError, describe_system_error

from . import archives

_ANNEX_LINK = "a git-annex link without its content; fetch it with: git annex get"
_TEXT_ESCAPE = "backslashreplace"  # names that are not UTF-8 have lone surrogates, written as \\udcNN like JSON does
_POINTERS = (b"version https://git-lfs.github.com/spec/", b"/annex/objects/")  # content of pointer files


def is_pointer(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a Git LFS or git-annex pointer instead of its content."""
    return head.startswith(_POINTERS)


def to_file_error(path: Path, error: OSError, verb: str = "read") -> FileError:
    """Return a `FileError` that names the path, the reason of a system error, and a remedy; verb: read or written."""
    if error.errno == errno.ENOENT and verb == "read" and path.is_symlink():
        is_annex = ".git/annex" in os.readlink(path).replace("\\", "/")
        reason = _ANNEX_LINK if is_annex else "a link to a file that does not exist; copy the file, not the link"
    else:
        reason = describe_system_error(error)
    return FileError(f"{path}: cannot be {verb}: {reason}")


@contextmanager
def open_for_reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file, or a file inside a ZIP archive, as a binary stream.

    Raises
    ------
    FileError
        If it cannot be opened, or a read inside the block fails.
    """
    try:
        try:
            opened: AbstractContextManager[BinaryIO] = path.open("rb")
        except (FileNotFoundError, NotADirectoryError):
            if archives.locate_in_archive(path) is None:
                raise
            opened = archives.open_member(path)
        with opened as stream:
            yield stream
    except OSError as error:
        raise to_file_error(path, error) from error


def file_size(path: Path) -> int:
    """Return the size of a file in bytes; for a file inside a ZIP archive, its uncompressed size."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        size = archives.member_size(path)
        if size is None:
            raise
        return size


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block creates there replaces `path` if the block succeeds.

    If the block fails, the temporary file or folder is removed and `path` stays as it was. Each call uses its own
    temporary name, so concurrent writers do not interfere. Missing parent folders are created.

    Raises
    ------
    FileError
        If the system refuses to write.
    """
    temporary = path.parent / f".lumbarseg-{secrets.token_hex(6)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise to_file_error(path, error, "written") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary binary file that replaces `path` if the block succeeds; see `atomic_path`."""
    with atomic_path(path) as temporary, temporary.open("xb") as stream:
        yield stream


def write_json(path: Path, values: Any) -> None:
    """Write values as an indented JSON file, atomically; raise `FileError` if it cannot be written."""
    with atomic_write(path) as file:
        file.write(
            (json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(errors=_TEXT_ESCAPE)
        )


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV, atomically, empty cells where there is no value; raise `FileError` if it cannot be written."""
    with atomic_write(path) as file, io.TextIOWrapper(file, "utf-8", _TEXT_ESCAPE, newline="") as text:
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def file_fingerprint(path: Path) -> tuple[str, int, int]:
    """Return path, modification time (ns) and size (bytes) of a file; they change when it does. Raises OSError."""
    state = path.stat()
    return str(path), state.st_mtime_ns, state.st_size
