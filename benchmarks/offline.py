"""Install and run from a pack, as another user, without network: python -m benchmarks.offline

`lumbarseg pack` makes a pack for a Python of this computer. Then, in a network namespace without any route, a user who
has nothing (nobody, where root runs this; else this one) with a new home, blanks in its path, unzips it, runs its
installer and segments an exam: a phantom on the grid of a routine exam. Writes benchmarks/results/offline.json, and the
figures into docs/offline.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine, readme, speed
from lumbarseg.io import write_image
from lumbarseg.packaging.offline_pack import PACK_FOLDER
from lumbarseg.packaging.targets import PYTHON_VERSIONS

Row = dict[str, Any]
RESULTS = Path(__file__).resolve().parent / "results" / "offline.json"
PAGE = readme.README.parent / "docs" / "offline.md"
NOBODY = 65534
CANDIDATES = ("/usr/bin/python3", "/usr/local/bin/python3", *(f"/usr/bin/python{python}" for python in PYTHON_VERSIONS))
ALONE = """
import json, os, socket
from pathlib import Path
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)  # an address for documentation
    said = "connected"
except OSError as error:
    said = os.strerror(error.errno) if error.errno else str(error)
lines = Path("/proc/net/route").read_text().splitlines()[1:]
print(json.dumps({"uid": os.getuid(), "home": os.environ["HOME"], "routes": lines, "a_connection": said}))
"""


@dataclass(frozen=True)
class OfflineUser:
    """Another user on a computer without network. home: a new folder of theirs; python: the one they have."""

    home: Path
    python: Path

    def command(self, words: Sequence[str | Path]) -> list[str]:
        """`words` as they would run them: no network, their home, nothing of our environment."""
        alone = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-current-user"]
        other = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
        search = f"{self.home}/.local/bin:{self.python.parent}:/usr/bin:/bin"
        clean = ["env", "-i", "-C", self.home, f"HOME={self.home}", f"PATH={search}", "LANG=C.UTF-8"]
        return [str(word) for word in (*alone, *(other if os.geteuid() == 0 else ()), *clean, *words)]

    def run(self, *words: str | Path) -> tuple[float, str]:
        """Seconds and output of a command of theirs; RuntimeError with what it said when it fails."""
        start = time.perf_counter()
        done = subprocess.run(self.command(words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode not in (0, 3):
            raise RuntimeError(f"{' '.join(map(str, words))}: exit {done.returncode}: {done.stdout}")
        return time.perf_counter() - start, done.stdout


def create_offline_user(folder: Path, python: Path | None = None) -> OfflineUser:
    """Another user with a new home in `folder`; RuntimeError where this computer cannot show one.

    python: theirs; else the first of the system's that a pack can be made for.
    """
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        raise RuntimeError("no unshare or setpriv here: a computer without network cannot be shown")
    home = folder / "another home"
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    why = "none is there"
    for candidate in [python] if python else map(Path, CANDIDATES):
        try:
            version = OfflineUser(home, candidate).run(
                candidate, "-c", "import venv, sys; print(*sys.version_info[:2])"
            )[1]
        except RuntimeError as error:
            why = str(error)
            continue
        if ".".join(version.split()) in PYTHON_VERSIONS:
            return OfflineUser(home, candidate)
    raise RuntimeError(
        f"no network namespace, or no Python {', '.join(PYTHON_VERSIONS)} that another user may run: {why}"
    )


def version_of(python: Path) -> str:
    """ "3.11"."""
    said = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    return ".".join(said.stdout.split())


def make_pack(out: Path, python: str, model: Path | None = None) -> Row:
    """Make a pack for this computer; its size, and the seconds that it took. RuntimeError when it is refused."""
    start = time.perf_counter()
    words = [*([model] if model else []), "-o", out, "--python", python, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "lumbarseg", "pack", *map(str, words)],
        capture_output=True,
        text=True,
        env=_environment(),
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    told = json.loads(done.stdout)
    return {"seconds": round(time.perf_counter() - start, 1)} | {
        name: told[name] for name in ("bytes", "wheels", "targets", "model")
    }


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def use_pack(other: OfflineUser, pack: Path, exam: Path) -> tuple[Row, dict[str, float]]:
    """What the other user's computer is like, and the seconds of each step from the zip file to the answer."""
    for file in (pack, exam):
        shutil.copy(file, other.home)
        os.chmod(other.home / file.name, 0o644)
    like = json.loads(other.run(other.python, "-c", ALONE)[1])
    if like["routes"] or like["a_connection"] == "connected":
        raise RuntimeError(f"there is a network: {like}")
    steps = {
        "unzip": other.run(other.python, "-m", "zipfile", "-e", pack.name, "."),
        "install": other.run("sh", f"{PACK_FOLDER}/install.sh"),
        "segment, the first time": other.run("lumbarseg", "segment", exam.name, "-o", "my answers"),
        "segment, again": other.run("lumbarseg", "segment", exam.name, "-o", "my answers", "--overwrite"),
    }
    said = steps["segment, again"][1].splitlines()
    installed = sum(path.lstat().st_size for path in (other.home / ".local").rglob("*") if not path.is_dir())
    like |= {"answer": said[1].strip(), "installed_bytes": installed}
    return like, {name: round(seconds, 2) for name, (seconds, _) in steps.items()}


def measure(folder: Path, python: Path | None = None) -> Row:
    """All figures; what is made lies in `folder`."""
    folder.chmod(0o755)
    other = create_offline_user(folder, python)
    pack, exam = folder / "lumbarseg-offline.zip", folder / "routine.nii.gz"
    made = make_pack(pack, version_of(other.python))
    write_image(speed.routine_exam(), exam)
    like, steps = use_pack(other, pack, exam)
    whole = sum(seconds for name, seconds in steps.items() if name != "segment, again")
    return {
        "machine": machine.machine_facts(),
        "pack": made,
        "there": {name: value for name, value in like.items() if name != "home"},
        "steps": steps,
        "targets": [
            speed.target_row("the pack, for one platform and one Python", 250, made["bytes"] / 1e6, "MB"),
            speed.target_row("from the zip file to the first answer", 60, whole, "s"),
        ],
    }


def format_results(result: Row) -> str:
    """What was measured, in Markdown."""
    there, steps = result["there"], result["steps"]
    return "\n".join(
        [
            f"{machine.describe_machine(result['machine'])}; user {there['uid']}, {len(there['routes'])} routes, a connection: "
            f'"{there["a_connection"]}".',
            "",
            speed.table(result["targets"]),
            "",
            "Steps there, s: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items()) + ".",
            f"Installed: {there['installed_bytes'] / 1e6:.0f} MB. Packed in {result['pack']['seconds']:.0f} s.",
        ]
    )


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.offline", description=__doc__)
    parser.add_argument("--python", type=Path, help="the Python that the other user has (default: the system's)")
    parser.add_argument("-o", type=Path, default=RESULTS, help="where the JSON goes")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="lumbarseg offline ") as folder:
            result = measure(Path(folder), args.python)
    except RuntimeError as error:
        print(f"not measured: {error}")
        return 1
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps(result, indent=1) + "\n")
    if args.o == RESULTS:
        PAGE.write_text(readme.fill_readme(PAGE.read_text(), format_results(result)))
    print(f"\n{format_results(result)}\nanswer: {result['there']['answer']}")
    print(f"\nwritten to {args.o}")
    return 0 if all(t["pass"] for t in result["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
