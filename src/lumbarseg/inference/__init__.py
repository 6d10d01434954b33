"""Inference: a network as one file, an ONNX graph with its model card inside, and an engine to run it."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

from lumbarseg.errors import ModelError

from .card import ModelCard
from .model import Model
from .predictor import ClickCache, Predictor, predict

__all__ = ["ClickCache", "Model", "ModelCard", "Predictor", "bundled_model_path", "default_model_path", "predict"]


def bundled_model_path() -> Path:
    """Return the path of the model that the package contains; ModelError when this installation has none."""
    path = Path(str(resources.files(__package__) / "shipped.onnx"))
    if not path.is_file():
        raise ModelError(f"{path}: this installation has no model; install the wheel, or name a model with --model")
    return path


def default_model_path() -> Path:
    """Return the path of the model that is used when none is named; ModelError when there is none.

    An offline pack (`lumbarseg.packaging`) puts its own model into share/lumbarseg of the environment that it makes;
    elsewhere it is the model that the package contains.
    """
    packed = sorted((Path(sys.prefix) / "share" / "lumbarseg").glob("*.onnx"))
    return packed[0] if packed else bundled_model_path()
