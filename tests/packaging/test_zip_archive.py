from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumbarseg.errors import FileError
from lumbarseg.packaging.zip_archive import write_zip

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cs", "Cc"]), min_size=1)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries=st.dictionaries(NAMES, st.binary(max_size=500), max_size=6))
def test_zip_contents_do_not_depend_on_order(entries: dict[str, bytes], tmp_path: Path) -> None:
    write_zip(entries, tmp_path / "a.zip")
    write_zip(dict(reversed(entries.items())), tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == entries
        assert archive.namelist() == sorted(entries)


def test_zip_ignores_file_dates_and_stores_permissions(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"abc" * 1000)
    write_zip({"x/data.whl": tmp_path / "data", "x/install.sh": b"#!/bin/sh\n"}, tmp_path / "a.zip")
    os.utime(tmp_path / "data", (0, 1e9))
    write_zip({"x/data.whl": b"abc" * 1000, "x/install.sh": b"#!/bin/sh\n"}, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        modes = {info.filename: info.external_attr >> 16 & 0o777 for info in archive.infolist()}
    assert modes == {"x/data.whl": 0o644, "x/install.sh": 0o755}


def test_a_missing_file_leaves_no_zip(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="gone: cannot be read"):
        write_zip({"a": b"1", "b": tmp_path / "gone"}, tmp_path / "out.zip")
    assert list(tmp_path.iterdir()) == []
