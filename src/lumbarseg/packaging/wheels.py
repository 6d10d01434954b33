"""Wheels for another computer: the dependencies of lumbarseg there, in the versions that are installed here."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import zipfile
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from lumbarseg.errors import PackagingError

from .targets import Target

PIP = "pip"
"""Part of each pack: some systems have Python without pip, and an old pip does not know new wheels."""

_NETWORK_ERRORS = "connection|name resolution|failed to resolve|timed out|proxyerror|sslerror|unreachable"
_NO_WHEEL = "No matching distribution found for "


def collect_wheels(own_wheel: Path, target: Target, folder: Path) -> list[Path]:
    """Download pip and all dependencies of `own_wheel` on the target into `folder`; return all wheels.

    The dependencies are read from the wheels, because pip evaluates environment markers for this computer even when it
    downloads for another one. PackagingError when a wheel is not available.
    """
    wheels = {_package_name(own_wheel): own_wheel}
    processed: set[str] = set()
    pending = [Requirement(PIP), *read_requirements(own_wheel, target)]
    while pending:
        missing = {canonicalize_name(r.name): r for r in pending if canonicalize_name(r.name) not in wheels}
        if missing:
            pins = [PIP if name == PIP else pin_to_installed_version(r) for name, r in missing.items()]
            download_wheels(pins, target, folder)
            wheels |= {_package_name(path): path for path in sorted(folder.glob("*.whl"))}
        new = []
        for requirement in pending:
            wheel = _find_wheel(requirement, wheels, target)
            new += read_requirements(wheel, target, requirement.extras)
        processed |= {str(requirement) for requirement in pending}
        pending = [requirement for requirement in new if str(requirement) not in processed]
    return sorted(wheels.values())


def read_requirements(wheel: Path, target: Target, extras: Collection[str] = ()) -> list[Requirement]:
    """Return the requirements of a wheel, with these extras, on the target."""
    requirements = [Requirement(line) for line in read_metadata(wheel).get_all("Requires-Dist") or []]
    environments = [{**target.environment_markers, "extra": extra} for extra in ("", *sorted(extras))]
    return [r for r in requirements if r.marker is None or any(r.marker.evaluate(dict(e)) for e in environments)]


def read_metadata(wheel: Path) -> email.message.Message:
    """Read the METADATA file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def pin_to_installed_version(requirement: Requirement) -> str:
    """Return the requirement with the version that is installed here, if that is allowed; else unchanged."""
    unchanged = f"{requirement.name}{requirement.specifier}"
    try:
        installed = version(requirement.name).partition("+")[0]
    except PackageNotFoundError:
        return unchanged
    is_allowed = requirement.specifier.contains(installed, prereleases=True)
    return f"{requirement.name}=={installed}" if is_allowed else unchanged


def download_wheels(requirements: Sequence[str], target: Target, folder: Path) -> None:
    """Download wheels without their dependencies; pip's cache is not used."""
    options = ["download", "--quiet", "--no-deps", "--no-cache-dir", "--retries", "1", "--dest", str(folder)]
    error = run_pip([*options, *target.pip_options, *requirements])
    if error:
        raise PackagingError(explain_pip_error(error, str(target)))


def run_pip(arguments: Sequence[str]) -> str:
    """Run the pip of this Python; return its error output when it fails, else an empty string."""
    command = [sys.executable, "-m", "pip", *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if process.returncode == 0:
        return ""
    return process.stderr.strip() or process.stdout.strip() or f"exit code {process.returncode}"


def explain_pip_error(pip_output: str, target_name: str) -> str:
    """Return one line that explains an error of pip."""
    lowered = pip_output.lower()
    if "no space left" in lowered:
        return "wheels cannot be written: the disk is full; make room, or choose another folder with -o"
    if "no module named pip" in lowered:
        return "wheels are downloaded by pip, which this Python lacks; get it with: python -m ensurepip"
    if re.search(_NETWORK_ERRORS, lowered):
        return "the package index cannot be reached; make the pack on a computer with a network"
    lines = [line.removeprefix("ERROR: ") for line in pip_output.splitlines() if line.startswith("ERROR: ")]
    for line in lines:
        if line.startswith(_NO_WHEEL):
            return f"{line.removeprefix(_NO_WHEEL)} has no wheel for {target_name}"
    return f"pip failed: {(lines or pip_output.splitlines())[-1]}"


def _package_name(wheel: Path) -> str:
    return parse_wheel_filename(wheel.name)[0]


def _find_wheel(requirement: Requirement, wheels: Mapping[str, Path], target: Target) -> Path:
    """Return the wheel that satisfies a requirement; PackagingError when it is missing or has another version."""
    wheel = wheels.get(canonicalize_name(requirement.name))
    if wheel is None:
        raise PackagingError(f"pip downloaded no wheel of {requirement.name} for {target}")
    available = parse_wheel_filename(wheel.name)[1]
    if not requirement.specifier.contains(available, prereleases=True):
        raise PackagingError(
            f"{requirement} is required for {target}, but {requirement.name} {available} was downloaded"
        )
    return wheel
