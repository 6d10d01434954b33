from __future__ import annotations

import itertools
import platform
import sys

import pytest
from packaging.markers import Marker, default_environment
from packaging.tags import cpython_tags, mac_platforms, sys_tags

from lumbarseg.errors import PackagingError
from lumbarseg.packaging.targets import PLATFORMS, PYTHON_VERSIONS, Target, current_platform, select_targets

TARGETS = [Target(name, python) for name, python in itertools.product(PLATFORMS, PYTHON_VERSIONS)]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_environment_markers_match_python_on_the_target(target: Target) -> None:
    assert set(target.environment_markers) == set(default_environment())
    minor = int(target.python.partition(".")[2])
    for text, true in (
        ("sys_platform == 'win32'", target.platform == "windows"),
        ("platform_system == 'Darwin' and platform_machine == 'arm64'", target.platform == "macos"),
        ("os_name == 'posix'", target.platform != "windows"),
        ("python_version < '3.12'", minor < 12),
        ("python_full_version < '3.13'", minor < 13),
        ("implementation_name == 'cpython'", True),
    ):
        assert Marker(text).evaluate(dict(target.environment_markers)) is true, text


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="tags are those of this computer")
def test_wheel_tags_are_supported_on_this_computer() -> None:
    target = Target("linux", f"3.{sys.version_info.minor}")
    abi = f"cp3{sys.version_info.minor}"
    mine = {str(tag) for tag in sys_tags()}
    assert {f"{abi}-{abi}-{tag}" for tag in target.platform_spec.platform_tags} <= mine
    assert {
        name: value
        for name, value in target.environment_markers.items()
        if "version" not in name and "release" not in name
    } == {
        name: value for name, value in default_environment().items() if "version" not in name and "release" not in name
    }


def test_macos_tags_start_with_the_newest() -> None:
    assert PLATFORMS["macos"].platform_tags[0] == "macosx_14_0_arm64"
    assert set(PLATFORMS["macos"].platform_tags) <= set(mac_platforms((14, 0), "arm64"))
    assert next(iter(cpython_tags((3, 12), platforms=PLATFORMS["macos"].platform_tags))).platform == "macosx_14_0_arm64"


def test_pip_options_select_wheels_of_the_target_only() -> None:
    options = Target("windows", "3.13").pip_options
    assert "--only-binary=:all:" in options
    assert options[options.index("--platform") + 1] == "win_amd64"
    assert options[options.index("--abi") + 1] == "cp313"
    assert options[options.index("--python-version") + 1] == "3.13"


def test_targets_combine_platforms_and_pythons_without_duplicates() -> None:
    result = select_targets(["macos", "windows", "macos"], ["3.12", "3.11"])
    assert [str(target) for target in result] == [
        "macos, Python 3.12",
        "macos, Python 3.11",
        "windows, Python 3.12",
        "windows, Python 3.11",
    ]


@pytest.mark.parametrize(
    ("platforms", "pythons", "expected"),
    [
        (["solaris"], ["3.11"], "'solaris'; choose from linux, linux-arm64, macos, windows"),
        (["linux"], ["3.9"], "'3.9'; choose from 3.11, 3.12, 3.13"),
        (["linux"], ["3.11", "three"], "'three'"),
        ([""], ["3.11"], "''"),
    ],
)
def test_unknown_platforms_and_pythons_raise_errors(platforms: list[str], pythons: list[str], expected: str) -> None:
    with pytest.raises(PackagingError, match=expected):
        select_targets(platforms, pythons)


def test_an_unknown_computer_must_name_a_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    with pytest.raises(PackagingError, match=r"sparc64.*--platform"):
        current_platform()
