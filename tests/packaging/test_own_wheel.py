from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import pytest

from lumbarseg.errors import FileError, PackagingError
from lumbarseg.packaging import own_wheel

PACKAGE = "nibabel"  # pure Python, with programs, data and a licence


def installed(site: Path) -> Distribution:
    (about,) = site.glob("*.dist-info")
    return PathDistribution(about)


def pip_install(wheel: Path, site: Path) -> Distribution:
    arguments = ["install", "-q", "--no-index", "--no-deps", "--no-compile", "--target", site, wheel]
    subprocess.run([sys.executable, "-m", "pip", *map(str, arguments)], check=True, capture_output=True)
    return installed(site)


def test_a_rebuilt_wheel_installs_the_same_files(tmp_path: Path) -> None:
    wheel = own_wheel.rebuild_wheel(distribution(PACKAGE), tmp_path)
    second = own_wheel.rebuild_wheel(pip_install(wheel, tmp_path / "site"), tmp_path / "second")
    assert wheel.name == second.name == f"{PACKAGE}-{distribution(PACKAGE).version}-py3-none-any.whl"
    assert wheel.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = next(name for name in names if name.endswith("/RECORD"))
        listed = [row[0] for row in csv.reader(io.StringIO(archive.read(record).decode()))]
    assert sorted(listed) == sorted(names)
    assert not [name for name in names if "__pycache__" in name or ".." in name or name.endswith("/INSTALLER")]
    modules = {str(file) for file in distribution(PACKAGE).files or () if file.suffix == ".py"}
    assert modules <= set(names)


def test_an_installation_without_a_file_list_raises_an_error(tmp_path: Path) -> None:
    about = tmp_path / "thing-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: thing\nVersion: 1\n")
    with pytest.raises(PackagingError, match="no list of its files"):
        own_wheel.rebuild_wheel(installed(tmp_path), tmp_path)


def test_a_deleted_file_is_named(tmp_path: Path) -> None:
    about = tmp_path / "thing-1.dist-info"
    about.mkdir()
    (about / "WHEEL").write_text("Tag: py2-none-any\nTag: py3-none-any\n")
    (about / "RECORD").write_text("thing-1.dist-info/WHEEL,,\nthing/a.py,,\n")
    with pytest.raises(FileError, match=r"a\.py: cannot be read: not found"):
        own_wheel.rebuild_wheel(installed(tmp_path), tmp_path)
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / "a.py").write_text("")
    assert own_wheel.rebuild_wheel(installed(tmp_path), tmp_path).name == "thing-1-py2.py3-none-any.whl"
