"""A model file with one convolution, to test everything around the network quickly and without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lumbarseg.inference.card import ModelCard, insert_digest
from lumbarseg.preprocessing import PreprocessingSpec

onnx = pytest.importorskip("onnx")

CLASSES = 6


def write(path: Path, card: ModelCard | None = None, seed: int = 0, inputs: int = 5) -> Path:
    """Write a model file with weights drawn from `seed`."""
    path.write_bytes(sealed(proto(seed, inputs=inputs), card))
    return path


def proto(seed: int = 0, domain: str = "", inputs: int = 5) -> Any:
    """Return a 3 x 3 convolution from five slices and further inputs to six classes; domain: of its operator."""
    weights = np.random.default_rng(seed).normal(size=(CLASSES, inputs, 3, 3)).astype(np.float32)
    return model(
        [onnx.helper.make_node("Conv", ["images", "weights"], ["logits"], pads=[1, 1, 1, 1], domain=domain)],
        [onnx.numpy_helper.from_array(weights, "weights")],
        inputs,
        domain=domain,
    )


def model(
    nodes: Sequence[Any], weights: Sequence[Any], inputs: int = 5, outputs: Any = CLASSES, domain: str = ""
) -> Any:
    """Return an ONNX model from "images" (N, inputs, A, S) to "logits" (N, outputs, A, S)."""
    put = [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", inputs, "a", "s"])]
    got = [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", outputs, "a", "s"])]
    graph = onnx.helper.make_graph(list(nodes), "tiny", put, got, list(weights))
    opsets = [onnx.helper.make_opsetid("", 18)] + ([onnx.helper.make_opsetid(domain, 1)] if domain else [])
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def sealed(proto: Any, card: ModelCard | None = None, change: Callable[[str], str] = str) -> bytes:
    """Return the bytes of a model with a card and its digest; change: applied to the text of the card first."""
    for name, text in (card or ModelCard(PreprocessingSpec(), details={"seed": 0})).to_metadata().items():
        proto.metadata_props.add(key=name, value=change(text))
    return insert_digest(proto.SerializeToString())
