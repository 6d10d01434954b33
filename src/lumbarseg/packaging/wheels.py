"""Wheels for another computer: whatever lumbarseg needs there, in the versions that run here."""

from __future__ import annotations

import email
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from lumbarseg.errors import PackagingError

from .targets import Target

PIP = "pip"
"""Goes into every pack: on some systems Python comes without it, and an old one does not know new wheels."""

_NETWORK_ERRORS = (
    "connection",
    "name resolution",
    "failed to resolve",
    "timed out",
    "proxyerror",
    "sslerror",
    "unreachable",
)


def collect_wheels(own_wheel: Path, target: Target, folder: Path) -> list[Path]:
    """Wheels of all that the wheel `own` needs on the target, and of pip; they are downloaded into `folder`.

    What is needed the wheels say themselves: pip, asked for another computer, reads the conditions of a requirement as
    if it were this one. PackagingError when one is not to be had, or none are.
    """
    have = {_package_name(own_wheel): own_wheel}
    asked: set[str] = set()
    todo = [Requirement(PIP), *read_requirements(own_wheel, target)]
    while todo:
        missing = {canonicalize_name(r.name): r for r in todo if canonicalize_name(r.name) not in have}
        if missing:
            download_wheels(
                [PIP if name == PIP else pin_to_installed_version(r) for name, r in missing.items()], target, folder
            )
            have |= {_package_name(path): path for path in sorted(folder.glob("*.whl"))}
        for requirement in todo:
            _check_requirement(requirement, have, target)
        asked |= {str(requirement) for requirement in todo}
        found = [
            r for asking in todo for r in read_requirements(have[canonicalize_name(asking.name)], target, asking.extras)
        ]
        todo = [requirement for requirement in found if str(requirement) not in asked]
    return sorted(have.values())


def read_requirements(wheel: Path, target: Target, extras: Sequence[str] | set[str] = ()) -> list[Requirement]:
    """What a wheel asks for on the target, with these of its extras."""
    lines = read_metadata(wheel).get_all("Requires-Dist") or []
    requirements = [Requirement(line) for line in lines]
    wanted = [{**target.environment_markers, "extra": extra} for extra in ("", *sorted(extras))]
    return [r for r in requirements if r.marker is None or any(r.marker.evaluate(dict(where)) for where in wanted)]


def read_metadata(wheel: Path) -> email.message.Message:
    """What a wheel says about itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def pin_to_installed_version(requirement: Requirement) -> str:
    """The version that runs here, where it is one that may; else what is asked for."""
    name = requirement.name
    try:
        running = version(name).partition("+")[0]
    except PackageNotFoundError:
        return f"{name}{requirement.specifier}"
    allowed = requirement.specifier.contains(running, prereleases=True)
    return f"{name}=={running}" if allowed else f"{name}{requirement.specifier}"


def download_wheels(requirements: Sequence[str], target: Target, folder: Path) -> None:
    """Download wheels, without what they need in turn; nothing is taken from pip's cache."""
    words = ["download", "--quiet", "--no-deps", "--no-cache-dir", "--retries", "1", "--dest", str(folder)]
    refused = run_pip([*words, *target.pip_options, *requirements])
    if refused:
        raise PackagingError(explain_pip_error(refused, str(target)))


def run_pip(arguments: Sequence[str]) -> str:
    """Run this Python's pip; what it complained of when it failed, else nothing."""
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return "" if done.returncode == 0 else done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}"


def explain_pip_error(pip_output: str, target_name: str) -> str:
    """What pip's complaint means, in one line."""
    lowered = pip_output.lower()
    if "no space left" in lowered:
        return "wheels cannot be written: the disk is full; make room, or choose another folder with -o"
    if "no module named pip" in lowered:
        return "wheels are fetched by pip, which this Python lacks; get it with: python -m ensurepip"
    if any(word in lowered for word in _NETWORK_ERRORS):
        return (
            "the package index cannot be reached; a pack is made where there is a network, and used where there is none"
        )
    lines = [line.removeprefix("ERROR: ") for line in pip_output.splitlines() if line.startswith("ERROR: ")]
    for line in lines:
        if line.startswith("No matching distribution found for "):
            return f"{line.removeprefix('No matching distribution found for ')} has no wheel for {target_name}"
    return f"pip gives up: {(lines or pip_output.splitlines())[-1]}"


def _package_name(wheel: Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _check_requirement(requirement: Requirement, have: dict[str, Path], target: Target) -> None:
    wheel = have.get(canonicalize_name(requirement.name))
    if wheel is None:
        raise PackagingError(f"pip brought no wheel of {requirement.name} for {target}")
    found = parse_wheel_filename(wheel.name)[1]
    if not requirement.specifier.contains(found, prereleases=True):
        raise PackagingError(f"{requirement} is needed for {target}, and {requirement.name} {found} was found")
