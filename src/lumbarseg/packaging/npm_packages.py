"""Packages of npm for the web page, in exactly the versions and with the digests of package-lock.json.

They are fetched once by npm itself and kept in the user's cache folder, or where LUMBARSEG_NPM says.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lumbarseg.errors import PackagingError

_LOCK_FILES = ("package.json", "package-lock.json")
_TIMEOUT_SECONDS = 600  # seconds


@dataclass(frozen=True)
class NpmPackage:
    """One package as locked. licence: what it calls its licence; text: its licence file, "" where it carries none."""

    name: str
    version: str
    licence: str
    licence_text: str


def page_source_folder() -> Path:
    """The folder of the page's own files."""
    return Path(str(resources.files(__package__) / "page"))


def ensure_node_modules(for_tests: bool = False) -> Path:
    """The folder of the packages, fetched when it is not there yet; testing: with what drives a browser.

    PackagingError when npm is not installed or cannot fetch them.
    """
    folder = _versioned_cache_folder(for_tests)
    if has_node_modules(for_tests):
        return folder / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise PackagingError(
            "npm is not installed, and the page is made with its packages: install Node.js 18 or newer"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".npm-", dir=folder.parent) as work:
            _run_npm_ci(npm, Path(work), for_tests)
            if not folder.exists():
                os.replace(work, folder)
                Path(work).mkdir()  # for the end of the block, which removes it
    except OSError as error:
        raise PackagingError(f"{folder}: packages cannot be kept there: {error.strerror or error}") from error
    return folder / "node_modules"


def has_node_modules(for_tests: bool = False) -> bool:
    """Whether the packages were fetched before."""
    return (_versioned_cache_folder(for_tests) / "node_modules").is_dir()


def packages_in_page(node_modules: Path) -> list[NpmPackage]:
    """The packages that a page is made of, with their licences, by name."""
    lock = json.loads((page_source_folder() / _LOCK_FILES[1]).read_text(encoding="utf-8"))["packages"]
    chosen = {name: about for name, about in lock.items() if name and not {"dev", "optional"} & set(about)}
    return sorted(
        (_read_package(node_modules, name, about) for name, about in chosen.items()), key=lambda package: package.name
    )


def _versioned_cache_folder(for_tests: bool) -> Path:
    digest = hashlib.sha256(b"".join((page_source_folder() / name).read_bytes() for name in _LOCK_FILES)).hexdigest()[
        :16
    ]
    return _cache_folder() / f"npm-{digest}{'-testing' if for_tests else ''}"


def _read_package(folder: Path, name: str, about: dict[str, Any]) -> NpmPackage:
    files = (path for path in (folder.parent / name).iterdir() if path.is_file())
    texts = sorted(path for path in files if path.name.lower().startswith(("licen", "notice")))
    text = "\n\n".join(path.read_text(encoding="utf-8", errors="replace").strip() for path in texts)
    plain = name.rpartition("node_modules/")[2]
    given = page_source_folder() / "licences" / f"{plain.rpartition('/')[2]}.txt"
    if not text and given.is_file():
        text = given.read_text(encoding="utf-8").strip()
    return NpmPackage(plain, about["version"], about.get("license", "not said"), text)


def _run_npm_ci(npm: str, work: Path, for_tests: bool) -> None:
    for name in _LOCK_FILES:
        shutil.copyfile(page_source_folder() / name, work / name)
    words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", *([] if for_tests else ["--omit=dev"])]
    try:
        done = subprocess.run(words, cwd=work, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise PackagingError(
            f"npm did not fetch the page's packages in {_TIMEOUT_SECONDS} s; is there a network?"
        ) from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "error" in line.lower()]
        told = lines[0].strip()[:200] if lines else f"exit code {done.returncode}"
        raise PackagingError(f"npm cannot fetch the page's packages ({told}); is there a network?")


def _cache_folder() -> Path:
    """Where this user's programs keep what they can fetch again."""
    if given := os.environ.get("LUMBARSEG_NPM"):
        return Path(given)
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "lumbarseg"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lumbarseg"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lumbarseg"
