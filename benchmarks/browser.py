"""A page that `lumbarseg page` wrote, driven in headless Chromium: what tests and the benchmark of it share."""

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
    """The browser's program: what CHROMIUM names, else the first of the usual names; None without one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def drive(page: Path, steps: Sequence[dict[str, Any]], patience: int = 300, **plan: Any) -> dict[str, Any]:
    """What browser.mjs tells of a page after these steps; patience: seconds for each of them."""
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
        words = [node, str(Path(__file__).with_suffix(".mjs")), file.name]
        done = subprocess.run(words, capture_output=True, text=True, timeout=(len(steps) + 1) * patience, check=False)
    if done.returncode:
        raise RuntimeError(f"the page could not be driven: {done.stderr.strip()[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told
