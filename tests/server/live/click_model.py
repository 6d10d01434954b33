"""The bundled network as a model file that follows every click: the click channels are added to its logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lumbarseg.inference import bundled_model_path
from lumbarseg.inference.card import BLANK_DIGEST, insert_digest
from lumbarseg.inference.model import read_verified_card

onnx = pytest.importorskip("onnx")
TensorProto = onnx.TensorProto
helper = onnx.helper
numpy_helper = onnx.numpy_helper

GAIN, THRESHOLD = 50.0, 0.4


def write(path: Path) -> Path:
    """Write the model file; return its path."""
    import numpy as np

    data = bundled_model_path().read_bytes()
    card = read_verified_card(data)
    card = replace(card, digest=BLANK_DIGEST, details={"name": "follows clicks"})
    model = onnx.load_from_string(data)
    graph = model.graph
    first, inputs = 2 * card.spec.neighbours + 1, card.spec.inputs
    images, old_out = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        node.output[:] = ["without_clicks" if name == old_out else name for name in node.output]
    for name, value in (("from", first), ("to", inputs), ("axis", 1)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"l_{name}"))
    for name, number in (("threshold", THRESHOLD), ("gain", GAIN)):
        graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), f"l_{name}"))
    nodes = [
        helper.make_node("Slice", [images, "l_from", "l_to", "l_axis"], ["clicks"]),
        helper.make_node("Greater", ["clicks", "l_threshold"], ["near"]),
        helper.make_node("Cast", ["near"], ["near_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["near_float", "l_gain"], ["click_logits"]),
    ]
    last = helper.make_node("Add", ["without_clicks", "click_logits"], [old_out])
    everything = [*nodes, *graph.node, last]
    del graph.node[:]
    graph.node.extend(everything)
    del model.metadata_props[:]
    for key, text in card.to_metadata().items():
        model.metadata_props.add(key=key, value=text)
    path.write_bytes(insert_digest(model.SerializeToString()))
    return path
