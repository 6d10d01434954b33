"""The environment that MONAI Label runs in: its own, from a lock file, so that nothing of the user's is replaced.

`pip install monailabel` would exchange torch and bring a hundred packages of its own choice, some of which break. Here
torch is installed first, then every other package at its locked version and without its own wishes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lumbarseg
from lumbarseg.errors import ServeError
from lumbarseg.io import atomic_write

_LOCK_PATH = "requirements/serve.txt"
_MARKER = "lumbarseg-serve.txt"
"""In an environment of ours that is complete: the lock it was made from."""
LogFunction = Callable[[str], None]


def lock_file() -> Path:
    """The lock file: inside an installed package, or in the source tree; ServeError when there is none."""
    package = Path(lumbarseg.__file__).resolve().parent
    for path in (package / "serve" / "requirements.txt", package.parents[1] / _LOCK_PATH):
        if path.is_file():
            return path
    raise ServeError(
        f"{package_path}: this installation has no list of MONAI Label's packages; install the wheel again"
    )


def default_folder() -> Path:
    """Where the environment lies unless the user says otherwise: in the cache folder, one per lock and Python."""
    home = Path.home()
    if sys.platform == "win32":
        cache = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        cache = home / "Library" / "Caches"
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    digest = hashlib.sha256(lock_file().read_bytes()).hexdigest()[:8]
    return cache / "lumbarseg" / f"serve-{sys.version_info[0]}.{sys.version_info[1]}-{digest}"


def interpreter(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def is_complete(folder: Path) -> bool:
    """Whether an environment was made from the lock as it is."""
    mark = folder / _MARKER
    return interpreter(folder).is_file() and mark.is_file() and mark.read_bytes() == lock_file().read_bytes()


def ensure_installed(folder: Path, log: LogFunction) -> Path:
    """The interpreter of the environment in `folder`, which is made where it is missing or from another lock.

    ServeError when the folder holds something else, or pip cannot install.
    """
    if is_complete(folder):
        return interpreter(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise ServeError(f"{folder}: holds something else; give --env an empty or a new folder")
    if (folder / "pyvenv.cfg").is_file() and not (folder / _MARKER).exists() and not (folder / f".{_MARKER}").exists():
        raise ServeError(f"{folder}: is an environment that lumbarseg serve did not make; give --env another folder")
    log(f"installing MONAI Label and its packages into {folder} (once, about 2 GB, some minutes)")
    shutil.rmtree(folder, ignore_errors=True)
    _run_command([sys.executable, "-m", "venv", str(folder)], "an environment cannot be made")
    (folder / f".{_MARKER}").touch()  # ours, and not complete
    wanted = lock_file().read_text(encoding="utf-8").splitlines()
    torch = next(line for line in wanted if line.startswith("torch=="))
    log(f"installing {torch}")
    _pip_install(folder, torch)
    log(f"installing {sum('==' in line for line in wanted)} packages")
    _pip_install(folder, "--no-deps", "-r", str(lock_file()))
    with atomic_write(folder / _MARKER) as file:
        file.write(lock_file().read_bytes())
    return interpreter(folder)


def _pip_install(folder: Path, *arguments: str) -> None:
    """Install into an environment; only pip's own settings, which are the user's, say where from."""
    _run_command([str(interpreter(folder)), "-m", "pip", "install", "--quiet", *arguments], "pip cannot install")


def _run_command(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603
            command,
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
    except OSError as error:
        raise ServeError(f"{failure}: {error}") from error
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reasons = [line for line in lines if "ERROR" in line] or lines[-1:]
        raise ServeError(f"{failure}: {reasons[0].strip() if reasons else 'no reason given'}")


def package_path(folder: Path) -> Path:
    """A folder that holds this lumbarseg and nothing else, for PYTHONPATH: the source tree's, or a copy beside."""
    home = Path(lumbarseg.__file__).resolve().parent
    if home.parent.name == "src":
        return home.parent
    copy = folder / f"lumbarseg-{lumbarseg.__version__}-{_package_digest(home)}"
    if not copy.is_dir():
        part = copy.with_suffix(f".{os.getpid()}")
        shutil.copytree(home, part / "lumbarseg", ignore=shutil.ignore_patterns("__pycache__"))
        try:
            part.rename(copy)
        except OSError:  # another server was quicker
            shutil.rmtree(part, ignore_errors=True)
    return copy


def _package_digest(home: Path) -> str:
    """Changes when a file of the package does."""
    files = sorted(path for path in home.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    rows = [f"{path.relative_to(home)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]
