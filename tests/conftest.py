"""What several tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# a shell that begins the suite in the background has Ctrl-C ignored, and what the tests begin inherits that
signal.signal(signal.SIGINT, signal.default_int_handler)

# as the command line does before numpy is there: sums of several threads may differ in their last bit from those of one
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of real exams; LUMBARSEG_REAL says where it is, else it lies beside the repository."""
    folder = Path(os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real exams at {folder}; set LUMBARSEG_REAL")
    return folder
