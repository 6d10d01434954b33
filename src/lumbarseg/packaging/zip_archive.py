"""Zip files that are the same to the last bit whenever the same is put into them."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lumbarseg.io import atomic_write
from lumbarseg.io.file_access import open_for_reading

_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can tell
_CREATED_ON_UNIX = 3
_COMPRESSED_SUFFIXES = (".whl", ".zip", ".onnx", ".png")
_EXECUTABLE_SUFFIXES = (".sh",)


def write_zip(entries: Mapping[str, bytes | Path], path: Path) -> None:
    """A zip file of names and their bytes, or the files that hold them; FileError when it cannot be written."""
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(entries):
            with archive.open(_zip_entry_info(name), "w", force_zip64=True) as file:
                content = entries[name]
                if isinstance(content, bytes):
                    file.write(content)
                    continue
                with open_for_reading(content) as source:
                    shutil.copyfileobj(source, file, 1 << 20)


def _zip_entry_info(name: str) -> zipfile.ZipInfo:
    """How a file is stored: what is compressed already as it is, programs as such."""
    about = zipfile.ZipInfo(name, _TIMESTAMP)
    about.create_system = _CREATED_ON_UNIX
    about.external_attr = (stat.S_IFREG | (0o755 if name.endswith(_EXECUTABLE_SUFFIXES) else 0o644)) << 16
    about.compress_type = zipfile.ZIP_STORED if name.endswith(_COMPRESSED_SUFFIXES) else zipfile.ZIP_DEFLATED
    return about
