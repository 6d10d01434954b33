"""lumbarseg's own wheel, built from a source tree, or put together again from what is installed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path

import lumbarseg
from lumbarseg.errors import PackagingError
from lumbarseg.io.file_access import open_for_reading

from .wheels import explain_pip_error, run_pip
from .zip_archive import write_zip

_WRITTEN_BY_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def build_own_wheel(folder: Path) -> Path:
    """lumbarseg as a wheel in `folder`; PackagingError when it can neither be built nor put together."""
    tree = Path(lumbarseg.__file__).resolve().parents[2]
    if (tree / "pyproject.toml").is_file() and (tree / "src" / "lumbarseg").is_dir():
        refused = run_pip(["wheel", "--quiet", "--no-deps", "--no-cache-dir", "--wheel-dir", str(folder), str(tree)])
        if refused:
            raise PackagingError(
                f"lumbarseg's own wheel cannot be built: {explain_pip_error(refused, 'this computer')}"
            )
        return next(folder.glob("lumbarseg-*.whl"))
    try:
        return rebuild_wheel(distribution("lumbarseg"), folder)
    except PackageNotFoundError:
        raise PackagingError(
            "lumbarseg is not installed here; install its wheel, or run it from its source tree"
        ) from None


def rebuild_wheel(installed: Distribution, folder: Path) -> Path:
    """The wheel of a pure Python package that is installed, put together again; PackagingError without a list of files.

    What the installer added (programs, compiled files, its own notes) is left out: another installer makes it anew.
    """
    files = [file for file in installed.files or () if _is_wheel_file(file)]
    about = next((file.parts[0] for file in files if file.name == "WHEEL"), None)
    if about is None:
        raise PackagingError("this installation has no list of its files; install lumbarseg's wheel with pip")
    entries: dict[str, bytes] = {}
    for file in files:
        with open_for_reading(Path(str(installed.locate_file(file)))) as stream:
            entries[file.as_posix()] = stream.read()
    entries[f"{about}/RECORD"] = _record_file(entries.items(), f"{about}/RECORD")
    tags = [line.split()[1] for line in entries[f"{about}/WHEEL"].decode().splitlines() if line.startswith("Tag:")]
    path = folder / f"{about.removesuffix('.dist-info')}-{_combine_tags(tags)}.whl"
    write_zip(entries, path)
    return path


def _is_wheel_file(file: PackagePath) -> bool:
    """Whether a file came out of the wheel: its place is in the site's folder, and no installer made it."""
    inside = not file.is_absolute() and ".." not in file.parts and "__pycache__" not in file.parts
    return inside and not (file.parts[0].endswith(".dist-info") and file.name in _WRITTEN_BY_INSTALLER)


def _record_file(entries: Iterable[tuple[str, bytes]], own: str) -> bytes:
    """The list of a wheel's files with digests and sizes."""
    lines = []
    for name, data in sorted(entries):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{_csv_field(name)},sha256={digest},{len(data)}\n")
    return "".join([*lines, f"{_csv_field(own)},,\n"]).encode()


def _csv_field(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


def _combine_tags(tags: list[str]) -> str:
    """ "py2-none-any", "py3-none-any": "py2.py3-none-any"."""
    return "-".join(".".join(dict.fromkeys(part)) for part in zip(*(tag.split("-") for tag in tags), strict=True))
