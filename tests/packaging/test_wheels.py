from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lumbarseg.errors import PackagingError
from lumbarseg.packaging import wheels, zip_archive
from lumbarseg.packaging.targets import PLATFORMS, Target

LINUX, WINDOWS = Target("linux", "3.11"), Target("windows", "3.13")


def make_wheel(folder: Path, name: str, *requirements: str) -> Path:
    lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {text}" for text in requirements)]
    path = folder / f"{name}-1.0-py3-none-any.whl"
    texts = {
        "METADATA": "\n".join(["Metadata-Version: 2.1", *lines]),
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any",
        "RECORD": "",
    }
    zip_archive.write_zip({f"{name}-1.0.dist-info/{file}": f"{text}\n".encode() for file, text in texts.items()}, path)
    return path


def test_markers_are_evaluated_for_the_target(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path,
        "thing",
        "everywhere",
        "windows-only; sys_platform == 'win32'",
        "old; python_version < '3.12'",
        "more; extra == 'all'",
    )
    assert [r.name for r in wheels.read_requirements(wheel, LINUX)] == ["everywhere", "old"]
    assert [r.name for r in wheels.read_requirements(wheel, WINDOWS)] == ["everywhere", "windows-only"]
    assert [r.name for r in wheels.read_requirements(wheel, WINDOWS, {"all"})] == ["everywhere", "windows-only", "more"]


def test_installed_versions_are_pinned_where_allowed() -> None:
    installed = version("numpy")
    assert wheels.pin_to_installed_version(Requirement("numpy>=2.0")) == f"numpy=={installed}"
    assert wheels.pin_to_installed_version(Requirement("numpy<1.0")) == "numpy<1.0"
    assert wheels.pin_to_installed_version(Requirement("no-such-thing>=3")) == "no-such-thing>=3"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that takes the place of the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    make_wheel(folder, "pip")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_indirect_dependencies_are_collected(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "first", "second[extra]", "for-windows; os_name == 'nt'")
    make_wheel(index, "second", "third; extra == 'extra'", "first")  # and back again
    make_wheel(index, "third")
    make_wheel(index, "for_windows", "third")
    own = make_wheel(tmp_path, "own", "first>=1")
    names = {}
    for target in (LINUX, WINDOWS):
        folder = tmp_path / target.platform
        folder.mkdir()
        names[target] = {path.name.partition("-")[0] for path in wheels.collect_wheels(own, target, folder)}
    assert names[LINUX] == {"own", "pip", "first", "second", "third"}
    assert names[WINDOWS] == names[LINUX] | {"for_windows"}


def test_missing_wheels_are_named_with_the_target(tmp_path: Path, index: Path) -> None:
    with pytest.raises(PackagingError, match=r"^first>=1 has no wheel for windows, Python 3\.13$"):
        wheels.collect_wheels(make_wheel(tmp_path, "own", "first>=1"), WINDOWS, tmp_path)
    make_wheel(index, "first", "second>1.0")
    make_wheel(index, "second")
    with pytest.raises(PackagingError, match=r"second>1\.0 has no wheel"):
        wheels.collect_wheels(make_wheel(tmp_path, "own", "first>=1"), WINDOWS, tmp_path)


def test_conflicting_requirements_raise_an_error(tmp_path: Path, index: Path) -> None:
    make_wheel(index, "first", "second>1.0")
    make_wheel(index, "second")
    with pytest.raises(
        PackagingError, match=r"second>1\.0 is required for linux, Python 3\.11, but second 1\.0 was downloaded"
    ):
        wheels.collect_wheels(make_wheel(tmp_path, "own", "first", "second"), LINUX, tmp_path)


def test_an_unreachable_index_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(PackagingError, match="the package index cannot be reached") as refused:
        wheels.download_wheels(["thing"], LINUX, tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("pip_output", "expected"),
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "the disk is full"),
        (f"{sys.executable}: No module named pip", "python -m ensurepip"),
        ("WARNING: odd\nERROR: something else\n", "pip failed: something else"),
        ("Traceback\nOdd", "pip failed: Odd"),
    ],
)
def test_pip_errors_become_one_line(pip_output: str, expected: str) -> None:
    line = wheels.explain_pip_error(pip_output, str(LINUX))
    assert expected in line and "\n" not in line


def test_platforms_have_python_names() -> None:
    assert {kind.sys_platform for kind in PLATFORMS.values()} == {"linux", "darwin", "win32"}
