"""Install and run from an offline pack, as another user, without network: python -m benchmarks.offline

`lumbarseg pack` makes a pack for a Python of this computer. Then, in a network namespace without any route, another
user (nobody if root runs this; else this user) with a new home whose path has blanks unzips it, runs its installer
and segments an exam: a phantom on the grid of a routine exam. Writes benchmarks/results/offline.json, and the result
into docs/offline.md.
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
UNPRIVILEGED_ID = 65534
CANDIDATES = ("/usr/bin/python3", "/usr/local/bin/python3", *(f"/usr/bin/python{python}" for python in PYTHON_VERSIONS))
PROBE_SCRIPT = """
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
    """Another user on a computer without network.

    home : a new folder
    python : the Python that the user has
    """

    home: Path
    python: Path

    def command(self, command: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs `command` as that user: no network, their home, a clean environment."""
        isolation = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-current-user"]
        other = ["setpriv", f"--reuid={UNPRIVILEGED_ID}", f"--regid={UNPRIVILEGED_ID}", "--clear-groups", "--"]
        search = f"{self.home}/.local/bin:{self.python.parent}:/usr/bin:/bin"
        clean = ["env", "-i", "-C", self.home, f"HOME={self.home}", f"PATH={search}", "LANG=C.UTF-8"]
        return [str(word) for word in (*isolation, *(other if os.geteuid() == 0 else ()), *clean, *command)]

    def run(self, *command: str | Path) -> tuple[float, str]:
        """Return seconds and output of a command; RuntimeError with its output if it fails."""
        start = time.perf_counter()
        process = subprocess.run(self.command(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if process.returncode not in (0, 3):
            raise RuntimeError(f"{' '.join(map(str, command))}: exit {process.returncode}: {process.stdout}")
        return time.perf_counter() - start, process.stdout


def create_offline_user(folder: Path, python: Path | None = None) -> OfflineUser:
    """Return another user with a new home in `folder`; RuntimeError if this computer cannot isolate one.

    python : of the user; by default the first of the system's that a pack can be made for
    """
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        raise RuntimeError("no unshare or setpriv here: a computer without network cannot be shown")
    home = folder / "another home"
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
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
    """Return the version of a Python, like "3.11"."""
    output = subprocess.run([python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    return ".".join(output.stdout.split())


def make_pack(out: Path, python: str, model: Path | None = None) -> Row:
    """Make a pack for this computer, and return its size and seconds; RuntimeError if it is refused."""
    start = time.perf_counter()
    command = [*([model] if model else []), "-o", out, "--python", python, "--json"]
    process = subprocess.run(
        [sys.executable, "-m", "lumbarseg", "pack", *map(str, command)],
        capture_output=True,
        text=True,
        env=_environment(),
    )
    if process.returncode:
        raise RuntimeError(process.stderr.strip().splitlines()[-1])
    result = json.loads(process.stdout)
    return {"seconds": round(time.perf_counter() - start, 1)} | {
        name: result[name] for name in ("bytes", "wheels", "targets", "model")
    }


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def use_pack(other: OfflineUser, pack: Path, exam: Path) -> tuple[Row, dict[str, float]]:
    """Return facts about the computer of the user, and the seconds of each step from the zip file to the result."""
    for file in (pack, exam):
        shutil.copy(file, other.home)
        os.chmod(other.home / file.name, 0o644)
    facts = json.loads(other.run(other.python, "-c", PROBE_SCRIPT)[1])
    if facts["routes"] or facts["a_connection"] == "connected":
        raise RuntimeError(f"there is a network: {facts}")
    steps = {
        "unzip": other.run(other.python, "-m", "zipfile", "-e", pack.name, "."),
        "install": other.run("sh", f"{PACK_FOLDER}/install.sh"),
        "segment, the first time": other.run("lumbarseg", "segment", exam.name, "-o", "my answers"),
        "segment, again": other.run("lumbarseg", "segment", exam.name, "-o", "my answers", "--overwrite"),
    }
    output = steps["segment, again"][1].splitlines()
    installed = sum(path.lstat().st_size for path in (other.home / ".local").rglob("*") if not path.is_dir())
    facts |= {"answer": output[1].strip(), "installed_bytes": installed}
    return facts, {name: round(seconds, 2) for name, (seconds, _) in steps.items()}


def measure(folder: Path, python: Path | None = None) -> Row:
    """Measure everything; files lie in `folder`."""
    folder.chmod(0o755)
    other = create_offline_user(folder, python)
    pack, exam = folder / "lumbarseg-offline.zip", folder / "routine.nii.gz"
    pack_facts = make_pack(pack, version_of(other.python))
    write_image(speed.routine_exam(), exam)
    facts, steps = use_pack(other, pack, exam)
    total_seconds = sum(seconds for name, seconds in steps.items() if name != "segment, again")
    return {
        "machine": machine.machine_facts(),
        "pack": pack_facts,
        "there": {name: value for name, value in facts.items() if name != "home"},
        "steps": steps,
        "targets": [
            speed.target_row("the pack, for one platform and one Python", 250, pack_facts["bytes"] / 1e6, "MB"),
            speed.target_row("from the zip file to the first answer", 60, total_seconds, "s"),
        ],
    }


def format_results(result: Row) -> str:
    """Format the result in Markdown."""
    facts, steps = result["there"], result["steps"]
    return "\n".join(
        [
            f"{machine.describe_machine(result['machine'])}; user {facts['uid']}, {len(facts['routes'])} routes, "
            f'a connection: "{facts["a_connection"]}".',
            "",
            speed.table(result["targets"]),
            "",
            "Steps there, s: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items()) + ".",
            f"Installed: {facts['installed_bytes'] / 1e6:.0f} MB. Packed in {result['pack']['seconds']:.0f} s.",
        ]
    )


def main() -> int:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.offline", description=__doc__)
    parser.add_argument("--python", type=Path, help="the Python that the other user has (default: the system's)")
    parser.add_argument("-o", type=Path, default=RESULTS, help="output file (JSON)")
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
