"""Installs lumbarseg from the folder that holds this file, without network: python install.py [FOLDER]

It runs on the other computer, with nothing but the Python there, before anything is installed.
"""

from __future__ import annotations

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

HERE = Path(__file__).resolve().parent
WINDOWS = os.name == "nt"
CHECKSUM_FILE = "SHA256SUMS"
MARKER_FILE = "lumbarseg-pack.json"  # in an environment that this program made, and may therefore replace


class InstallError(Exception):
    """Why nothing is installed, in one line."""


def main(arguments: list[str]) -> int:
    """Check everything, install, try it out, and say how it is called; 1 when it is refused."""
    try:
        about = json.loads((HERE / "pack.json").read_text(encoding="utf-8"))
        if arguments == ["--fits"]:  # install.sh and install.bat look for a Python with this
            return 0 if matching_wheels(about) else 1
        if len(arguments) > 1 or arguments[:1] == ["--help"]:
            print_line("usage: install [FOLDER]")
            return 2
        if not matching_wheels(about):
            raise InstallError(f"this pack is made for {describe_targets(about)}; this is {_describe_computer()}")
        folder = Path(arguments[0]).expanduser().absolute() if arguments else default_folder()
        verify_checksums()
        install(about, folder)
        print_instructions(about, folder / ("Scripts/lumbarseg.exe" if WINDOWS else "bin/lumbarseg"))
    except (InstallError, OSError, ValueError) as error:
        sys.stderr.write(f"lumbarseg: error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("lumbarseg: error: interrupted; nothing is installed\n")
        return 130
    return 0


def print_line(text: str) -> None:
    """A line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def matching_wheels(about: dict[str, Any]) -> list[str]:
    """Names of the wheels for this computer and this Python, none when the pack is not made for them."""
    mine = [platform.system(), platform.machine(), ".".join(map(str, sys.version_info[:2]))]
    found = [t["wheels"] for t in about["targets"] if [t["system"], t["machine"], t["python"]] == mine]
    return found[0] if found and sys.implementation.name == "cpython" else []


def describe_targets(about: dict[str, Any]) -> str:
    """What the pack is made for."""
    return "; ".join(f"{t['system']} {t['machine']}, Python {t['python']}" for t in about["targets"])


def _describe_computer() -> str:
    return f"{platform.system()} {platform.machine()}, {platform.python_implementation()} {platform.python_version()}"


def default_folder() -> Path:
    """Where programs of one user go."""
    if WINDOWS:
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lumbarseg"
    return Path.home() / ".local" / "share" / "lumbarseg"


def verify_checksums() -> None:
    """Compare every file of the pack with its checksum."""
    lines = (HERE / CHECKSUM_FILE).read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    print_line(f"checking {len(sums)} files")
    for name, digest in sums.items():
        path = HERE / name
        if not path.is_file():
            raise InstallError(f"{path}: missing; unzip the pack again")
        if _sha256(path) != digest:
            raise InstallError(f"{path}: does not fit its checksum: changed or damaged; get the pack again")


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def install(about: dict[str, Any], folder: Path) -> None:
    """An environment of its own in `folder`, which takes the place of an older one; removed again when it fails."""
    if folder.exists() and not folder.is_dir():
        raise InstallError(f"{folder}: a file stands there; name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER_FILE).is_file():
        raise InstallError(f"{folder}: holds other things; name a folder that is empty or not there")
    print_line(f"installing into {folder}")
    try:
        venv.EnvBuilder(clear=True, symlinks=not WINDOWS).create(str(folder))
        shutil.copyfile(str(HERE / "pack.json"), str(folder / MARKER_FILE))
        wheels = [
            HERE / "wheels" / name for name in matching_wheels(about)
        ]  # by name: whatever else lies there is not taken
        (pip,) = [path for path in wheels if path.name.startswith("pip-")]
        quiet = ["--isolated", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
        _run(folder, pip / "pip", "install", *quiet, "--no-index", "--no-cache-dir", *wheels)
        if about["model"]:
            share = folder / "share" / "lumbarseg"
            share.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(HERE / "model" / about["model"]), str(share / about["model"]))
        print_line("trying it out")
        _run(folder, "-c", "from lumbarseg.inference import Model, default; Model.load(default())")
    except BaseException:
        shutil.rmtree(str(folder), ignore_errors=True)
        raise


def _run(folder: Path, *words: str | Path) -> None:
    python = folder / ("Scripts/python.exe" if WINDOWS else "bin/python")
    done = subprocess.run(  # noqa: S603
        [str(python), "-I", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or [f"exit {done.returncode}"]
        if any("No space left" in line for line in lines):
            raise InstallError(f"{folder}: the disk is full; make room, or name another folder")
        raise InstallError(next((line for line in lines if line.startswith("ERROR:")), lines[-1]))


def print_instructions(about: dict[str, Any], program: Path) -> None:
    """Make the program callable by its name where that can be done without changing settings, and say how."""
    door = create_launcher(program)
    model = f" with the model {about['model']}" if about["model"] else ""
    print_line(f"lumbarseg {about['version']} is installed{model}.")
    called = shutil.which("lumbarseg")
    if called and door and Path(called).samefile(door):
        print_line("Try: lumbarseg demo")
        return
    print_line(f'Call it as: "{program}" demo')
    if called and Path(called).resolve() != program.resolve():
        print_line(f"(lumbarseg alone is another one here: {called})")
    elif door and not WINDOWS:
        print_line(f'or, for its short name in this shell: export PATH="{door.parent}:$PATH"')


def create_launcher(program: Path) -> Path | None:
    """A link to the program in a folder for programs of this user; None where there is no such folder or no room."""
    if WINDOWS:
        door = Path(os.environ.get("LOCALAPPDATA", "")) / "Microsoft" / "WindowsApps" / "lumbarseg.cmd"
    else:
        usual = [Path.home() / ".local" / "bin", Path.home() / "bin"]
        search = os.environ.get("PATH", "").split(os.pathsep)
        door = next((place for place in usual if str(place) in search), usual[0]) / "lumbarseg"
    try:
        if WINDOWS:
            door.write_text(f'@"{program}" %*\n', encoding="mbcs")
            return door
        door.parent.mkdir(parents=True, exist_ok=True)
        if door.is_symlink() and (not door.exists() or door.samefile(program)):
            door.unlink()  # ours, of before, or one that leads nowhere
        door.symlink_to(program)
    except OSError:
        return None
    return door


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
