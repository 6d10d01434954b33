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

HERE = Path(__file__).resolve().parent
WINDOWS = os.name == "nt"
SUMS = "SHA256SUMS"


class Refusal(Exception):
    """Why nothing is installed, in one line."""


def main(words: list[str]) -> int:
    """Check everything, install, try it out, and say how it is called; 1 when it is refused."""
    try:
        about = json.loads((HERE / "pack.json").read_text(encoding="utf-8"))
        if words == ["--fits"]:  # install.sh and install.bat look for a Python with this
            return 0 if fits(about) else 1
        if len(words) > 1 or words[:1] == ["--help"]:
            say("usage: install [FOLDER]")
            return 2
        if not fits(about):
            raise Refusal(f"this pack is made for {told(about)}; this is {_this()}")
        folder = Path(words[0]).expanduser().absolute() if words else usual()
        check()
        install(about, folder)
        farewell(about, folder)
    except (Refusal, OSError, ValueError) as error:
        sys.stderr.write(f"lumbarseg: error: {error}\n")
        return 1
    return 0


def say(text: str) -> None:
    """A line for the person who waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def fits(about: dict) -> bool:
    """Whether the pack has wheels for this computer and this Python."""
    mine = [platform.system(), platform.machine(), "%d.%d" % sys.version_info[:2]]
    return sys.implementation.name == "cpython" and any(
        [t["system"], t["machine"], t["python"]] == mine for t in about["targets"]
    )


def told(about: dict) -> str:
    """What the pack is made for."""
    return "; ".join(f"{t['system']} {t['machine']}, Python {t['python']}" for t in about["targets"])


def _this() -> str:
    return f"{platform.system()} {platform.machine()}, {platform.python_implementation()} {platform.python_version()}"


def usual() -> Path:
    """Where programs of one user go."""
    if WINDOWS:
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "lumbarseg"
    return Path.home() / ".local" / "share" / "lumbarseg"


def check() -> None:
    """Compare every file with its checksum; a file too many among the wheels is refused, too."""
    sums = dict(reversed(line.split("  ", 1)) for line in (HERE / SUMS).read_text(encoding="utf-8").splitlines())
    say(f"checking {len(sums)} files")
    for name, digest in sums.items():
        path = HERE / name
        if not path.is_file():
            raise Refusal(f"{path}: missing; unzip the pack again")
        if _digest(path) != digest:
            raise Refusal(f"{path}: does not fit its checksum: changed or damaged; get the pack again")
    for folder in ("wheels", "model"):
        for path in (HERE / folder).glob("*"):
            if path.relative_to(HERE).as_posix() not in sums:
                raise Refusal(f"{path}: does not belong to the pack; unzip it into a fresh folder")


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def install(about: dict, folder: Path) -> None:
    """An environment of its own in `folder`, which takes the place of an older one; removed again when it fails."""
    if folder.exists() and not folder.is_dir():
        raise Refusal(f"{folder}: a file stands there; name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").is_file():
        raise Refusal(f"{folder}: holds other things; name a folder that is empty or not there")
    say(f"installing into {folder}")
    try:
        venv.EnvBuilder(clear=True, symlinks=not WINDOWS).create(str(folder))
        (pip,) = (HERE / "wheels").glob("pip-*.whl")
        words = ["--no-index", "--find-links", str(HERE / "wheels"), "--only-binary=:all:", "--no-cache-dir"]
        quiet = ["--isolated", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
        _run(folder, str(pip / "pip"), "install", *quiet, *words, f"lumbarseg=={about['version']}")
        if about["model"]:
            share = folder / "share" / "lumbarseg"
            share.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(HERE / "model" / about["model"]), str(share / about["model"]))
        say("trying it out")
        _run(folder, "-c", "from lumbarseg.model import Model, default; Model.load(default())")
    except BaseException:
        shutil.rmtree(str(folder), ignore_errors=True)
        raise


def _run(folder: Path, *words: str) -> None:
    python = folder / ("Scripts/python.exe" if WINDOWS else "bin/python")
    done = subprocess.run(  # noqa: S603
        [str(python), "-I", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.strip()] or [f"exit {done.returncode}"]
        full = [line for line in lines if "No space left" in line]
        raise Refusal(f"{folder}: the disk is full; make room, or name another folder" if full else lines[-1])


def farewell(about: dict, folder: Path) -> None:
    """Make the program callable by its name where that can be done without changing settings, and say how."""
    program = folder / ("Scripts/lumbarseg.exe" if WINDOWS else "bin/lumbarseg")
    door = opened(program)
    model = f" with the model {about['model']}" if about["model"] else ""
    say(f"lumbarseg {about['version']} is installed{model}.")
    if door is not None and _on_path(door.parent):
        say("Try: lumbarseg demo")
        return
    say(f'Call it as: "{program}" demo')
    if door is not None:
        say(f'or, for its short name in this shell: export PATH="{door.parent}:$PATH"')


def opened(program: Path) -> Path | None:
    """A link to the program in a folder for programs of this user; None when a stranger's file has its name there."""
    if WINDOWS:
        door = Path(os.environ.get("LOCALAPPDATA", "")) / "Microsoft" / "WindowsApps" / "lumbarseg.cmd"
    else:
        usual = [Path.home() / ".local" / "bin", Path.home() / "bin"]
        door = next((place for place in usual if _on_path(place)), usual[0]) / "lumbarseg"
    try:
        if WINDOWS:
            door.write_text(f'@"{program}" %*\n', encoding="mbcs")
            return door
        if door.exists() and not door.is_symlink():
            return None
        door.parent.mkdir(parents=True, exist_ok=True)
        if door.is_symlink():
            door.unlink()
        door.symlink_to(program)
    except OSError:
        return None
    return door


def _on_path(folder: Path) -> bool:
    return str(folder) in os.environ.get("PATH", "").split(os.pathsep)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
