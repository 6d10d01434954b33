"""Numbers of CPUs and threads: affinity mask, a container's quota, OMP_NUM_THREADS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lumbarseg import cpus


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Pretend that the mask has eight CPUs, and that quotas stand in an empty folder, which is returned."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cpus, "CGROUP_FILES", tuple(str(tmp_path / name) for name in ("max", "quota", "period")))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


def test_without_a_quota_all_cpus_of_the_mask_count(eight_cpus: Path) -> None:
    assert (cpus.available_cpus(), cpus.inference_threads()) == (8, 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("9900000 100000", 8),
        ("", 8),
    ],
)
def test_a_quota_limits_the_cpus(eight_cpus: Path, text: str, expected: int) -> None:
    (eight_cpus / "max").write_text(f"{text}\n")
    assert cpus.available_cpus() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3), ("nonsense", 8)])
def test_a_quota_of_version_1_limits_the_cpus(eight_cpus: Path, quota: str, expected: int) -> None:
    (eight_cpus / "quota").write_text(quota)
    (eight_cpus / "period").write_text("100000")
    assert cpus.available_cpus() == expected


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("2,1", 2), ("64", 8), ("0", 8), ("", 8), ("all", 8)])
def test_omp_num_threads_limits_the_threads(
    eight_cpus: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert (cpus.available_cpus(), cpus.inference_threads()) == (8, expected)


@pytest.mark.parametrize(("value", "expected"), [("", [8, 4, 2, 1]), ("3", [3, 3, 2, 1])])
def test_processes_share_the_cpus(
    eight_cpus: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: list[int]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert [cpus.inference_threads(processes) for processes in (1, 2, 3, 20)] == expected
