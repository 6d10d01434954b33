"""Run the browser page's JavaScript modules in Node.js on arrays written by a test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lumbarseg.errors import PackagingError
from lumbarseg.packaging import npm_packages
from lumbarseg.packaging.javascript_bundle import bundle_modules

Job = dict[str, Any]
DOWNLOAD_ALLOWED = bool(
    os.environ.get("LUMBARSEG_PAGE")
)  # as `make test-page` does: then packages are fetched over the network


def node_modules_or_skip(testing: bool) -> Path:
    """Return the folder of the npm packages, or skip with a plain reason."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, which fetches the page's viewer and engine")
    if not DOWNLOAD_ALLOWED and not npm_packages.has_node_modules(testing):
        pytest.skip("the page's packages are not here yet: make test-page fetches them")
    try:
        return npm_packages.ensure_node_modules(testing)
    except PackagingError as error:
        pytest.skip(str(error))


def run_jobs(jobs: list[Job], folder: Path) -> list[Job]:
    """Return what the actions of page_modules.mjs report; `out`, the prefix of their files, is added to each job."""
    node_modules = node_modules_or_skip(testing=False)
    script, plan = folder / "page_modules.cjs", folder / "plan.json"
    if not script.is_file():
        source = Path(__file__).with_suffix(".mjs")
        script.write_text(bundle_modules(source, node_modules, ["--platform=node"]), encoding="utf-8")
    for number, job in enumerate(jobs):
        job.setdefault("out", str(folder / f"out{number}"))
    plan.write_text(json.dumps(jobs))
    process = subprocess.run(["node", str(script), str(plan)], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]
