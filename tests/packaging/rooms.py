"""The page's own modules run by node on arrays from here."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lumbarseg.packaging import npm_packages, page_tables

Job = dict[str, Any]


def run(jobs: list[Job], folder: Path) -> list[Job]:
    """What the jobs of rooms.mjs tell; each gets `out`, the beginning of the names of its files, if it has none."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, which runs the page's modules here")
    modules = folder / "modules"
    if not modules.is_dir():
        shutil.copytree(npm_packages.page_source_folder(), modules)
        (modules / "table.js").write_text(page_tables.tables_script(), encoding="utf-8")
    for number, job in enumerate(jobs):
        job.setdefault("out", str(folder / f"out{number}"))
    plan = folder / "plan.json"
    plan.write_text(json.dumps(jobs))
    words = [node, Path(__file__).with_suffix(".mjs"), modules, plan]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
