"""Requests of 3D Slicer's plug-in as it sends them, and its reading of the results."""

from __future__ import annotations

import json
from email import message_from_bytes
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pytest
from scipy import ndimage
from tests.server.live.conftest import Server, form

from lumbarseg.anatomy import structure_by_name
from lumbarseg.io import read_image, read_labels, write_labels
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

EXAMS = ("RAS", "LPS", "SRA", "oblique")


def segment(
    server: Server, model: str, exam: str, params: dict[str, Any], folder: Path, is_quoted: bool = False
) -> tuple[Volume, list[str], Any]:
    """Segment as `SmartEdit` and `Auto Segmentation` do; return labels, names of the values and parameters."""
    all_params = {**params, "result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz"}
    body, kind = form({"params": json.dumps(all_params)})
    status, data = server.request("POST", f"/infer/{model}?image={exam if is_quoted else quote_plus(exam)}", body, kind)
    assert status == 200, data
    parts = [part.get_payload(decode=True) for part in parse(data)]
    result = json.loads(parts[0])
    path = folder / "result.nrrd"
    path.write_bytes(parts[1])
    names = [name for name, _ in sorted(result["label_names"].items(), key=lambda item: item[1])]
    return read_labels(path), [name for name in names if name != "background"], result


def parse(data: bytes) -> list[Any]:
    boundary = data.split(b"\r\n", 1)[0].removeprefix(b"--").decode()
    message = message_from_bytes(f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n".encode() + data)
    return list(message.get_payload())


def package_labels(labels: Volume, names: list[str]) -> Volume:
    """Convert a result as the plug-in displays it to package values."""
    table = np.zeros(256, np.uint8)
    for value, name in enumerate(names, start=1):
        table[value] = structure_by_name(name).label
    assert labels.array.max() <= len(names)
    return Volume(table[labels.array], labels.affine)


def innermost_voxel(volume: Volume, name: str) -> np.ndarray:
    """Return the voxel of a structure with the largest distance from its surface."""
    mask = volume.array == structure_by_name(name).label
    depth = ndimage.distance_transform_edt(mask, sampling=volume.grid.spacing)
    return np.array(np.unravel_index(depth.argmax(), depth.shape))


@pytest.fixture(scope="module")
def results(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Volume]:
    folder = tmp_path_factory.mktemp("results")
    volumes = {}
    for exam in EXAMS:
        labels, names, _ = segment(server, "lumbar_deepedit", exam, {}, folder)
        volumes[exam] = package_labels(labels, names)
    return volumes


def test_no_login_is_required(server: Server) -> None:
    assert server.request("GET", "/auth/")[0] == 404
    assert server.request("GET", "/info/")[1]["models"]


@pytest.mark.parametrize("exam", EXAMS)
def test_result_is_the_same_in_every_orientation(server: Server, results: dict[str, Volume], exam: str) -> None:
    assert results[exam].grid.same_as(read_image(server.studies / f"{exam}.nii.gz").grid)
    if exam != "oblique":  # rotated, with the same axis order
        restored = reorient(results[exam], "RAS")
        assert (restored.array == results["RAS"].array).mean() > 0.9999


def test_missing_levels_do_not_shift_names(server: Server, results: dict[str, Volume], tmp_path: Path) -> None:
    labels, names, _ = segment(server, "lumbar_spine", "RAS", {"lowest": ["L4", "auto"]}, tmp_path)
    displayed = package_labels(labels, names)
    assert "L5" in names and structure_by_name("L5").label not in np.unique(displayed.array)
    voxel = tuple(innermost_voxel(results["RAS"], "L5"))
    assert displayed.array[voxel] == structure_by_name("L4").label


@pytest.mark.parametrize("exam", EXAMS)
def test_click_changes_its_voxel_in_every_orientation(
    server: Server, results: dict[str, Volume], exam: str, tmp_path: Path
) -> None:
    before = results[exam]
    world = reorient(results["RAS"], "RAS")
    point = world.grid.to_world(innermost_voxel(world, "L3"))
    if exam == "oblique":
        point = before.grid.to_world(innermost_voxel(before, "L3"))
    voxel = np.rint(before.grid.to_index(point)).astype(int)
    assert np.linalg.norm(before.grid.to_world(voxel) - point) < 1.0 + max(before.grid.spacing) / 2
    assert before.array[tuple(voxel)] == structure_by_name("L3").label
    params = {"L3": [], "canal": [voxel.tolist()], "label": "canal"}
    labels, names, result = segment(server, "lumbar_deepedit", exam, params, tmp_path)
    after = package_labels(labels, names)
    assert result["clicks"] == 1
    assert after.array[tuple(voxel)] == structure_by_name("canal").label
    changed = np.argwhere(after.array != before.array)
    distance = np.linalg.norm(before.grid.to_world(changed) - before.grid.to_world(voxel), axis=1)
    assert len(changed) and distance.max() <= 41


def export_segments(labels: Volume, order: list[str], path: Path) -> list[dict[str, Any]]:
    """Export as `Submit Label` does: values 1..n in the order of the scene, `idx` shifted by a background segment."""
    out = np.zeros_like(labels.array)
    for position, name in enumerate(order, start=1):
        out[labels.array == structure_by_name(name).label] = position
    write_labels(Volume(out, labels.affine), path, ())
    return [{"name": name, "idx": position + 1} for position, name in enumerate(order, start=1)]


def test_exported_segments_are_stored_by_name(server: Server, results: dict[str, Volume], tmp_path: Path) -> None:
    present = ["L4-L5", "sacrum", "L5", "L1", "canal", "L2-L3", "L3", "L1-L2", "L2", "L4"]
    info = export_segments(results["SRA"], present, tmp_path / "label.nii.gz")
    body, kind = form({"params": json.dumps({"label_info": info})}, {"label": tmp_path / "label.nii.gz"})
    status, response = server.request("PUT", "/datastore/label?image=SRA", body, kind)
    assert (status, response["image"]) == (200, "SRA")
    stored = read_labels(server.studies / "labels" / "final" / "SRA.nii.gz")
    exported = np.isin(results["SRA"].array, [structure_by_name(name).label for name in present])
    assert (stored.array == np.where(exported, results["SRA"].array, 0)).all()
    assert stored.grid.same_as(read_image(server.studies / "SRA.nii.gz").grid)


def test_exam_opened_in_3d_slicer_is_segmented_and_submitted(server: Server, tmp_path: Path) -> None:
    """The volume is sent as a session; its name is in every request, and `Submit Label` uploads it first."""
    import requests

    exam, name = server.studies / "LPS.nii.gz", "4: SAG T2/STIR *"
    with exam.open("rb") as file:
        files = [("files", ("tmp1.nii.gz", file))]
        session = requests.put(f"{server.url}/session/", data={"client_id": "user-xyz"}, files=files, timeout=60).json()
    assert server.request("GET", f"/session/{session['session_id']}")[0] == 200
    query = f"{quote_plus(name)}&session_id={session['session_id']}"
    labels, names, _ = segment(server, "lumbar_spine", query, {"lowest": "auto"}, tmp_path, is_quoted=True)
    displayed = package_labels(labels, names)
    upload, kind = form({"params": json.dumps({"client_id": "user-xyz"})}, {"file": exam})
    for _ in range(2):  # an exam that is opened again is sent again
        assert server.request("PUT", f"/datastore/?image={quote_plus(name)}", upload, kind)[0] == 200
    info = export_segments(displayed, names, tmp_path / "label.nii.gz")
    body, kind = form({"params": json.dumps({"label_info": info})}, {"label": tmp_path / "label.nii.gz"})
    assert server.request("PUT", f"/datastore/label?image={quote_plus(name)}", body, kind)[0] == 200
    assert (read_labels(server.studies / "labels" / "final" / "4_ SAG T2_STIR _.nii.gz").array == displayed.array).all()
    labels, names, _ = segment(server, "lumbar_spine", name, {}, tmp_path)
    assert (package_labels(labels, names).array == displayed.array).all()
    other, kind = form({"params": "{}"}, {"file": server.studies / "water bottle.nii.gz"})
    assert server.request("PUT", f"/datastore/?image={quote_plus(name)}", other, kind)[0] == 409


def test_info_has_what_smart_edit_needs(server: Server) -> None:
    """The plug-in only sends clicks of names in `labels` of /info/, and only to models of these types."""
    info = server.request("GET", "/info/")[1]
    assert "background" in info["labels"]
    assert info["models"]["lumbar_deepedit"]["type"] in ("deepgrow", "deepedit")
    assert all(isinstance(choice, str) for choice in info["models"]["lumbar_spine"]["config"]["lowest"])


def test_stored_result_is_read_in_the_order_of_its_names(server: Server, tmp_path: Path) -> None:
    """`Next Sample` fetches the label "original" and names value n by the n-th key of its label_names."""
    body = json.dumps({"label_tag": "original"}).encode()
    assert server.request("POST", "/batch/infer/lumbar_spine?images=unlabeled&run_sync=true", body)[0] == 200
    table = server.request("GET", "/datastore/?output=all")[1]["objects"]["spare"]["labels"]["original"]
    names = list(table["info"]["params"]["label_names"])
    status, data = server.request("GET", "/datastore/label?label=spare&tag=original")
    assert status == 200
    (tmp_path / "original.nii.gz").write_bytes(data)
    displayed = package_labels(read_labels(tmp_path / "original.nii.gz"), names)
    assert {1, 2, 3, 4, 5, 6, 7, 8, 9} <= set(np.unique(displayed.array).tolist())
