"""Run the browser page's JavaScript modules in Node.js on arrays written by a test."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lumbarseg.packaging import npm_packages, page_tables

Job = dict[str, Any]


def run_jobs(jobs: list[Job], folder: Path) -> list[Job]:
    """Return what the actions of page_modules.mjs report; `out`, the prefix of their files, is added to each job."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed, which runs the page's modules here")
    modules = folder / "modules"
    if not modules.is_dir():
        shutil.copytree(npm_packages.page_source_folder(), modules)
        (modules / "tables_from_python.js").write_text(page_tables.tables_script(), encoding="utf-8")
    for number, job in enumerate(jobs):
        job.setdefault("out", str(folder / f"out{number}"))
    plan = folder / "plan.json"
    plan.write_text(json.dumps(jobs))
    command = [node, str(Path(__file__).with_suffix(".mjs")), str(modules), str(plan)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]
