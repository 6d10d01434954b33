"""Exams whose grey values say what each voxel is, and a model file that reads them: real answers in no time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import tiny
from tests.segmentation.spines import SpinePlan, build_spine

from lumbarseg.clicks import ClickGaussian
from lumbarseg.inference.card import ModelCard
from lumbarseg.io import write_image
from lumbarseg.preprocessing import Normalisation, PreprocessingSpec
from lumbarseg.volume import Volume

onnx = pytest.importorskip("onnx")
helper = onnx.helper
numpy_helper = onnx.numpy_helper

VALUES = np.array([0.0, 1.0, 0.8, 0.6, 0.4, 0.2])  # of each class; the commonest tissue has the largest
_SHARP = 100.0


def model(
    path: Path, sharp: float = _SHARP, clicks: ClickGaussian | None = None, trained_names: tuple[str, ...] = ()
) -> Path:
    """A sealed model of one convolution: the class whose value is nearest to the voxel's. It accepts clicks, unseen."""
    spec = PreprocessingSpec(normalisation=Normalisation(power=1e-6), clicks=clicks)
    weights = np.zeros((tiny.CLASSES, spec.inputs, 1, 1), np.float32)
    weights[:, 2, 0, 0] = 2 * sharp * VALUES
    node = helper.make_node("Conv", ["images", "weights"], ["logits"])
    bias = tuple((-sharp * VALUES**2).tolist())
    card = ModelCard(spec, bias=bias, details={"data": ["drawn by hand"]}, trained_names=trained_names)
    initializers = [numpy_helper.from_array(weights, "weights")]
    path.write_bytes(tiny.sealed(tiny.model([node], initializers, spec.inputs), card))
    return path


def exams(folder: Path, count: int) -> list[Path]:
    """So many different small exams, as .nii."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        built = build_spine(SpinePlan(count=4, slices=5, slice=6.0, sacrum=45.0, lordosis=5.0 + 0.1 * number))
        image = (VALUES[built.classes] * 1000).astype(np.int16)
        paths.append(folder / f"e{number:02d}.nii")
        write_image(Volume(image, np.diag([*built.spacing, 1.0])), paths[-1])
    return paths
