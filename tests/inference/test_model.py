from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from lumbarseg.errors import ModelError
from lumbarseg.inference import Model, ModelCard, bundled_model_path
from lumbarseg.inference import model as module
from lumbarseg.preprocessing import PreprocessingSpec

onnx = pytest.importorskip("onnx")
TensorProto = onnx.TensorProto
helper = onnx.helper
numpy_helper = onnx.numpy_helper

WINDOWS = np.random.default_rng(3).random((3, 5, 32, 64)).astype(np.float32)
KERNEL = numpy_helper.from_array(np.ones((6, 5, 3, 3), np.float32), "weights")
CONV = helper.make_node("Conv", ["images", "weights"], ["logits"], pads=[1, 1, 1, 1])


def outside() -> bytes:
    """A model whose weights lie in another file, which is there."""
    Path("weights.bin").write_bytes(numpy_helper.to_array(KERNEL).tobytes())
    apart = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[6, 5, 3, 3], data_location=1)
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(6 * 5 * 9 * 4))):
        apart.external_data.add(key=key, value=value)
    return tiny.sealed(tiny.model([CONV], [apart]))


def with_function() -> bytes:
    """A model that defines an operator of its own."""
    proto = tiny.proto()
    node = helper.make_node("Relu", ["x"], ["y"])
    proto.functions.append(helper.make_function("mine", "F", ["x"], ["y"], [node], [helper.make_opsetid("", 18)]))
    return tiny.sealed(proto)


def wrong(kernel: tuple[int, ...], last: str = "", inputs: int = 5) -> bytes:
    """A model with other shapes or types than its card says."""
    weights = [numpy_helper.from_array(np.ones(kernel, np.float32), "weights")]
    nodes = [helper.make_node("Conv", ["images", "weights"], ["x" if last else "logits"], pads=[1, 1, 1, 1])]
    nodes += [helper.make_node(last, ["x"], ["logits"])] if last else []
    return tiny.sealed(tiny.model(nodes, weights, inputs, "classes"))


def two_outputs() -> bytes:
    proto = tiny.proto()
    proto.graph.output.append(helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 5, "a", "s"]))
    return tiny.sealed(proto)


def unknown_operator() -> bytes:
    return tiny.sealed(tiny.model([helper.make_node("Teleport", ["images"], ["logits"])], []))


def no_card() -> bytes:
    return tiny.proto().SerializeToString()


def other_card(change: Callable[[str], str]) -> Callable[[], bytes]:
    return lambda: tiny.sealed(tiny.proto(), change=change)


def changed_weights() -> bytes:
    """One weight changed after sealing."""
    proto = onnx.load_from_string(tiny.sealed(tiny.proto()))
    weights = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weights[0, 0, 0, 0] += 1
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    return proto.SerializeToString()


def other_about() -> bytes:
    """The card's own words changed after sealing."""
    data = tiny.sealed(tiny.proto(), ModelCard(PreprocessingSpec(), details={"licence": "CC BY 4.0"}))
    return data.replace(b"CC BY 4.0", b"CC0 1.0 !")


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty file"),
    "text": (lambda: b"this is no model at all, sorry\n" * 9, "no ONNX file"),
    "zeros": (lambda: bytes(4096), "no ONNX file"),
    "half": (lambda: tiny.sealed(tiny.proto())[:-400], "no ONNX file|card|digest"),
    "gzip": (lambda: b"\x1f\x8b\x08\x00" + bytes(99), "no ONNX file"),
    "no card": (no_card, "no lumbarseg card"),
    "newer": (other_card(lambda text: text.replace('"format": 1', '"format": 9')), "made by a newer lumbarseg; update"),
    "changed weights": (changed_weights, "digest"),
    "changed card": (other_about, "digest"),
    "own operators": (lambda: tiny.sealed(tiny.proto(domain="com.example")), "custom operators"),
    "the engine's operators": (lambda: tiny.sealed(tiny.proto(domain="com.microsoft")), "custom operators"),
    "own functions": (with_function, "custom operators"),
    "weights outside": (outside, "in other files"),
    "unknown operator": (unknown_operator, "refuses it"),
    "three slices": (lambda: wrong((6, 3, 3, 3), inputs=3), "does not take windows"),
    "four classes": (lambda: wrong((4, 5, 3, 3)), "instead of float32"),
    "not a number": (lambda: wrong((6, 5, 3, 3), "Log"), "not finite"),
    "smaller": (lambda: wrong((6, 5, 5, 5)), "instead of float32"),
    "two outputs": (two_outputs, "2 outputs"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_model_is_refused_in_one_line_that_names_the_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make, message = REFUSED[name]
    path = tmp_path / "mine.onnx"
    path.write_bytes(make())
    with pytest.raises(ModelError, match=message) as caught:
        Model.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("share", np.linspace(0, 0.999, 12))
def test_a_truncated_model_is_refused_wherever_it_ends(share: float, tmp_path: Path) -> None:
    data = tiny.sealed(tiny.proto())
    path = tmp_path / "part.onnx"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"part\.onnx: "):
        Model.load(path)


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: cannot be read: not found"):
        Model.load(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match="cannot be read"):
        Model.load(tmp_path)
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        os.truncate(file.fileno(), module.MAX_FILE_BYTES + 1)
    with pytest.raises(ModelError, match="larger than 200 MB"):
        Model.load(large)


def test_the_graph_runs_for_any_size(tmp_path: Path) -> None:
    model = Model.load(tiny.write(tmp_path / "tiny.onnx"))
    weights = numpy_helper.to_array(tiny.proto().graph.initializer[0])
    out = model.run(WINDOWS)
    assert out.dtype == np.float32
    assert out.shape == (3, 6, 32, 64)
    expected = np.einsum("kcij,ncij->nk", weights, WINDOWS[:, :, 9:12, 20:23])
    np.testing.assert_allclose(out[:, :, 10, 21], expected, atol=1e-4)
    assert model.run(WINDOWS[:1, :, :, :32]).shape == (1, 6, 32, 32)


def test_it_knows_its_card_engine_and_path(tmp_path: Path) -> None:
    card = ModelCard(
        PreprocessingSpec(neighbours=2), bias=(0.0, 0.5, 0.0, 0.0, 0.0, -1.0), details={"licence": "CC BY 4.0"}
    )
    model = Model.load(tiny.write(tmp_path / "tiny.onnx", card))
    assert dataclasses.replace(model.card, digest=card.digest) == card
    assert model.card.digest != card.digest
    assert model.engine_name.startswith("onnxruntime ")
    assert model.path == tmp_path / "tiny.onnx"


def test_openvino_predicts_the_same(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = tiny.write(tmp_path / "tiny.onnx")
    other = Model.load(path, "openvino")
    assert other.engine_name.startswith("openvino ")
    first = other.run(WINDOWS)
    files = first.copy()
    np.testing.assert_allclose(first, Model.load(path, "cpu").run(WINDOWS), atol=1e-4)
    other.run(WINDOWS * 2)
    np.testing.assert_array_equal(first, files)  # an answer is ours, not the engine's buffer


def test_an_unknown_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'abacus' is no device; choose one of auto, cpu, "):
        Model.load(tiny.write(tmp_path / "tiny.onnx"), "abacus")


def test_the_package_contains_a_model_or_an_error_suggests_a_way_out() -> None:
    try:
        path = bundled_model_path()
    except ModelError as error:
        assert "--model" in str(error)  # noqa: PT017
    else:
        assert Model.load(path).card.details
