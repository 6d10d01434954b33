"""Target computers of offline packs: platforms and Python versions, as pip and environment markers see them."""

from __future__ import annotations

import platform as host
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lumbarseg.errors import PackagingError

PYTHON_VERSIONS = ("3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Platform:
    """A kind of computer.

    Attributes
    ----------
    system, sys_platform, machine : `platform.system()`, `sys.platform` and `platform.machine()` there
    platform_tags : tags of its wheels, newest first; pip needs all of them: for `macosx_11_0_arm64` alone it chooses an
        onnxruntime that is years older, without a warning
    """

    system: str
    sys_platform: str
    machine: str
    platform_tags: tuple[str, ...]


def _linux(machine: str) -> Platform:
    """Return Linux with the C library of RHEL 8 or a newer one."""
    tags = [f"manylinux_{glibc}_{machine}" for glibc in ("2_28", "2_27", "2_26", "2_24", "2_17")]
    return Platform("Linux", "linux", machine, (*tags, f"manylinux2014_{machine}"))


PLATFORMS = {
    "linux": _linux("x86_64"),
    "linux-arm64": _linux("aarch64"),
    "macos": Platform("Darwin", "darwin", "arm64", tuple(f"macosx_{n}_0_arm64" for n in (14, 13, 12, 11))),
    "windows": Platform("Windows", "win32", "AMD64", ("win_amd64",)),
}


@dataclass(frozen=True)
class Target:
    """The name of a platform and a Python version ("3.11"); PackagingError for unknown ones."""

    platform: str
    python: str

    def __post_init__(self) -> None:
        for what, value, choices in (("platform", self.platform, PLATFORMS), ("Python", self.python, PYTHON_VERSIONS)):
            if value not in choices:
                raise PackagingError(f"no pack for {what} {value!r}; choose from {', '.join(choices)}")

    def __str__(self) -> str:
        return f"{self.platform}, Python {self.python}"

    @property
    def platform_spec(self) -> Platform:
        """Return the specification of the platform."""
        return PLATFORMS[self.platform]

    @property
    def environment_markers(self) -> dict[str, str]:
        """Return the values of environment markers (PEP 508) there, for the first patch version of Python."""
        spec, full_version = self.platform_spec, f"{self.python}.0"
        return {
            "implementation_name": "cpython",
            "implementation_version": full_version,
            "os_name": "nt" if spec.sys_platform == "win32" else "posix",
            "platform_machine": spec.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": spec.system,
            "platform_version": "",
            "python_full_version": full_version,
            "python_version": self.python,
            "sys_platform": spec.sys_platform,
        }

    @property
    def pip_options(self) -> list[str]:
        """Return options with which pip chooses wheels for the target."""
        tags = [word for tag in self.platform_spec.platform_tags for word in ("--platform", tag)]
        abi = f"cp{self.python.replace('.', '')}"
        return ["--only-binary=:all:", "--implementation", "cp", "--python-version", self.python, "--abi", abi, *tags]


def select_targets(platforms: Sequence[str], pythons: Sequence[str]) -> list[Target]:
    """Return each platform with each Python version; those of this computer when a list is empty.

    PackagingError for an unknown name, or when this computer is none of the platforms.
    """
    return [
        Target(name, python)
        for name in dict.fromkeys(platforms or [current_platform()])
        for python in dict.fromkeys(pythons or [f"{sys.version_info.major}.{sys.version_info.minor}"])
    ]


def current_platform() -> str:
    """Return the platform of this computer; PackagingError when there are no packs for it."""
    system, machine = host.system(), host.machine()
    for name, spec in PLATFORMS.items():
        if (spec.system, spec.machine) == (system, machine):
            return name
    raise PackagingError(f"no pack for this computer ({system} {machine}); name another with --platform")
