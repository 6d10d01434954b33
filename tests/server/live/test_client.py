"""MONAI Label's own Python client through everything that it can ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.live.conftest import Server, finished, form

from lumbarseg.anatomy import structure_by_name
from lumbarseg.io import read_image, read_labels, write_image
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.phantom import Phantom
from lumbarseg.volume import Volume


@pytest.fixture(scope="module")
def client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from monailabel.client import MONAILabelClient

    return MONAILabelClient(server.url, tmpdir=str(tmp_path_factory.mktemp("client")), client_id="reader one")


def declared(path: str, names: dict[str, int]) -> Volume:
    """An answer as a client reads it, its places as declared values."""
    labels = read_labels(path)
    out = np.zeros_like(labels.array)
    for name, place in names.items():
        out[labels.array == place] = structure_by_name(name).label
    return Volume(out, labels.affine)


def test_it_offers_models_strategies_training_and_scoring(client: Any) -> None:
    info = client.info()
    assert info["models"]["lumbar_spine"]["type"] == "segmentation"
    assert info["models"]["lumbar_deepedit"]["type"] == "deepedit"
    assert info["labels"][:9] == ["L1", "L2", "L3", "L4", "L5", "L1-L2", "L2-L3", "L3-L4", "L4-L5"]
    assert set(info["trainers"]) == set(info["models"])
    assert {"doubt", "random"} <= set(info["strategies"]) and "dice" in info["scoring"]
    assert info["datastore"]["total"] >= 5


def test_an_automatic_answer_lies_on_the_exams_grid_and_is_right(client: Any, server: Server, phantom: Phantom) -> None:
    path, told = client.infer("lumbar_spine", "RAS", {"result_extension": ".nii.gz"})
    labels = declared(path, told["label_names"])
    assert labels.grid.same_as(read_image(server.studies / "RAS.nii.gz").grid)
    truth = read_labels_like(phantom, labels)
    for name in ("L1", "L3", "L5", "L2-L3", "L4-L5"):
        value = structure_by_name(name).label
        assert compute_dice(labels.array == value, truth == value) > 0.8
    assert told["confidence"] > 0.5 and told["model"] == "lumbar_spine"


def read_labels_like(phantom: Phantom, labels: Volume) -> np.ndarray:
    from lumbarseg.resampling import reorient

    return reorient(phantom.labels, labels.grid.axis_codes).array


def test_an_exam_of_a_session_is_answered(client: Any, server: Server) -> None:
    made = client.create_session(str(server.studies / "LPS.nii.gz"))
    assert client.get_session(made["session_id"])["image"].endswith("LPS.nii.gz")
    path, told = client.infer("lumbar_spine", "", {}, session_id=made["session_id"])
    assert read_labels(path).grid.same_as(read_image(server.studies / "LPS.nii.gz").grid)
    assert "L3" in told["label_names"]
    client.remove_session(made["session_id"])
    assert server.infer("lumbar_spine", f"session_id={made['session_id']}")[0] == 404


def test_an_exam_that_comes_with_the_request_is_answered(client: Any, server: Server) -> None:
    path, _ = client.infer("lumbar_spine", "", {}, file=str(server.studies / "SRA.nii.gz"))
    assert read_labels(path).grid.same_as(read_image(server.studies / "SRA.nii.gz").grid)


def test_the_next_sample_has_no_label_and_comes_with_reasons(client: Any, server: Server) -> None:
    sample = client.next_sample("doubt", {})
    assert Path(sample["path"]).is_file() and sample["id"] in client.datastore()["objects"]
    assert 0 <= sample["doubt"] <= 1
    assert client.next_sample("random", {})["id"]


def saved(client: Any, exam: str) -> tuple[str, dict[str, Any]]:
    """An answer, and what it says, saved as a person's label."""
    path, told = client.infer("lumbar_spine", exam, {"result_extension": ".nrrd"})
    info = [{"name": name, "idx": place + 1} for place, name in enumerate(told["label_names"], start=1)]
    client.save_label(exam, path, params={"label_info": info, "model": "lumbar_spine"})
    return path, told


def test_a_saved_label_is_stored_under_its_names_in_declared_values(client: Any, server: Server) -> None:
    path, told = saved(client, "LPS")
    stored = read_labels(server.studies / "labels" / "final" / "LPS.nii.gz")
    assert (stored.array == declared(path, told["label_names"]).array).all()
    assert {6, 7, 8, 9} <= set(np.unique(stored.array).tolist())
    kept = client.datastore()["objects"]["LPS"]["labels"]["final"]["info"]
    assert kept["values"] == "declared" and kept["client_id"] == "reader one" and kept["model"] == "lumbar_spine"
    assert read_labels(client.download_label("LPS", "final")).array.max() == stored.array.max()


def test_an_uploaded_exam_is_there(client: Any, server: Server, tmp_path: Path) -> None:
    image = read_image(server.studies / "RAS.nii.gz")
    write_image(image, tmp_path / "new one.nii.gz")
    assert client.upload_image(str(tmp_path / "new one.nii.gz"), "series 3 (T2)")["image"] == "series 3 (T2)"
    assert (read_image(server.studies / "series 3 (T2).nii.gz").array == image.array).all()
    assert server.ask("DELETE", "/datastore/?id=series%203%20%28T2%29")[0] == 200
    assert not (server.studies / "series 3 (T2).nii.gz").exists()


def test_all_exams_are_answered_in_one_go_and_compared_with_the_labels(client: Any, server: Server) -> None:
    saved(client, "LPS")
    status, task = server.ask("POST", "/batch/infer/lumbar_spine?images=all", b"{}")
    assert status == 200, task
    assert finished(server, "/batch/infer")["status"] == "DONE"
    originals = {path.name for path in (server.studies / "labels" / "original").iterdir()}
    assert {"RAS.nii.gz", "LPS.nii.gz", "oblique.nii.gz"} <= originals
    assert "water bottle.nii.gz" not in originals  # no spine in it; the others were answered all the same
    server.ask("POST", "/scoring/dice", b"{}")
    assert finished(server, "/scoring/")["status"] == "DONE"
    info = client.datastore()["objects"]["LPS"]["labels"]["original"]["info"]
    assert info["scores"]["dice"]["L3"] == 1.0  # the label that was saved is the answer itself


def test_logs_are_shown(server: Server) -> None:
    status, text = server.ask("GET", "/logs/?lines=2000&html=false")
    assert status == 200 and b"lumbar_spine" in text


def test_models_are_given_and_taken(client: Any, server: Server, tmp_path: Path) -> None:
    status, data = server.ask("GET", "/model/lumbar_deepedit")
    assert status == 200
    (tmp_path / "mine.onnx").write_bytes(data)
    body, kind = form({}, {"file": tmp_path / "mine.onnx"})
    assert server.ask("PUT", "/model/mine", body, kind)[0] == 200
    assert client.info()["models"]["mine"]["type"] == "deepedit"
    assert server.ask("DELETE", "/model/mine")[0] == 200
    assert "mine" not in client.info()["models"]
    (server.app / "model" / "placed.onnx").write_bytes(data)
    assert "placed" in client.info()["models"]
    (server.app / "model" / "placed.onnx").write_bytes(data[:1000])
    assert "placed" not in client.info()["models"]
    status, told = server.infer("placed", "image=RAS")
    assert status == 409 and "cannot answer" in told["detail"]
    (server.app / "model" / "placed.onnx").unlink()


def test_what_is_written_beside_is_json(server: Server) -> None:
    table = json.loads((server.studies / "datastore_v2.json").read_text())
    assert set(table["objects"]) >= {"RAS", "LPS", "SRA", "oblique", "spare"}
