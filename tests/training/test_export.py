from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from lumbarseg.errors import FileError, ModelError
from lumbarseg.inference import Model, predict
from lumbarseg.preprocessing import PreprocessingSpec, extract_windows
from lumbarseg.training import export as module
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.export import check_parity, export_model, parity_input
from lumbarseg.training.networks import build_network
from lumbarseg.training.settings import TrainingSettings


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "mine.onnx"
    return export_model(checkpoint, out, {"licence": "CC BY 4.0"}, (0.0, 0.5, 0.0, 0.0, 0.0, -0.5))


def test_the_file_predicts_as_the_network_does(exported: Path, checkpoint: Path) -> None:
    model = Model.load(exported)
    array = np.random.default_rng(0).random((5, 40, 70)).astype(np.float32)
    with torch.no_grad():
        logits = Checkpoint.load(checkpoint).ema_network()(torch.from_numpy(extract_windows(array, model.card.spec)))
        probabilities = (logits + torch.tensor(model.card.bias)[:, None, None]).softmax(1)[:, :, :40, :70]
    np.testing.assert_allclose(predict(model, array), probabilities.numpy().swapaxes(0, 1), atol=1e-4)


def test_the_card_describes_the_run(exported: Path, checkpoint: Path, settings: TrainingSettings) -> None:
    card = Model.load(exported).card
    assert card.bias == (0.0, 0.5, 0.0, 0.0, 0.0, -0.5)
    assert card.spec == PreprocessingSpec()
    assert card.details["licence"] == "CC BY 4.0"
    assert card.details["sources"]["0 a"] == [["blobs", "CC BY 4.0"]]
    assert TrainingSettings.from_dict(card.details["settings"]) == settings
    assert card.details["step"] == settings.steps
    assert card.details["datasets"] == Checkpoint.load(checkpoint).dataset_digests


def test_the_file_is_plain_onnx(exported: Path) -> None:
    proto = onnx.load(str(exported))
    onnx.checker.check_model(proto)
    assert [(opset.domain, opset.version) for opset in proto.opset_import] == [("", 18)]
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    sizes = [dim.dim_param or dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["slices", 5, "anterior", "up"]


def test_the_same_checkpoint_gives_the_same_file(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    bias = (0.0, 0.5, 0.0, 0.0, 0.0, -0.5)
    second = export_model(checkpoint, tmp_path / "again.onnx", {"licence": "CC BY 4.0"}, bias)
    assert second.read_bytes() == exported.read_bytes()


def test_of_several_runs_the_mean_is_exported(checkpoint: Path, tmp_path: Path) -> None:
    one = Checkpoint.load(checkpoint)
    scaled = {name: value * 1.01 if value.is_floating_point() else value for name, value in one.ema_weights.items()}
    half = {
        name: (one.ema_weights[name] + scaled[name]) / 2 if v.is_floating_point() else v for name, v in scaled.items()
    }
    other, between = tmp_path / "other.pt", tmp_path / "between.pt"
    replace(one, ema_weights=scaled, dataset_digests={"more": "a" * 64}, step=3).save(other)
    replace(one, ema_weights=half).save(between)
    mean = Model.load(export_model([other, checkpoint], tmp_path / "mean.onnx"))
    expected = Model.load(export_model(between, tmp_path / "known.onnx"))
    array = np.random.default_rng(0).random((5, 40, 70)).astype(np.float32)
    np.testing.assert_allclose(predict(mean, array), predict(expected, array), atol=1e-5)
    assert mean.card.details["mean_of_steps"] == [3, one.step]
    assert mean.card.details["datasets"] == {"more": "a" * 64, **one.dataset_digests}


def test_networks_of_different_kinds_have_no_mean(checkpoint: Path, tmp_path: Path) -> None:
    one = Checkpoint.load(checkpoint)
    other = tmp_path / "other.pt"
    replace(one, targets=("disc",), trained_names=("disc",)).save(other)
    with pytest.raises(ModelError, match=r"other\.pt: another network or other trained structures than .*"):
        export_model([other, checkpoint], tmp_path / "mine.onnx")
    assert not (tmp_path / "mine.onnx").exists()


def test_another_network_has_no_parity(exported: Path, settings: TrainingSettings) -> None:
    with pytest.raises(ModelError, match="torch differ by"):
        check_parity(
            build_network(replace(settings, seed=77)).eval(), Model.load(exported), parity_input(PreprocessingSpec())
        )


def test_nothing_is_written_when_predictions_differ(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LOGIT_DIFFERENCE", 0.0)
    with pytest.raises(ModelError, match=r"mine\.onnx: not written"):
        export_model(checkpoint, tmp_path / "mine.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_reported(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not found"):
        export_model(tmp_path / "none.pt", tmp_path / "out.onnx")
    with pytest.raises(ModelError, match="no JSON"):
        export_model(checkpoint, tmp_path / "out.onnx", {"path": tmp_path})
    with pytest.raises(ModelError, match="bias"):
        export_model(checkpoint, tmp_path / "out.onnx", bias=(0.0, 1.0))
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be written"):
        export_model(checkpoint, tmp_path / "file" / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
