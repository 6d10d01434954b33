"""The installer of a pack, run as it is on the other computer: what it refuses, before anything is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lumbarseg.packaging import offline_pack, zip_archive
from lumbarseg.packaging.targets import Target, current_platform

CURRENT_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.11" if CURRENT_PYTHON != "3.11" else "3.12"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the folders of programs are those of other systems")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A pack for this computer with one wheel that is none, in a folder with blanks in its name."""
    return write_pack_folder(tmp_path / "from a stick", Target(current_platform(), CURRENT_PYTHON))


def write_pack_folder(folder: Path, *targets: Target) -> Path:
    folder.mkdir(parents=True)
    wheel = folder / "lumbarseg-7-py3-none-any.whl"
    zip_archive.write_zip({"lumbarseg-7.dist-info/METADATA": b"Name: lumbarseg\nVersion: 7\n"}, wheel)
    entries = offline_pack.installer_files({target: [wheel] for target in targets}, None) | {
        f"wheels/{wheel.name}": wheel
    }
    for name, content in (entries | {offline_pack.CHECKSUM_FILE: offline_pack.checksum_lines(entries)}).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return folder


def install(unpacked: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"HOME": str(unpacked.parent / "my home"), "PATH": "/usr/bin:/bin", "PYTHON": sys.executable, **environment}
    command = ["sh", str(unpacked / "install.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("lumbarseg: error: ")
    return line


def test_a_changed_file_prevents_the_installation(unpacked: Path) -> None:
    (unpacked / "licences").mkdir()
    (unpacked / "README.txt").write_text("changed")
    assert "README.txt: does not match its checksum" in error_line(install(unpacked))
    assert not (unpacked.parent / "my home").exists()


def test_a_missing_file_prevents_the_installation(unpacked: Path) -> None:
    (unpacked / "wheels" / "lumbarseg-7-py3-none-any.whl").unlink()
    assert "lumbarseg-7-py3-none-any.whl: missing" in error_line(install(unpacked))


def test_sha256sum_accepts_the_checksums(unpacked: Path) -> None:
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", offline_pack.CHECKSUM_FILE], cwd=unpacked, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert "wheels/lumbarseg-7-py3-none-any.whl: OK" in checked.stdout


def test_a_pack_for_other_computers_names_its_targets(tmp_path: Path) -> None:
    unpacked = write_pack_folder(
        tmp_path / "pack", Target("windows", CURRENT_PYTHON), Target(current_platform(), OTHER)
    )
    line = error_line(install(unpacked, PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin"))
    assert f"this pack is made for Windows AMD64, Python {CURRENT_PYTHON}" in line
    assert "; this is " in line


def test_the_shell_script_names_the_required_python(unpacked: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname"):
        (tools / name).symlink_to(f"/usr/bin/{name}" if Path(f"/usr/bin/{name}").exists() else f"/bin/{name}")
    line = error_line(install(unpacked, PATH=str(tools), PYTHON=""))
    assert f"no Python found here; this pack needs Python {CURRENT_PYTHON}" in line


def test_a_folder_with_other_files_is_left_unchanged(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "pyvenv.cfg").write_text("somebody's environment")
    assert "mine: contains other files" in error_line(install(unpacked, tmp_path / "mine"))
    assert (tmp_path / "mine" / "pyvenv.cfg").read_text() == "somebody's environment"
    (tmp_path / "file").write_text("x")
    assert "file: this is a file" in error_line(install(unpacked, tmp_path / "file"))


def test_a_failed_installation_leaves_no_files(unpacked: Path, tmp_path: Path) -> None:
    """The pack's wheel is none, and pip is not among them."""
    error_line(install(unpacked, tmp_path / "here"))
    assert not (tmp_path / "here").exists()


def test_wrong_arguments_print_the_usage(unpacked: Path) -> None:
    result = install(unpacked, "one", "two")
    assert (result.returncode, result.stdout) == (2, "usage: install [FOLDER]\n")


def test_installer_placeholders_and_line_endings(tmp_path: Path) -> None:
    unpacked = write_pack_folder(tmp_path / "pack", Target("windows", "3.11"), Target("macos", "3.13"))
    texts = {path.name: path.read_bytes() for path in unpacked.iterdir() if path.is_file()}
    assert not re.search(rb"@[A-Z]+@", b"".join(texts.values()))
    assert texts["install.bat"].count(b"\r\n") == texts["install.bat"].count(b"\n")
    assert b"\r" not in texts["install.sh"] + texts["install.py"]
    assert b"in (3.13 3.11) do" in texts["install.bat"]
    assert b"python3.13 python3.11 python3 python; do" in texts["install.sh"]
    assert b"  macos, Python 3.13" in texts["README.txt"]
    about = json.loads(texts["pack.json"])
    assert about["targets"][0]["wheels"] == ["lumbarseg-7-py3-none-any.whl"]
