"""Read the files of a ZIP archive in place: `exam.zip/IM0001` opens a member; nothing is extracted to disk.

The declared size of a member is trusted, because no more than that is ever decompressed (the checksum then fails).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile, ZipInfo

from lumbarseg.errors import FileError

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # the latter for an empty archive
_MAX_MEMBERS = 100_000
_MAX_DIRECTORY_BYTES = 16 * 2**20  # of the list of members, checked before it is read
_MAX_MEMBER_BYTES = 4 * 2**30  # uncompressed
_MAX_TOTAL_BYTES = 64 * 2**30
_RATIO_CHECK_BYTES = 256 * 2**20  # smaller contents are not checked for their compression ratio
_MAX_RATIO = 200  # exams reach 3 to 20
_END_RECORD, _END_SEARCH_BYTES = b"PK\x05\x06", 22 + 2**16
_ZIP64_END_RECORD = b"PK\x06\x06"
_DRIVE_LETTER = re.compile(r"[A-Za-z]:")


_Archive = tuple[ZipFile, dict[str, ZipInfo]]  # an open archive and its files by name, with "/" between folders


def locate_in_archive(path: Path) -> tuple[Path, str] | None:
    """Return the archive that holds a path and the name in it, "" for the archive itself; None for other paths."""
    for parent in (path, *path.parents):
        if parent.is_dir():
            return None
        if parent.is_file():
            with parent.open("rb") as stream:
                inside = stream.read(4) in _MAGIC
            return (parent, "" if parent == path else path.relative_to(parent).as_posix()) if inside else None
    return None


def iter_members(path: Path, recursive: bool = True) -> Iterator[Path]:
    """Yield the files of an archive, or of a folder in it, sorted by name, without hidden ones.

    Raises
    ------
    FileError
        If the archive is damaged, encrypted, a ZIP bomb, or names files outside itself.
    """
    location = locate_in_archive(path)
    if location is None:
        return
    archive, folder = location
    for name in sorted(_open_archive(archive)[1], key=lambda name: PurePosixPath(name).parts):
        member = PurePosixPath(name)
        if member.is_relative_to(folder):
            parts = member.relative_to(folder).parts
            is_hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
            if parts and (recursive or len(parts) == 1) and not is_hidden:
                yield archive / name


def is_archive_folder(path: Path) -> bool:
    """Return whether a path is an archive or a folder in one."""
    location = locate_in_archive(path)
    if location is None:
        return False
    archive, folder = location
    return not folder or any(name.startswith(f"{folder}/") for name in _open_archive(archive)[1])


def member_size(path: Path) -> int | None:
    """Return the uncompressed size of a member in bytes; None if there is no such member."""
    member = _find_member(path)
    return member[1].file_size if member else None


def _find_member(path: Path) -> tuple[ZipFile, ZipInfo] | None:
    location = locate_in_archive(path)
    if location is None:
        return None
    file, members = _open_archive(location[0])
    return (file, members[location[1]]) if location[1] in members else None


@contextmanager
def open_member(path: Path) -> Iterator[BinaryIO]:
    """Open a member as a binary stream; raise `FileNotFoundError` if there is no such member."""
    member = _find_member(path)
    if member is None:
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        with member[0].open(member[1]) as stream:
            yield stream  # type: ignore[misc]
    except NotImplementedError as error:
        raise FileError(f"{path}: this ZIP compression is not supported; unpack it and give the folder") from error
    except (BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise FileError(f"{path}: damaged in its ZIP; copy or export it again") from error


def _open_archive(archive: Path) -> _Archive:
    state = archive.stat()
    return _open_checked(archive, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _open_checked(archive: Path, _size: int, _changed: int) -> _Archive:
    """Open and check an archive once; the last four stay open, because a study has a thousand files."""
    _check_directory_size(archive)
    try:
        file = ZipFile(archive)
    except (BadZipFile, NotImplementedError, ValueError, struct.error) as error:  # ValueError: its names are no text
        raise FileError(f"{archive}: damaged ZIP; copy or export it again") from error
    try:
        return file, _safe_members(archive, file.infolist())
    except FileError:
        file.close()
        raise


def _check_directory_size(archive: Path) -> None:
    """Raise `FileError` if the list of members is too long to be read quickly."""
    with archive.open("rb") as stream:
        stream.seek(-min(_END_SEARCH_BYTES, archive.stat().st_size), 2)
        tail = stream.read()
    end = tail.rfind(_END_RECORD)
    if end < 0 or end + 22 > len(tail):
        raise FileError(f"{archive}: truncated ZIP: its end is missing; copy or export it again")
    length = struct.unpack_from("<L", tail, end + 12)[0]
    end = tail.rfind(_ZIP64_END_RECORD)
    if length == 0xFFFFFFFF and 0 <= end <= len(tail) - 56:
        length = struct.unpack_from("<Q", tail, end + 40)[0]
    if length > _MAX_DIRECTORY_BYTES:
        raise _too_many_members(archive)


def _too_many_members(archive: Path) -> FileError:
    return FileError(f"{archive}: a ZIP of more than {_MAX_MEMBERS:,} files is no exam; unpack what is one")


def _safe_members(archive: Path, infos: list[ZipInfo]) -> dict[str, ZipInfo]:
    """Return the files of an archive by name; raise `FileError` if it is unsafe to open."""
    infos = [info for info in infos if not info.is_dir()]
    if len(infos) > _MAX_MEMBERS:
        raise _too_many_members(archive)
    members: dict[str, ZipInfo] = {}
    for info in infos:
        name = info.filename.replace("\\", "/")
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or _DRIVE_LETTER.match(name):
            raise FileError(f"{archive}: an unsafe ZIP: {info.filename!r} in it points outside; do not unpack it")
        if info.flag_bits & 0x1:
            raise FileError(f"{archive}: the ZIP is encrypted; unpack it with its password and give the folder")
        if members.setdefault(path.as_posix(), info) is not info:
            raise FileError(f"{archive}: two files of the ZIP are named {path}; zip the folder again")
        _check_compression(archive, str(path), info.file_size, info.compress_size, _MAX_MEMBER_BYTES)
    size, compressed = (sum(getattr(info, key) for info in infos) for key in ("file_size", "compress_size"))
    _check_compression(archive, "its content", size, compressed, _MAX_TOTAL_BYTES)
    return members


def _check_compression(archive: Path, content: str, size: int, compressed: int, limit: int) -> None:
    if size > limit or (size > _RATIO_CHECK_BYTES and size > _MAX_RATIO * compressed):
        raise FileError(
            f"{archive}: a ZIP bomb, or damaged: {content} would grow from {compressed / 1e6:,.1f} to "
            f"{size / 1e6:,.0f} MB; do not unpack it"
        )
