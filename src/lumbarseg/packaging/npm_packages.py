"""The npm packages of the browser page, in the versions and with the digests of package-lock.json.

npm downloads them once into the user's cache folder, or into the folder that LUMBARSEG_NPM names.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lumbarseg.errors import PackagingError

_LOCK_FILES = ("package.json", "package-lock.json")
_TIMEOUT_SECONDS = 600
_BUNDLER = "esbuild"  # makes the scripts and is not in them


@dataclass(frozen=True)
class NpmPackage:
    """A package with its licence. licence_text: empty if it contains none."""

    name: str
    version: str
    licence: str
    licence_text: str


def page_source_folder() -> Path:
    """Return the folder of the page's own files."""
    return Path(str(resources.files(__package__) / "page"))


def ensure_node_modules(for_tests: bool = False) -> Path:
    """Return the folder of the packages, which are downloaded if necessary.

    for_tests : include the packages that control a browser

    Raises
    ------
    PackagingError
        When npm is not installed or cannot download them.
    """
    folder = _node_modules(for_tests).parent
    if has_node_modules(for_tests):
        return folder / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise PackagingError("npm is not installed, and the page needs its packages: install Node.js 18 or newer")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".npm-", dir=folder.parent) as work:
            _run_npm_ci(npm, Path(work), for_tests)
            if not folder.exists():
                os.replace(work, folder)
                Path(work).mkdir()  # TemporaryDirectory removes it
    except OSError as error:
        raise PackagingError(f"{folder}: packages cannot be stored there: {error.strerror or error}") from error
    return folder / "node_modules"


def has_node_modules(for_tests: bool = False) -> bool:
    """Return whether the packages were downloaded before."""
    return _node_modules(for_tests).is_dir()


def packages_in_page(node_modules: Path) -> list[NpmPackage]:
    """Return the packages that a page contains, sorted by name."""
    lock = json.loads((page_source_folder() / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    packages = []
    for path, entry in lock.items():
        name = path.rpartition("node_modules/")[2]
        if path and not {"dev", "optional"} & set(entry) and name != _BUNDLER:
            text = _licence_text(node_modules.parent / path, name)
            packages.append(NpmPackage(name, entry["version"], entry.get("license", "not stated"), text))
    return sorted(packages, key=lambda package: package.name)


def _licence_text(folder: Path, name: str) -> str:
    """Return the licence files of a package, else the text that the page's sources contain for it."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    files = [path for path in files if path.name.lower().startswith(("licen", "notice"))]
    own = page_source_folder() / "licences" / f"{name.rpartition('/')[2]}.txt"
    texts = [path.read_text(encoding="utf-8", errors="replace").strip() for path in files]
    return "\n\n".join(texts) or (own.read_text(encoding="utf-8").strip() if own.is_file() else "")


def _run_npm_ci(npm: str, work: Path, for_tests: bool) -> None:
    for name in _LOCK_FILES:
        shutil.copyfile(page_source_folder() / name, work / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", *([] if for_tests else ["--omit=dev"])]
    try:
        process = subprocess.run(  # noqa: S603
            command, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PackagingError(f"npm needs more than {_TIMEOUT_SECONDS} s; is there a network?") from error
    if process.returncode:
        lines = [line.strip() for line in (process.stderr + process.stdout).splitlines() if "error" in line.lower()]
        reason = (lines or [f"exit code {process.returncode}"])[0][:200]
        raise PackagingError(f"npm cannot download the page's packages ({reason}); is there a network?")


def _node_modules(for_tests: bool) -> Path:
    """Return the path of the packages in the user's cache, whose name depends on the locked versions."""
    locks = b"".join((page_source_folder() / name).read_bytes() for name in _LOCK_FILES)
    name = f"npm-{hashlib.sha256(locks).hexdigest()[:16]}{'-testing' if for_tests else ''}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lumbarseg"
    return Path(os.environ.get("LUMBARSEG_NPM") or cache) / name / "node_modules"
