from __future__ import annotations

from pathlib import Path

import pytest

from lumbarseg.datasets.writing import exclusive_folder
from lumbarseg.errors import DatasetError


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    with exclusive_folder(tmp_path / "new"):
        with pytest.raises(DatasetError, match="is writing here"), exclusive_folder(tmp_path / "new"):
            pass
        with exclusive_folder(tmp_path / "other"):
            pass
    with exclusive_folder(tmp_path / "new"):
        pass
