"""Every benchmark can be imported: a name that moves in the package is noticed at once."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_a_benchmark_can_be_imported(name: str) -> None:
    pytest.importorskip("torch")
    import_module(f"benchmarks.{name}")
