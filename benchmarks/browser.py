"""Drive a page written by `lumbarseg page` in headless Chromium, for tests and benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lumbarseg.packaging import npm_packages

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OWN = ("file:", "blob:", "data:")
"""Schemes of addresses that lie in the page itself or on the disk."""


def chromium() -> str | None:
    """Return the path of the browser: CHROMIUM, else the first of the usual names; None without one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def drive(page: Path, steps: Sequence[dict[str, Any]], patience: int = 120, **plan: Any) -> dict[str, Any]:
    """Perform steps on a page and return what browser.mjs observed.

    patience : seconds for each step
    """
    program, node = chromium(), shutil.which("node")
    if program is None or node is None:
        raise RuntimeError("Chromium and Node.js drive the page, and one of them is not installed")
    values = {
        "modules": str(npm_packages.ensure_node_modules(for_tests=True)),
        "chromium": program,
        "page": str(page.resolve()),
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values | {"steps": list(steps), "patience": patience} | plan, file)
        file.flush()
        command = [node, str(Path(__file__).with_suffix(".mjs")), file.name]
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=(len(steps) + 1) * patience, check=False
        )
    if process.returncode:
        raise RuntimeError(f"the page could not be driven: {process.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(process.stdout)
    return result
