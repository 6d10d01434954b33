"""A model file of one convolution: everything around the network can be tried with it, in no time and without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lumbarseg.inference.card import ModelCard, insert_digest
from lumbarseg.preprocessing import PreprocessingSpec

CLASSES = 6


def write(path: Path, card: ModelCard | None = None, seed: int = 0, inputs: int = 5) -> Path:
    """A sealed model file with weights drawn from `seed`."""
    path.write_bytes(sealed(proto(seed, inputs=inputs), card))
    return path


def proto(seed: int = 0, domain: str = "", inputs: int = 5) -> onnx.ModelProto:
    """One 3 x 3 convolution from five slices, and what else is put in, to six classes; domain: of its operator."""
    weights = np.random.default_rng(seed).normal(size=(CLASSES, inputs, 3, 3)).astype(np.float32)
    return model(
        [helper.make_node("Conv", ["images", "weights"], ["logits"], pads=[1, 1, 1, 1], domain=domain)],
        [numpy_helper.from_array(weights, "weights")],
        inputs,
        domain=domain,
    )


def model(
    nodes: Sequence[Any], weights: Sequence[TensorProto], inputs: int = 5, outputs: Any = CLASSES, domain: str = ""
) -> onnx.ModelProto:
    """An ONNX model from "images" (N, inputs, A, S) to "logits" (N, outputs, A, S)."""
    put = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", inputs, "a", "s"])]
    got = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", outputs, "a", "s"])]
    graph = helper.make_graph(list(nodes), "tiny", put, got, list(weights))
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def sealed(proto: onnx.ModelProto, card: ModelCard | None = None, change: Callable[[str], str] = str) -> bytes:
    """The model's bytes with a card and its digest; change: applied to the card's text before."""
    for name, text in (card or ModelCard(PreprocessingSpec(), details={"seed": 0})).to_metadata().items():
        proto.metadata_props.add(key=name, value=change(text))
    return insert_digest(proto.SerializeToString())
