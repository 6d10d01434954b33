"""A few mutated headers of each format: read or refused in one line; the benchmark tries ten thousand."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("SimpleITK")

from benchmarks import mutated_headers


def test_mutated_headers_are_read_or_refused() -> None:
    result = mutated_headers.run(210, seed=3)
    assert result["faults"] == []
    assert result["longest_s"] < 30
    assert sum(result["results"].values(), Counter()).keys() == {"read", "refused"}
