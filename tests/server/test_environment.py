"""MONAI Label's environment: locked versions, separate, never replaces another folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lumbarseg.errors import ServeError
from lumbarseg.server import environment

ROOT = Path(__file__).resolve().parents[2]


def test_every_package_has_one_locked_version() -> None:
    lines = [line for line in environment.lock_file().read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    names = [line.partition("==")[0].lower().replace("_", "-") for line in lines]
    assert len(set(names)) == len(names) and {"torch", "monai", "monailabel", "onnxruntime"} <= set(names)
    stubs = {"torchvision", "pydicom-seg", "numpymaxflow", "itk"}
    assert not stubs & set(names)
    core = dict(line.split("==") for line in (ROOT / "requirements/core.txt").read_text().splitlines()[1:])
    lock = {name: line.partition("==")[2] for name, line in zip(names, lines, strict=True)}
    assert {name: lock.get(name) for name in core} == core  # same results as the core install


def test_default_folder_depends_on_cache_and_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    first = environment.default_folder()
    assert first.is_relative_to(tmp_path / "my cache" / "lumbarseg")
    other = tmp_path / "other.txt"
    other.write_text("torch==0.0.1\n")
    monkeypatch.setattr(environment, "lock_file", lambda: other)
    assert environment.default_folder() != first


def test_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ServeError, match="contains something else"):
        environment.ensure_installed(tmp_path, print)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_other_environment_is_left_alone(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    with pytest.raises(ServeError, match="was not made by lumbarseg serve"):
        environment.ensure_installed(tmp_path / "venv", print)
    assert (tmp_path / "venv" / "pyvenv.cfg").is_file()


def test_environment_is_installed_again_only_for_another_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "with blanks"
    lock = tmp_path / "lock.txt"
    monkeypatch.setattr(environment, "lock_file", lambda: lock)
    messages: list[str] = []
    lock.write_text("torch==0.0.1\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ServeError, match=r"pip cannot install: ERROR: .*torch==0.0.1"):
        environment.ensure_installed(folder, messages.append)
    assert not environment.is_complete(folder)
    wheel(tmp_path, "torch", "0.0.1")
    packages: list[tuple[str, int]] = []
    # an incomplete environment is installed again
    python = environment.ensure_installed(folder, messages.append, lambda name, total: packages.append((name, total)))
    assert [total for _, total in packages] == [1]
    run = subprocess.run([python, "-c", "import torch; print(torch.__file__)"], capture_output=True, text=True)
    assert run.stdout.strip().startswith(str(folder))
    count = len(messages)
    assert environment.ensure_installed(folder, messages.append) == python and len(messages) == count
    lock.write_text("torch==0.0.1\n# changed\n")
    assert not environment.is_complete(folder)
    commands: list[list[str]] = []

    def record(command: list[str], _: str) -> list[str]:
        commands.append(command)
        folder.mkdir(exist_ok=True)
        return []

    monkeypatch.setattr(environment, "_run_command", record)
    environment.ensure_installed(folder, messages.append)
    assert [command[2] for command in commands] == ["venv", "pip", "pip"]


def wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel with one empty module."""
    import zipfile

    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


def test_package_path_contains_only_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lumbarseg

    home = tmp_path / "site-packages" / "lumbarseg"
    home.mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home.parent / "numpy.py").write_text("raise RuntimeError('another environment')")
    monkeypatch.setattr(lumbarseg, "__file__", str(home / "__init__.py"))
    folder = environment.package_path(tmp_path / "env")
    assert [path.name for path in folder.iterdir()] == ["lumbarseg"]
    assert environment.package_path(tmp_path / "env") == folder
