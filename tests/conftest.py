"""Settings and fixtures of all tests."""

from __future__ import annotations

import importlib.util
import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

EXTRAS = {
    "training": "torch",
    "benchmarks/test_active_learning.py": "torch",
    "benchmarks/test_benchmarks.py": "torch",
    "benchmarks/test_simulated_clicks.py": "torch",
    "cli/test_train.py": "torch",
    "server/live": "onnx",
}
"""Tests that a core install cannot even import, and the library that they need."""

collect_ignore = [path for path, library in EXTRAS.items() if importlib.util.find_spec(library) is None]

# a shell that starts the tests in the background ignores Ctrl-C, and child processes inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

# as the command line does before numpy is imported: sums of several threads may differ in their last bit
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from lumbarseg.batch.demo import synthetic_exam  # noqa: E402
from lumbarseg.errors import ModelError  # noqa: E402
from lumbarseg.inference import Model, bundled_model_path  # noqa: E402
from lumbarseg.io import write_image  # noqa: E402
from lumbarseg.phantom import Phantom  # noqa: E402
from lumbarseg.volume import Volume  # noqa: E402


@pytest.fixture(scope="session")
def real() -> Path:
    """Return the folder of real exams: LUMBARSEG_REAL, else shared/real beside the repository."""
    folder = Path(os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    if not folder.is_dir():
        pytest.skip(f"no real exams at {folder}; set LUMBARSEG_REAL")
    return folder


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The model of the package; a working copy without one skips."""
    try:
        return bundled_model_path()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def bundled_model(model_file: Path) -> Model:
    """Return the model of the package, loaded once."""
    return Model.load(model_file)


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A synthetic exam and its ground truth."""
    return synthetic_exam(193)


@pytest.fixture(scope="session")
def exam(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T2 exam with the sacrum in view."""
    path = tmp_path_factory.mktemp("exam") / "spine.nii.gz"
    write_image(phantom.image, path)
    return path


@pytest.fixture(scope="session")
def headless(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without its lower third: no sacrum to count from."""
    image = phantom.image
    start = int(np.nonzero((phantom.labels.array == 4).any(axis=(0, 1)))[0].min()) - 4
    affine = image.affine.copy()
    affine[:3, 3] = image.grid.to_world(np.array([0, 0, start]))
    path = tmp_path_factory.mktemp("headless") / "upper.nii.gz"
    write_image(Volume(image.array[:, :, start:], affine), path)
    return path
