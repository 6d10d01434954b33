"""Zip files that are the same to the last bit whenever the same is put into them."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lumbarseg.files import replacing
from lumbarseg.files.disk import reading

_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can tell
_UNIX = 3
_PACKED = (".whl", ".zip", ".onnx", ".png")
_PROGRAMS = (".sh",)


def write(entries: Mapping[str, bytes | Path], out: Path) -> None:
    """A zip file of names and their bytes, or the files that hold them; FileError when it cannot be written."""
    with replacing(out) as stream, zipfile.ZipFile(stream, "w") as archive:
        for name in sorted(entries):
            with archive.open(_about(name), "w", force_zip64=True) as file:
                content = entries[name]
                if isinstance(content, bytes):
                    file.write(content)
                    continue
                with reading(content) as source:
                    shutil.copyfileobj(source, file, 1 << 20)


def _about(name: str) -> zipfile.ZipInfo:
    """How a file is stored: what is compressed already as it is, programs as such."""
    about = zipfile.ZipInfo(name, _DATE)
    about.create_system = _UNIX
    about.external_attr = (stat.S_IFREG | (0o755 if name.endswith(_PROGRAMS) else 0o644)) << 16
    about.compress_type = zipfile.ZIP_STORED if name.endswith(_PACKED) else zipfile.ZIP_DEFLATED
    return about
