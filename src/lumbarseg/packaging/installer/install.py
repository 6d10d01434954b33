"""Install lumbarseg from the folder of this file, without a network: python install.py [FOLDER]

This program runs on the target computer and needs nothing but its Python.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

PACK_FOLDER = Path(__file__).resolve().parent
WINDOWS = os.name == "nt"
CHECKSUM_FILE = "SHA256SUMS"
MARKER_FILE = "lumbarseg-pack.json"  # in environments of this program, which it may replace
print_line = functools.partial(print, flush=True)
TEST_SCRIPT = "from lumbarseg.inference import Model, default_model_path; Model.load(default_model_path())"


class InstallError(Exception):
    """The reason why nothing is installed, in one line."""


def main(arguments: list[str]) -> int:
    """Check the pack, install, test the installation and print how to call it; return the exit code."""
    try:
        pack = json.loads((PACK_FOLDER / "pack.json").read_text(encoding="utf-8"))
        wheels = matching_wheels(pack)
        if arguments == ["--fits"]:  # install.sh and install.bat search for a Python with this
            return 0 if wheels else 1
        if len(arguments) > 1 or arguments[:1] == ["--help"]:
            print_line("usage: install [FOLDER]")
            return 2
        if not wheels:
            targets = "; ".join(f"{t['system']} {t['machine']}, Python {t['python']}" for t in pack["targets"])
            python = f"{platform.python_implementation()} {platform.python_version()}"
            raise InstallError(
                f"this pack is made for {targets}; this is {platform.system()} {platform.machine()}, {python}"
            )
        folder = Path(arguments[0]).expanduser().absolute() if arguments else default_folder()
        verify_checksums()
        install(wheels, pack["model"], folder)
        print_instructions(pack, folder / ("Scripts/lumbarseg.exe" if WINDOWS else "bin/lumbarseg"))
    except (InstallError, OSError, ValueError) as error:
        sys.stderr.write(f"lumbarseg: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("lumbarseg: error: interrupted; nothing is installed\n")
        return 130
    return 0


def matching_wheels(pack: dict[str, Any]) -> list[str]:
    """Return the names of the wheels for this computer and Python; empty when the pack is not made for them."""
    current = (platform.system(), platform.machine(), f"{sys.version_info[0]}.{sys.version_info[1]}")
    if sys.implementation.name == "cpython":
        for target in pack["targets"]:
            if (target["system"], target["machine"], target["python"]) == current:
                return list(target["wheels"])
    return []


def default_folder() -> Path:
    """Return the usual folder for programs of one user."""
    if WINDOWS:
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lumbarseg"
    return Path.home() / ".local" / "share" / "lumbarseg"


def verify_checksums() -> None:
    """Compare each file of the pack with its checksum."""
    lines = (PACK_FOLDER / CHECKSUM_FILE).read_text(encoding="utf-8").splitlines()
    print_line(f"checking {len(lines)} files")
    for digest, name in (line.split("  ", 1) for line in lines):
        path = PACK_FOLDER / name
        if not path.is_file():
            raise InstallError(f"{path}: missing; unzip the pack again")
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise InstallError(f"{path}: does not match its checksum: changed or damaged; get the pack again")


def install(wheels: list[str], model: str | None, folder: Path) -> None:
    """Create an environment in `folder`, in place of an older one; remove it again when the installation fails."""
    if folder.exists() and not folder.is_dir():
        raise InstallError(f"{folder}: this is a file; name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER_FILE).is_file():
        raise InstallError(f"{folder}: contains other files; name an empty or new folder")
    print_line(f"installing into {folder}")
    try:
        venv.EnvBuilder(clear=True, symlinks=not WINDOWS).create(folder)
        shutil.copyfile(PACK_FOLDER / "pack.json", folder / MARKER_FILE)
        paths = [PACK_FOLDER / "wheels" / name for name in wheels]  # by name: other files in the folder are ignored
        (pip,) = [path for path in paths if path.name.startswith("pip-")]
        quiet = ["--isolated", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
        run_python(folder, pip / "pip", "install", *quiet, "--no-index", "--no-cache-dir", *paths)
        if model:
            share = folder / "share" / "lumbarseg"
            share.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PACK_FOLDER / "model" / model, share / model)
        print_line("testing the installation")
        run_python(folder, "-c", TEST_SCRIPT)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def run_python(folder: Path, *arguments: str | Path) -> None:
    """Run the Python of the environment in `folder`; InstallError with its message when it fails."""
    command = [str(folder / ("Scripts/python.exe" if WINDOWS else "bin/python")), "-I", *map(str, arguments)]
    process = subprocess.run(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    if process.returncode:
        lines = [line for line in process.stdout.splitlines() if line.strip()] or [f"exit code {process.returncode}"]
        if any("No space left" in line for line in lines):
            raise InstallError(f"{folder}: the disk is full; make room, or name another folder")
        raise InstallError(next((line for line in lines if line.startswith("ERROR:")), lines[-1]))


def print_instructions(pack: dict[str, Any], program: Path) -> None:
    """Create a launcher for the program, where that changes no settings, and print how to call it."""
    launcher = link_program(program)
    model = f" with the model {pack['model']}" if pack["model"] else ""
    print_line(f"lumbarseg {pack['version']} is installed{model}.")
    on_path = shutil.which("lumbarseg")
    if on_path and launcher and Path(on_path).samefile(launcher):
        print_line("Try: lumbarseg demo")
        return
    print_line(f'Call it as: "{program}" demo')
    if on_path and Path(on_path).resolve() != program.resolve():
        print_line(f"(the command lumbarseg is another installation: {on_path})")
    elif launcher and not WINDOWS:
        print_line(f'or, for its short name in this shell: export PATH="{launcher.parent}:$PATH"')


def link_program(program: Path) -> Path | None:
    """Link the program in ~/.local/bin or ~/bin, on Windows in WindowsApps; None where that is impossible."""
    if WINDOWS:
        launcher = Path(os.environ.get("LOCALAPPDATA", "")) / "Microsoft" / "WindowsApps" / "lumbarseg.cmd"
    else:
        folders = [Path.home() / ".local" / "bin", Path.home() / "bin"]
        search_path = os.environ.get("PATH", "").split(os.pathsep)
        launcher = next((folder for folder in folders if str(folder) in search_path), folders[0]) / "lumbarseg"
    try:
        if WINDOWS:
            launcher.write_text(f'@"{program}" %*\n', encoding="mbcs")
            return launcher
        launcher.parent.mkdir(parents=True, exist_ok=True)
        if launcher.is_symlink() and (not launcher.exists() or launcher.samefile(program)):
            launcher.unlink()  # a link of an earlier installation, or a broken one
        launcher.symlink_to(program)
    except OSError:
        return None
    return launcher


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
