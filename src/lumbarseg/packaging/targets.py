"""Computers that a pack can be made for: which wheels fit them, and what their markers say."""

from __future__ import annotations

import platform as host
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lumbarseg.errors import PackagingError

PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
_GLIBC_VERSIONS = ("2_28", "2_27", "2_26", "2_24", "2_17")  # the C library of RHEL 8 and of whatever is newer


@dataclass(frozen=True)
class Platform:
    """A kind of computer. system, kernel, machine: `platform.system`, `sys.platform` and `platform.machine` there.

    tags: of its binary wheels, newest first. All must be listed: asked for `macosx_11_0_arm64` alone, pip silently
    takes an onnxruntime that is years older.
    """

    system: str
    sys_platform: str
    machine: str
    platform_tags: tuple[str, ...]


PLATFORMS = {
    "linux": Platform(
        "Linux", "linux", "x86_64", (*(f"manylinux_{n}_x86_64" for n in _GLIBC_VERSIONS), "manylinux2014_x86_64")
    ),
    "linux-arm64": Platform(
        "Linux", "linux", "aarch64", (*(f"manylinux_{n}_aarch64" for n in _GLIBC_VERSIONS), "manylinux2014_aarch64")
    ),
    "macos": Platform("Darwin", "darwin", "arm64", tuple(f"macosx_{n}_0_arm64" for n in (14, 13, 12, 11))),
    "windows": Platform("Windows", "win32", "AMD64", ("win_amd64",)),
}


@dataclass(frozen=True)
class Target:
    """A platform, by its name, and a version of Python ("3.11"); PackagingError when there is none of that name."""

    platform: str
    python: str

    def __post_init__(self) -> None:
        if self.platform not in PLATFORMS:
            raise PackagingError(f"no pack for platform {self.platform!r}; choose from {', '.join(PLATFORMS)}")
        if self.python not in PYTHON_VERSIONS:
            raise PackagingError(f"no pack for Python {self.python!r}; choose from {', '.join(PYTHON_VERSIONS)}")

    def __str__(self) -> str:
        return f"{self.platform}, Python {self.python}"

    @property
    def platform_spec(self) -> Platform:
        """What is known about its platform."""
        return PLATFORMS[self.platform]

    @property
    def environment_markers(self) -> dict[str, str]:
        """What environment markers (PEP 508) say there; of the patch version the first, which lacks most."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "nt" if self.platform_spec.sys_platform == "win32" else "posix",
            "platform_machine": self.platform_spec.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": self.platform_spec.system,
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": self.platform_spec.sys_platform,
        }

    @property
    def pip_options(self) -> list[str]:
        """Options that make pip choose wheels for it."""
        tags = [word for tag in self.platform_spec.platform_tags for word in ("--platform", tag)]
        abi = f"cp{self.python.replace('.', '')}"
        return ["--only-binary=:all:", "--implementation", "cp", "--python-version", self.python, "--abi", abi, *tags]


def select_targets(platforms: Sequence[str], pythons: Sequence[str]) -> list[Target]:
    """Every platform with every version of Python, each once; this computer's where nothing is named.

    PackagingError when one is not known, or this computer is none of them.
    """
    return [
        Target(name, python)
        for name in dict.fromkeys(platforms or [current_platform()])
        for python in dict.fromkeys(pythons or [f"{sys.version_info.major}.{sys.version_info.minor}"])
    ]


def current_platform() -> str:
    """This computer's platform; PackagingError when no pack is made for such a one."""
    system, machine = host.system(), host.machine()
    for name, kind in PLATFORMS.items():
        if (kind.system, kind.machine) == (system, machine):
            return name
    raise PackagingError(f"no pack for this computer ({system} {machine}); name another with --platform")
