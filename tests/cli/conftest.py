"""A synthetic exam on disk, and its answer, made once."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from lumbarseg.cli.demo import synthetic_exam as demo_exam
from lumbarseg.errors import ModelError
from lumbarseg.inference import bundled_model_path
from lumbarseg.io import write_image
from lumbarseg.phantom import Phantom
from lumbarseg.volume import Volume

SRC = Path(__file__).resolve().parents[2] / "src"
PROGRAM = [sys.executable, "-m", "lumbarseg"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="session")
def model_file() -> Path:
    """The shipped model; a working copy without one cannot answer."""
    try:
        return bundled_model_path()
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return demo_exam(193)


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
