"""Atomic writes, and the errors when the system refuses to read or write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lumbarseg.errors import FileError
from lumbarseg.io import atomic_write, write_json, write_labels
from lumbarseg.io.file_access import open_for_reading
from lumbarseg.volume import Volume

NOISE = Volume(np.random.default_rng(0).integers(0, 255, (100, 100, 60)).astype(np.uint8), np.eye(4))


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"
    with atomic_write(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, MemoryError])
def test_whatever_stops_the_writer_the_old_file_stays(stop: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as stream:
            stream.write(b"new")
            raise stop

    with pytest.raises(stop):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with atomic_write(path) as first, atomic_write(path) as second:
        for _ in range(100):
            first.write(b"1")
            second.write(b"2" * 7)
    assert path.read_bytes() == b"1" * 100
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_has_the_rights_of_any_other(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.bin") as stream:
        stream.write(b"1")
    (tmp_path / "b.bin").write_bytes(b"1")
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "b.bin").stat().st_mode


_FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from lumbarseg.errors import FileError
from lumbarseg.io import write_labels
from lumbarseg.volume import Volume
volume = Volume(np.random.default_rng(0).integers(0, 255, (100, 100, 60)).astype(np.uint8), np.eye(4))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_labels(volume, Path(sys.argv[1]))
except FileError as error:
    print(error)
"""


def test_a_file_larger_than_the_system_allows(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    path = tmp_path / "a_labels.nii.gz"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout == (
        f"{path}: cannot be written: the file would be larger than the system allows; choose another folder\n"
    ), done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no right to mount a small disk")
    try:
        path = disk / "a_labels.nii.gz"
        path.write_bytes(b"old")
        with pytest.raises(FileError, match=r"a_labels\.nii\.gz: cannot be written: the disk is full; make room"):
            write_labels(NOISE, path)
        assert path.read_bytes() == b"old"
        assert list(disk.iterdir()) == [path]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_places_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder.nii.gz").mkdir()
    for path, reason in (
        (tmp_path / "file" / "a.nii.gz", "part of the path is a file"),
        (tmp_path / "folder.nii.gz", "it is a folder, not a file"),
        (tmp_path / ("x" * 300 + ".nii.gz"), "the name is too long"),
    ):
        with pytest.raises(FileError, match=f"cannot be written: ({reason})"):
            write_labels(NOISE, path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.nii.gz"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may read and write everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "a").chmod(0)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileError, match="cannot be read: no permission"), open_for_reading(tmp_path / "a"):
            pass
        with pytest.raises(FileError, match="cannot be written: no permission"), atomic_write(tmp_path / "b"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "file").write_bytes(b"1")
    for name, reason in (
        ("gone", "not found; check the path"),
        ("link", "a link to a file that does not exist"),
        ("file/a", "part of the path is a file, not a folder"),
        (".", "it is a folder, not a file"),
    ):
        with pytest.raises(FileError, match=f"cannot be read: {reason}"), open_for_reading(tmp_path / name):
            pass


def test_json_keeps_names_that_are_not_utf_8(tmp_path: Path) -> None:
    values = {"path": os.fsdecode(b"M\xfcller"), "name": "Müller 日本"}
    write_json(tmp_path / "a.json", values)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == values
