"""The wheel of lumbarseg itself, built from a source tree or rebuilt from the installed files."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

import lumbarseg
from lumbarseg.errors import PackagingError
from lumbarseg.io.file_access import open_for_reading

from .wheels import explain_pip_error, run_pip
from .zip_archive import write_zip

_WRITTEN_BY_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def build_own_wheel(folder: Path) -> Path:
    """Write the wheel of lumbarseg into `folder` and return its path; PackagingError when that is impossible."""
    tree = Path(lumbarseg.__file__).resolve().parents[2]
    if (tree / "pyproject.toml").is_file() and (tree / "src" / "lumbarseg").is_dir():
        error = run_pip(["wheel", "--quiet", "--no-deps", "--no-cache-dir", "--wheel-dir", str(folder), str(tree)])
        if error:
            raise PackagingError(f"cannot build the wheel of lumbarseg: {explain_pip_error(error, 'this computer')}")
        return next(folder.glob("lumbarseg-*.whl"))
    try:
        return rebuild_wheel(distribution("lumbarseg"), folder)
    except PackageNotFoundError:
        raise PackagingError("lumbarseg is not installed; install its wheel, or run it from its source tree") from None


def rebuild_wheel(installed: Distribution, folder: Path) -> Path:
    """Rebuild the wheel of an installed pure-Python package and return its path.

    Files that the installer added (scripts, compiled files, its notes) are left out; another installer adds them again.
    PackagingError when the installation has no list of files.
    """
    files = [file for file in installed.files or () if _is_wheel_file(file)]
    dist_info = next((file.parts[0] for file in files if file.name == "WHEEL"), None)
    if dist_info is None:
        raise PackagingError("this installation has no list of its files; install the wheel of lumbarseg with pip")
    entries: dict[str, bytes] = {}
    for file in files:
        with open_for_reading(Path(str(installed.locate_file(file)))) as stream:
            entries[file.as_posix()] = stream.read()
    tags = [line.split()[1] for line in entries[f"{dist_info}/WHEEL"].decode().splitlines() if line.startswith("Tag:")]
    entries[f"{dist_info}/RECORD"] = _record_file(entries, f"{dist_info}/RECORD")
    path = folder / f"{dist_info.removesuffix('.dist-info')}-{_combine_tags(tags)}.whl"
    write_zip(entries, path)
    return path


def _is_wheel_file(file: PackagePath) -> bool:
    """Return whether a file came from the wheel: it is inside the site folder and no installer wrote it."""
    is_inside = not file.is_absolute() and ".." not in file.parts and "__pycache__" not in file.parts
    return is_inside and not (file.parts[0].endswith(".dist-info") and file.name in _WRITTEN_BY_INSTALLER)


def _record_file(entries: Mapping[str, bytes], record: str) -> bytes:
    """Return the contents of RECORD: the files of a wheel with digests and sizes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for name, data in sorted(entries.items()):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        writer.writerow((name, f"sha256={digest}", len(data)))
    writer.writerow((record, "", ""))
    return text.getvalue().encode()


def _combine_tags(tags: list[str]) -> str:
    """Combine compatibility tags: "py2-none-any" and "py3-none-any" to "py2.py3-none-any"."""
    return "-".join(".".join(dict.fromkeys(part)) for part in zip(*(tag.split("-") for tag in tags), strict=True))
