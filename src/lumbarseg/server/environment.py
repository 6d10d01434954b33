"""The Python environment that MONAI Label runs in, installed from a lock file, so the user's packages stay as they are.

`pip install monailabel` would replace torch and install a hundred packages of versions that partly do not work
together. Here torch is installed first, then all other packages at their locked versions and without dependencies.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lumbarseg
from lumbarseg.errors import ServeError
from lumbarseg.io import atomic_write

_LOCK_PATH = "requirements/serve.txt"
_MARKER = "lumbarseg-serve.txt"
"""File in a complete environment: a copy of the lock file. Until it is complete, a hidden file marks it as ours."""
LogFunction = Callable[[str], None]


def lock_file() -> Path:
    """Return the path of the lock file, in an installed package or the source tree; ServeError when it is missing."""
    package = Path(lumbarseg.__file__).resolve().parent
    for path in (package / "server" / "requirements.txt", package.parents[1] / _LOCK_PATH):
        if path.is_file():
            return path
    raise ServeError(f"{package}: this installation has no list of MONAI Label's packages; install the wheel again")


def default_folder() -> Path:
    """Return the default folder of the environment: in the user's cache, one per lock file and Python version."""
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
    """Return the path of an environment's Python interpreter."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def is_complete(folder: Path) -> bool:
    """Return whether an environment was completely installed from the lock file as it is now."""
    marker = folder / _MARKER
    return interpreter(folder).is_file() and marker.is_file() and marker.read_bytes() == lock_file().read_bytes()


def ensure_installed(folder: Path, log: LogFunction, on_package: Callable[[str, int], None] = lambda *_: None) -> Path:
    """Install the environment unless it is complete; return its interpreter.

    on_package: called with the name of each package that is downloaded, and the number of packages.

    Raises ServeError when the folder contains something else, or pip fails.
    """
    if is_complete(folder):
        return interpreter(folder)
    environment_file, marker, incomplete = (folder / name for name in ("pyvenv.cfg", _MARKER, f".{_MARKER}"))
    if folder.exists() and any(folder.iterdir()) and not environment_file.is_file():
        raise ServeError(f"{folder}: contains something else; choose an empty or new folder with --env")
    if environment_file.is_file() and not marker.exists() and not incomplete.exists():
        raise ServeError(f"{folder}: this environment was not made by lumbarseg serve; choose another one with --env")
    log(f"installing MONAI Label and its packages into {folder} (once, about 2 GB, some minutes)")
    shutil.rmtree(folder, ignore_errors=True)
    list(_run_command([sys.executable, "-m", "venv", str(folder)], "cannot create an environment"))
    incomplete.touch()
    packages = [line for line in lock_file().read_text(encoding="utf-8").splitlines() if "==" in line]
    torch = next(line for line in packages if line.startswith("torch=="))
    for arguments in ((torch,), ("--no-deps", "-r", str(lock_file()))):
        command = [str(interpreter(folder)), "-m", "pip", "install", "--progress-bar", "off", *arguments]
        for line in _run_command(command, "pip cannot install"):
            if line.startswith(("Collecting ", "Processing ")):
                on_package(line.split()[1], len(packages))
            elif line.startswith("Installing collected packages"):
                log("downloaded; now they are unpacked")
    with atomic_write(marker) as file:
        file.write(lock_file().read_bytes())
    return interpreter(folder)


def _run_command(command: list[str], failure: str) -> Iterator[str]:
    """Run a command, with the user's pip settings; yield its lines, ServeError with its error line when it fails."""
    variables = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1"}
    lines: list[str] = []
    try:
        with subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
        ) as process:
            for line in process.stdout or ():
                lines.append(line.strip())
                yield line.strip()
    except OSError as error:
        raise ServeError(f"{failure}: {error}") from error
    if process.returncode:
        reasons = [line for line in lines if "ERROR" in line] or [line for line in lines if line][-1:]
        raise ServeError(f"{failure}: {reasons[0] if reasons else 'no reason given'}")


def package_path(folder: Path) -> Path:
    """Return a folder for PYTHONPATH that contains only lumbarseg: the source tree's, or a copy in `folder`."""
    package = Path(lumbarseg.__file__).resolve().parent
    if package.parent.name == "src":
        return package.parent
    copy = folder / f"lumbarseg-{lumbarseg.__version__}-{_package_digest(package)}"
    if not copy.is_dir():
        temporary = copy.with_suffix(f".{os.getpid()}")
        shutil.copytree(package, temporary / "lumbarseg", ignore=shutil.ignore_patterns("__pycache__"))
        try:
            temporary.rename(copy)
        except OSError:  # another server made the copy at the same time
            shutil.rmtree(temporary, ignore_errors=True)
    return copy


def _package_digest(package: Path) -> str:
    """Return a digest that changes with any file of the package."""
    files = sorted(path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    rows = [f"{path.relative_to(package)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]
