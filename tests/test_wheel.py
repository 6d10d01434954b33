"""The wheel as a stranger gets it: built, installed into a fresh environment, and used there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 500e6  # bytes of site-packages
MODEL_LIMIT = 10e6

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=cwd, env=env)
    assert result.returncode in (0, 3), f"{command}: {result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The folder of programs of an environment that holds the wheel and what it asks for."""
    folder = wheel.parent / "fresh"
    run(sys.executable, "-m", "venv", folder, cwd=wheel.parent)
    lock = ROOT / "requirements" / "core.txt"
    run(folder / "bin" / "pip", "install", "-q", "-c", lock, wheel, cwd=wheel.parent)
    return folder / "bin"


def test_the_wheel_holds_the_model_the_licence_and_no_stray_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    assert 0 < sizes["lumbarseg/inference/shipped.onnx"] < MODEL_LIMIT
    assert "lumbarseg/py.typed" in sizes
    assert {Path(name).name for name in sizes if "licenses" in name} == {"LICENSE", "NOTICE"}
    assert {Path(name).suffix for name in sizes if name.startswith("lumbarseg/")} == {
        *(".py", ".typed", ".onnx"),
        *(".sh", ".bat", ".txt"),  # installers of a pack
        *(".html", ".css", ".js", ".json"),  # the page
        ".md",  # the README of a MONAI bundle
    }
    in_tree = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src" / "lumbarseg").rglob("*.py")}
    assert in_tree == {name for name in sizes if name.endswith(".py")}


def test_it_runs_where_only_the_core_is_installed(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "lumbarseg", "--version", cwd=tmp_path).startswith("lumbarseg ")
    assert "CC BY 4.0" in run(installed / "lumbarseg", "info", cwd=tmp_path)
    output = run(installed / "lumbarseg", "demo", "-o", tmp_path / "demo", cwd=tmp_path)
    assert str(tmp_path / "demo") in output
    report = json.loads((tmp_path / "demo" / "demo_report.json").read_text())
    assert [level["name"] for level in report["levels"] if level["name"].startswith("L")]


def test_the_core_install_is_small_and_has_no_torch(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site,) = (installed.parent / "lib").glob("python*/site-packages")
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file() and not path.is_symlink())
    with capsys.disabled():
        print(f"\ncore install: {size / 1e6:.0f} MB")
    assert size < LIMIT
    names = {path.name.lower().partition("-")[0] for path in site.iterdir()}
    assert not names & {"torch", "monai", "onnx", "simpleitk", "tensorboard"}
