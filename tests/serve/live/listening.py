"""The shipped network as a model file that also follows every click: what is clicked is added to its logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper

from lumbarseg.clicks import Blob
from lumbarseg.model import shipped
from lumbarseg.model.card import BLANK, seal
from lumbarseg.model.run import checked

GAIN, HEARD = 50.0, 0.4


def write(path: Path) -> Path:
    """The model file."""
    import numpy as np

    data = shipped().read_bytes()
    card = checked(data)
    card = replace(card, spec=replace(card.spec, clicks=Blob()), digest=BLANK, about={"name": "listening"})
    model = onnx.load_from_string(data)
    graph = model.graph
    plain, clicked = card.spec.depth or 5, card.spec.inputs
    old_in, old_out = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        node.input[:] = ["plain" if name == old_in else name for name in node.input]
        node.output[:] = ["unclicked" if name == old_out else name for name in node.output]
    for name, value in (("from", plain), ("to", clicked), ("start", 0), ("end", plain), ("axis", 1)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"l_{name}"))
    for name, number in (("heard", HEARD), ("gain", GAIN)):
        graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), f"l_{name}"))
    nodes = [
        helper.make_node("Slice", ["images", "l_start", "l_end", "l_axis"], ["plain"]),
        helper.make_node("Slice", ["images", "l_from", "l_to", "l_axis"], ["clicks"]),
        helper.make_node("Greater", ["clicks", "l_heard"], ["near"]),
        helper.make_node("Cast", ["near"], ["nearly"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["nearly", "l_gain"], ["pushed"]),
    ]
    last = helper.make_node("Add", ["unclicked", "pushed"], [old_out])
    everything = [*nodes, *graph.node, last]
    del graph.node[:]
    graph.node.extend(everything)
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, [dims[0], clicked, *dims[2:]]))
    del model.metadata_props[:]
    for key, text in card.to_metadata().items():
        model.metadata_props.add(key=key, value=text)
    path.write_bytes(seal(model.SerializeToString()))
    return path
