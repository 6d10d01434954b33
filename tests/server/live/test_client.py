"""MONAI Label's own Python client through everything that it can ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.live.conftest import Server, form, wait_for_task

from lumbarseg.anatomy import structure_by_name
from lumbarseg.io import read_image, read_labels, write_image
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.phantom import Phantom
from lumbarseg.volume import Volume


@pytest.fixture(scope="module")
def client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from monailabel.client import MONAILabelClient

    return MONAILabelClient(server.url, tmpdir=str(tmp_path_factory.mktemp("client")), client_id="reader one")


def package_labels(path: str, names: dict[str, int]) -> Volume:
    """A result as a client reads it, converted to package values."""
    labels = read_labels(path)
    out = np.zeros_like(labels.array)
    for name, value in names.items():
        out[labels.array == value] = structure_by_name(name).label
    return Volume(out, labels.affine)


def test_info_lists_models_strategies_training_and_scoring(client: Any) -> None:
    info = client.info()
    assert info["models"]["lumbar_spine"]["type"] == "segmentation"
    assert info["models"]["lumbar_deepedit"]["type"] == "deepedit"
    assert info["labels"][:9] == ["L1", "L2", "L3", "L4", "L5", "L1-L2", "L2-L3", "L3-L4", "L4-L5"]
    assert set(info["trainers"]) == set(info["models"])
    assert {"uncertainty", "random"} <= set(info["strategies"]) and "dice" in info["scoring"]
    assert info["datastore"]["total"] >= 5


def test_automatic_segmentation_is_accurate_and_on_the_exams_grid(
    client: Any, server: Server, phantom: Phantom
) -> None:
    path, result = client.infer("lumbar_spine", "RAS", {"result_extension": ".nii.gz"})
    labels = package_labels(path, result["label_names"])
    assert labels.grid.same_as(read_image(server.studies / "RAS.nii.gz").grid)
    reference = reference_labels(phantom, labels)
    for name in ("L1", "L3", "L5", "L2-L3", "L4-L5"):
        value = structure_by_name(name).label
        assert compute_dice(labels.array == value, reference == value) > 0.8
    assert result["confidence"] > 0.5 and result["model"] == "lumbar_spine"


def reference_labels(phantom: Phantom, labels: Volume) -> np.ndarray:
    from lumbarseg.resampling import reorient

    return reorient(phantom.labels, labels.grid.axis_codes).array


def test_exam_of_a_session(client: Any, server: Server) -> None:
    session = client.create_session(str(server.studies / "LPS.nii.gz"))
    assert client.get_session(session["session_id"])["image"].endswith("LPS.nii.gz")
    path, result = client.infer("lumbar_spine", "", {}, session_id=session["session_id"])
    assert read_labels(path).grid.same_as(read_image(server.studies / "LPS.nii.gz").grid)
    assert "L3" in result["label_names"]
    client.remove_session(session["session_id"])
    assert server.infer("lumbar_spine", f"session_id={session['session_id']}")[0] == 404


def test_exam_in_the_request(client: Any, server: Server) -> None:
    path, _ = client.infer("lumbar_spine", "", {}, file=str(server.studies / "SRA.nii.gz"))
    assert read_labels(path).grid.same_as(read_image(server.studies / "SRA.nii.gz").grid)


def test_next_sample_has_an_uncertainty_score(client: Any, server: Server) -> None:
    sample = client.next_sample("uncertainty", {})
    assert Path(sample["path"]).is_file() and sample["id"] in client.datastore()["objects"]
    assert 0 <= sample["uncertainty"] <= 1
    assert client.next_sample("random", {})["id"]


def save_result_as_label(client: Any, exam: str) -> tuple[str, dict[str, Any]]:
    """Segment an exam and save the result as final label; return its file and parameters."""
    path, result = client.infer("lumbar_spine", exam, {"result_extension": ".nrrd"})
    info = [{"name": name, "idx": position + 1} for position, name in enumerate(result["label_names"], start=1)]
    client.save_label(exam, path, params={"label_info": info, "model": "lumbar_spine"})
    return path, result


def test_saved_label_is_stored_in_package_values(client: Any, server: Server) -> None:
    path, result = save_result_as_label(client, "LPS")
    stored = read_labels(server.studies / "labels" / "final" / "LPS.nii.gz")
    assert (stored.array == package_labels(path, result["label_names"]).array).all()
    assert {6, 7, 8, 9} <= set(np.unique(stored.array).tolist())
    info = client.datastore()["objects"]["LPS"]["labels"]["final"]["info"]
    assert info["values"] == "declared" and info["client_id"] == "reader one" and info["model"] == "lumbar_spine"
    assert read_labels(client.download_label("LPS", "final")).array.max() == stored.array.max()


def test_uploaded_exam_is_stored(client: Any, server: Server, tmp_path: Path) -> None:
    image = read_image(server.studies / "RAS.nii.gz")
    write_image(image, tmp_path / "new one.nii.gz")
    assert client.upload_image(str(tmp_path / "new one.nii.gz"), "series 3 (T2)")["image"] == "series 3 (T2)"
    assert (read_image(server.studies / "series 3 (T2).nii.gz").array == image.array).all()
    assert server.request("DELETE", "/datastore/?id=series%203%20%28T2%29")[0] == 200
    assert not (server.studies / "series 3 (T2).nii.gz").exists()


def test_batch_segmentation_and_scoring(client: Any, server: Server) -> None:
    save_result_as_label(client, "LPS")
    status, task = server.request("POST", "/batch/infer/lumbar_spine?images=all", b"{}")
    assert status == 200, task
    assert wait_for_task(server, "/batch/infer")["status"] == "DONE"
    originals = {path.name for path in (server.studies / "labels" / "original").iterdir()}
    assert {"RAS.nii.gz", "LPS.nii.gz", "oblique.nii.gz"} <= originals
    assert "water bottle.nii.gz" not in originals  # without a spine; the other exams are segmented nevertheless
    server.request("POST", "/scoring/dice", b"{}")
    assert wait_for_task(server, "/scoring/")["status"] == "DONE"
    info = client.datastore()["objects"]["LPS"]["labels"]["original"]["info"]
    assert info["scores"]["dice"]["L3"] == 1.0  # the saved label is the result itself


def test_logs_are_available(server: Server) -> None:
    status, text = server.request("GET", "/logs/?lines=2000&html=false")
    assert status == 200 and b"lumbar_spine" in text


def test_models_are_uploaded_and_downloaded(client: Any, server: Server, tmp_path: Path) -> None:
    status, data = server.request("GET", "/model/lumbar_deepedit")
    assert status == 200
    (tmp_path / "mine.onnx").write_bytes(data)
    body, kind = form({}, {"file": tmp_path / "mine.onnx"})
    assert server.request("PUT", "/model/mine", body, kind)[0] == 200
    assert client.info()["models"]["mine"]["type"] == "deepedit"
    assert server.request("DELETE", "/model/mine")[0] == 200
    assert "mine" not in client.info()["models"]
    (server.app / "model" / "copied.onnx").write_bytes(data)
    assert "copied" in client.info()["models"]
    (server.app / "model" / "copied.onnx").write_bytes(data[:1000])
    assert "copied" not in client.info()["models"]
    status, body = server.infer("copied", "image=RAS")
    assert status == 409 and "cannot be used" in body["detail"]
    (server.app / "model" / "copied.onnx").unlink()


def test_table_of_the_datastore_is_json(server: Server) -> None:
    table = json.loads((server.studies / "datastore_v2.json").read_text())
    assert set(table["objects"]) >= {"RAS", "LPS", "SRA", "oblique", "spare"}
