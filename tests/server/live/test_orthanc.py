"""A real DICOMweb server: a phantom's study is segmented, and its label stored there as DICOM SEG with codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from tests.io import dcmqi
from tests.io.dicom.examples import with_frame_of_reference
from tests.io.make_dicom import T2, write_series
from tests.io.orthanc import needs_orthanc, put, running
from tests.server.live.conftest import Server, form, serving

from lumbarseg.anatomy import structure_by_name
from lumbarseg.io import read_exam, read_image, read_labels, write_labels
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.phantom import Phantom
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

pytestmark = needs_orthanc


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, phantom: Phantom) -> Path:
    folder = tmp_path_factory.mktemp("study")
    image = reorient(phantom.image, "PIR")
    voxels = np.round(image.array - float(image.array.min())).astype(np.int16)
    write_series(folder, Volume(voxels, image.affine), with_frame_of_reference(T2))
    return folder


@pytest.fixture(scope="module")
def pacs(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("pacs") / "orthanc") as url:
        put(url, sorted(study.iterdir()))
        yield url


@pytest.fixture(scope="module")
def server(pacs: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(pacs, tmp_path_factory.mktemp("app")) as server:
        yield server


@pytest.fixture(scope="module")
def series(study: Path) -> str:
    return str(pydicom.dcmread(next(study.iterdir())).SeriesInstanceUID)


@pytest.fixture(scope="module")
def result(server: Server, series: str, tmp_path_factory: pytest.TempPathFactory) -> Volume:
    body, kind = form({"params": json.dumps({"restore_label_idx": True, "result_extension": ".nii.gz"})})
    status, data = server.request("POST", f"/infer/lumbar_spine?image={series}&output=image", body, kind)
    assert status == 200, data
    path = tmp_path_factory.mktemp("result") / "result.nii.gz"
    path.write_bytes(data)
    return read_labels(path)


def test_series_are_the_exams(server: Server, series: str) -> None:
    status, sample = server.request("POST", "/activelearning/random", b"{}")
    assert status == 200 and sample["id"] == series
    assert server.infer("lumbar_spine", "image=1.2.3.4")[0] == 404
    assert server.infer("lumbar_spine", "image=nobody")[0] == 404


def test_segmentation_is_on_the_grid_of_the_series(result: Volume, study: Path, phantom: Phantom) -> None:
    assert result.grid.same_as(read_exam(study).volume.grid, 1e-2)
    reference = reorient(phantom.labels, result.grid.axis_codes).array
    value = structure_by_name("L3").label
    assert compute_dice(result.array == value, reference == value) > 0.8


@pytest.mark.skipif(dcmqi.find_program() is None, reason="dcmqi is not installed")
def test_final_label_is_stored_as_dicom_seg_with_codes(
    server: Server, pacs: str, series: str, result: Volume, tmp_path: Path
) -> None:
    names = ["L4-L5", "L5", "L3", "sacrum"]
    labels = np.zeros_like(result.array)
    for position, name in enumerate(names, start=1):
        labels[result.array == structure_by_name(name).label] = position
    write_labels(Volume(labels, result.affine), tmp_path / "label.nii.gz", ())
    info = [{"name": name, "idx": position} for position, name in enumerate(names, start=1)]
    body, kind = form({"params": json.dumps({"label_info": info})}, {"label": tmp_path / "label.nii.gz"})
    status, response = server.request("PUT", f"/datastore/label?image={series}", body, kind)
    assert status == 200, response
    client = DICOMwebClient(pacs)
    (seg_series,) = client.search_for_series(search_filters={"Modality": "SEG"})
    study_uid, series_uid = (seg_series[tag]["Value"][0] for tag in ("0020000D", "0020000E"))
    (segmentation,) = client.retrieve_series(study_uid, series_uid)
    segmentation.save_as(tmp_path / "stored.dcm", enforce_file_format=True)
    voxels, rows = dcmqi.read(tmp_path / "stored.dcm", tmp_path / "read", result.grid)
    assert {segment.SegmentLabel for segment in segmentation.SegmentSequence} == set(names)
    for number, segment in enumerate(segmentation.SegmentSequence, start=1):
        value = structure_by_name(segment.SegmentLabel)
        assert np.array_equal(voxels == number, result.array == value.label)
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == value.code
    assert len(rows) == len(names)
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == series
    stored = server.request("GET", "/datastore/?output=all")[1]["objects"][series]["labels"]["final"]["info"]
    assert stored["SeriesInstanceUID"] == series_uid and stored["values"] == "declared"


def test_ohif_reads_a_result_correctly(server: Server, series: str, result: Volume, tmp_path: Path) -> None:
    """OHIF reads only the file, voxels in order, and value n as the n-th name of the model in /info/."""
    params = {
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "result_compress": False,
        "restore_label_idx": False,
    }
    body, kind = form({"params": json.dumps(params)})
    status, data = server.request("POST", f"/infer/lumbar_spine?image={series}&output=image", body, kind)
    assert status == 200
    (tmp_path / "result.nrrd").write_bytes(data)
    voxels = read_labels(tmp_path / "result.nrrd").array
    names = server.request("GET", "/info/")[1]["models"]["lumbar_spine"]["labels"]
    table = names if isinstance(names, dict) else {name: position for position, name in enumerate(names, start=1)}
    assert (
        set(np.unique(result.array)) - {structure_by_name(name).label for name in table} - {0}
    )  # the exam shows more than the model offers
    for name, value in table.items():
        assert np.array_equal(voxels == value, result.array == structure_by_name(name).label), name


def test_background_has_an_unused_value(server: Server) -> None:
    labels = server.request("GET", "/info/")[1]["models"]["lumbar_deepedit"]["labels"]
    assert labels["background"] > 100 and sorted(labels.values())[:-1] == list(range(1, len(labels)))


def test_result_as_dicom_seg(server: Server, series: str, tmp_path: Path) -> None:
    body, kind = form({"params": json.dumps({"label_info": []})})
    status, data = server.request("POST", f"/infer/lumbar_spine?image={series}&output=dicom_seg", body, kind)
    assert status == 200
    (tmp_path / "a.dcm").write_bytes(data)
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert dataset.Modality == "SEG" and {"L3", "L4-L5"} <= {s.SegmentLabel for s in dataset.SegmentSequence}


def test_exams_cannot_be_added_or_removed(server: Server, series: str, tmp_path: Path, study: Path) -> None:
    from lumbarseg.io import write_image

    write_image(read_image(study), tmp_path / "x.nii.gz")
    body, kind = form({}, {"file": tmp_path / "x.nii.gz"})
    assert server.request("PUT", "/datastore/image?image=x", body, kind)[0] == 405
    assert server.request("DELETE", f"/datastore/?id={series}")[0] == 405
    assert server.request("GET", "/proxy/dicom/qido/studies")[0] == 200
    assert server.request("GET", "/proxy/dicom/qido/..%2F..%2Finstances")[0] == 404
