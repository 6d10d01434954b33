"""ZIP archives read in place: what lies in `exam.zip` is opened as `exam.zip/IM0001`; nothing is unpacked to disk.

A member's size is believed, for no more than that is ever unpacked (its checksum fails when there is more).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from lumbarseg.errors import FileError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")  # the latter of an empty archive
_MAX_MEMBERS = 100_000
_MAX_DIRECTORY_BYTES = 16 * 2**20  # bytes of the list of members, looked at before it is read
_MAX_MEMBER_BYTES = 4 * 2**30  # bytes, unpacked
_MAX_TOTAL_BYTES = 64 * 2**30
_RATIO_CHECK_BYTES, _MAX_RATIO = (
    256 * 2**20,
    200,
)  # above so many bytes none may be packed better than this; exams reach 3 to 20
_END_RECORD, _END_SEARCH_BYTES = b"PK\x05\x06", 22 + 2**16
_ZIP64_END_RECORD = b"PK\x06\x06"
_DRIVE_LETTER = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, eq=False)
class _Archive:
    """An open archive and its files by their names in it, "/" between folders."""

    file: ZipFile
    members: dict[str, ZipInfo]


def is_zip(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a ZIP archive."""
    return head.startswith(_MAGIC)


def locate_in_archive(path: Path) -> tuple[Path, str] | None:
    """The archive in which a path lies and its name there, "" for the archive itself; None for any other path."""
    for place in (path, *path.parents):
        if place.is_dir():
            return None
        if place.is_file():
            with place.open("rb") as stream:
                inside = is_zip(stream.read(4))
            return (place, "" if place == path else path.relative_to(place).as_posix()) if inside else None
    return None


def iter_members(place: Path, recursive: bool = True) -> Iterator[Path]:
    """The files of an archive or of a folder in it, hidden ones left out, in the order of their names.

    deep: also those of folders below. FileError when the archive is damaged, encrypted, a bomb, or climbs out.
    """
    found = locate_in_archive(place)
    if found is None:
        return
    archive, folder = found
    inside = PurePosixPath(folder)
    for name in sorted(_open_archive(archive).members, key=lambda name: PurePosixPath(name).parts):
        member = PurePosixPath(name)
        if member.is_relative_to(inside):
            parts = member.relative_to(inside).parts
            if (
                parts
                and (recursive or len(parts) == 1)
                and not any(p.startswith(".") or p == "__MACOSX" for p in parts)
            ):
                yield archive / name


def is_archive_folder(path: Path) -> bool:
    """Whether a path is an archive, or a folder in one."""
    found = locate_in_archive(path)
    return found is not None and (
        not found[1] or any(name.startswith(f"{found[1]}/") for name in _member_names(found[0]))
    )


def is_archive_member(path: Path) -> bool:
    """Whether a path is a file in an archive."""
    found = locate_in_archive(path)
    return found is not None and found[1] in _member_names(found[0])


def member_size(path: Path) -> int | None:
    """Bytes of a member, unpacked; None where there is none of that name."""
    found = locate_in_archive(path)
    info = _open_archive(found[0]).members.get(found[1]) if found else None
    return info.file_size if info else None


@contextmanager
def open_member(path: Path) -> Iterator[BinaryIO]:
    """A member opened for reading, in binary; FileNotFoundError where there is none of that name."""
    found = locate_in_archive(path)
    if found is None:
        raise FileNotFoundError(2, "no such file", str(path))
    archive = _open_archive(found[0])
    if found[1] not in archive.members:
        raise FileNotFoundError(2, "no such file in the ZIP", str(path))
    from zipfile import BadZipFile

    try:
        with archive.file.open(archive.members[found[1]]) as stream:
            yield stream  # type: ignore[misc]
    except NotImplementedError as error:
        raise FileError(f"{path}: packed by a method that is not read; unpack the ZIP and give the folder") from error
    except (BadZipFile, zlib.error, EOFError, struct.error) as error:
        raise FileError(f"{path}: damaged in its ZIP; copy or export it again") from error


def _member_names(archive: Path) -> Iterable[str]:
    return _open_archive(archive).members


def _open_archive(archive: Path) -> _Archive:
    state = archive.stat()
    return _open_checked(archive, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _open_checked(archive: Path, _size: int, _changed: int) -> _Archive:
    """The archive, checked once; opened for as long as it is among the last four, for a study has a thousand files."""
    from zipfile import BadZipFile, ZipFile

    _check_directory_size(archive)
    try:
        file = ZipFile(archive)
    except (BadZipFile, NotImplementedError, ValueError, struct.error) as error:  # ValueError: its names are no text
        raise FileError(f"{archive}: damaged ZIP; copy or export it again") from error
    try:
        return _Archive(file, _safe_members(archive, file.infolist()))
    except FileError:
        file.close()
        raise


def _check_directory_size(archive: Path) -> None:
    """FileError when the list of members is too long to be read in a moment."""
    with archive.open("rb") as stream:
        stream.seek(-min(_END_SEARCH_BYTES, archive.stat().st_size), 2)
        tail = stream.read()
    at = tail.rfind(_END_RECORD)
    if at < 0 or at + 22 > len(tail):
        raise FileError(f"{archive}: truncated ZIP: its end is missing; copy or export it again")
    length = struct.unpack_from("<L", tail, at + 12)[0]
    at = tail.rfind(_ZIP64_END_RECORD)
    if length == 0xFFFFFFFF and 0 <= at <= len(tail) - 56:
        length = struct.unpack_from("<Q", tail, at + 40)[0]
    if length > _MAX_DIRECTORY_BYTES:
        raise _too_many_members(archive)


def _too_many_members(archive: Path) -> FileError:
    return FileError(f"{archive}: a ZIP of more than {_MAX_MEMBERS:,} files is no exam; unpack what is one")


def _safe_members(archive: Path, infos: list[ZipInfo]) -> dict[str, ZipInfo]:
    """The files of an archive by name; FileError when it is one that nobody should open."""
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
    whole, packed = (sum(getattr(info, size) for info in infos) for size in ("file_size", "compress_size"))
    _check_compression(archive, "the whole", whole, packed, _MAX_TOTAL_BYTES)
    return members


def _check_compression(archive: Path, what: str, whole: int, packed: int, most: int) -> None:
    if whole > most or (whole > _RATIO_CHECK_BYTES and whole > _MAX_RATIO * packed):
        raise FileError(
            f"{archive}: a ZIP bomb, or damaged: {what} would grow from {packed / 1e6:,.1f} to {whole / 1e6:,.0f} MB; "
            "do not unpack it"
        )
