"""Reproducible ZIP files: the same contents give the same bytes."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lumbarseg.io import atomic_write
from lumbarseg.io.file_access import open_for_reading

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the earliest that the format can store
_CREATED_ON_UNIX = 3
_COMPRESSED_SUFFIXES = (".whl", ".zip", ".onnx", ".png")
_EXECUTABLE_SUFFIXES = (".sh",)


def write_zip(entries: Mapping[str, bytes | Path], path: Path) -> None:
    """Write a ZIP file from names and their bytes, or the files to copy; FileError when it cannot be written."""
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name, content in sorted(entries.items()):
            with archive.open(_entry_info(name), "w", force_zip64=True) as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    with open_for_reading(content) as source:
                        shutil.copyfileobj(source, file, 1 << 20)


def _entry_info(name: str) -> zipfile.ZipInfo:
    """Return permissions and compression of an entry; compressed formats are stored as they are."""
    info = zipfile.ZipInfo(name, _TIMESTAMP)
    info.create_system = _CREATED_ON_UNIX
    info.external_attr = (stat.S_IFREG | (0o755 if name.endswith(_EXECUTABLE_SUFFIXES) else 0o644)) << 16
    info.compress_type = zipfile.ZIP_STORED if name.endswith(_COMPRESSED_SUFFIXES) else zipfile.ZIP_DEFLATED
    return info
