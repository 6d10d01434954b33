"""`segment` on DICOM: objects beside the label map; a study on a server is segmented and its objects are sent back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from tests.io import dcmqi
from tests.io.dicom.examples import with_frame_of_reference
from tests.io.make_dicom import LOCALISER, STUDY, write_series
from tests.io.orthanc import needs_orthanc, put, running
from tests.program import ENVIRONMENT, PROGRAM

from lumbarseg.io import read_exam
from lumbarseg.phantom import Phantom
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

pytest.importorskip("highdicom")
dicomweb_client = pytest.importorskip("dicomweb_client")


def segment(*options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, "segment", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)


@pytest.fixture(scope="module")
def study(phantom: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom as a scanner exports it: sagittal slices, and a localiser."""
    folder = tmp_path_factory.mktemp("study")
    image = reorient(phantom.image, "PIL")
    write_series(folder, Volume(np.rint(image.array).astype(np.int16), image.affine), with_frame_of_reference())
    thick = Volume(np.zeros((8, 8, 3), np.int16), image.affine)
    write_series(folder, thick, LOCALISER)
    return folder


@pytest.fixture(scope="module")
def results(study: Path, model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    done = segment(study, "-o", out, "--model", model_file, "--format", "nifti,dicom-sr,dicom-labelmap", "--json")
    assert done.returncode in (0, 3), done.stderr
    (row,) = json.loads(done.stdout)["exams"]
    assert {"labels", "dicom-seg", "dicom-labelmap", "dicom-sr"} < set(row["files"])
    return out


@pytest.mark.skipif(dcmqi.find_program() is None, reason="dcmqi is not installed")
@pytest.mark.parametrize("suffix", [".seg.dcm", ".labelmap.dcm"])
def test_dcmqi_reads_the_labels_of_the_nifti_file(study: Path, results: Path, suffix: str, tmp_path: Path) -> None:
    labels = np.asarray(nibabel.load(results / f"{study.name}_labels.nii.gz").dataobj)
    names = json.loads((results / f"{study.name}_report.json").read_text())["labels"]
    values = {name: int(value) for value, name in names.items()}
    grid = read_exam(study).volume.grid
    dicom_objects, info = dcmqi.read(results / f"{study.name}{suffix}", tmp_path / "read", grid)
    assert {item["SegmentLabel"] for item in info} == set(values)
    for item in info:
        assert np.array_equal(dicom_objects == item["labelID"], labels == values[item["SegmentLabel"]])


def test_the_dicom_report_has_the_measurements(study: Path, results: Path) -> None:
    facts = json.loads((results / f"{study.name}_report.json").read_text())
    text = pydicom.dcmread(results / f"{study.name}.sr.dcm").to_json()
    for row in facts["measurements"]:
        assert f'"lumbarseg {row["name"]}"' in text
        assert f"[{row['volume_ml']}]" in text
    assert facts["model"]["digest"] in text


def test_an_exam_without_dicom_is_refused_before_it_is_segmented(exam: Path, model_file: Path, tmp_path: Path) -> None:
    done = segment(exam, "-o", tmp_path, "--model", model_file, "--format", "dicom-seg")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert f"{exam}: not read from DICOM" in line
    assert [path.name for path in tmp_path.iterdir()] == ["spine_report.json"]  # that says why


@pytest.fixture
def server(study: Path, tmp_path: Path) -> Iterator[str]:
    with running(tmp_path / "orthanc") as url:
        put(url, study.iterdir())
        yield url


@needs_orthanc
def test_a_study_on_a_server_is_segmented_and_its_objects_sent_back(
    server: str, study: Path, results: Path, model_file: Path, tmp_path: Path
) -> None:
    address = f"dicomweb:{server}/studies/{STUDY}"
    options = ("--model", model_file, "--store", "--format", "nifti,dicom-sr", "--json")
    done = segment(address, "-o", tmp_path / "out", *options)
    assert done.returncode in (0, 3), done.stderr
    (row,) = json.loads(done.stdout)["exams"]
    assert row["exam"] == address
    assert row["stored"] == ["dicom-seg", "dicom-sr"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{STUDY}{suffix}" for suffix in ("_labels.nii.gz", "_report.json", ".png", ".seg.dcm", ".sr.dcm")
    }
    mine, expected_labels = (
        np.asarray(nibabel.load(path).dataobj)
        for path in (tmp_path / "out" / f"{STUDY}_labels.nii.gz", results / f"{study.name}_labels.nii.gz")
    )
    assert np.array_equal(mine, expected_labels)
    assert json.loads((tmp_path / "out" / f"{STUDY}_report.json").read_text())["exam"]["file"] == address
    dicom_objects = dicomweb_client.DICOMwebClient(server).search_for_series(STUDY, fields=["Modality"])
    assert sorted(row["00080060"]["Value"][0] for row in dicom_objects) == ["MR", "MR", "SEG", "SR"]


@needs_orthanc
def test_without_an_output_folder_no_file_is_kept(server: str, model_file: Path) -> None:
    address = f"dicomweb:{server}/studies/{STUDY}"
    done = segment(address, "--model", model_file, "--store")
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout.startswith(address)
    assert "stored on the server: dicom-seg" in done.stdout
    assert "/tmp" not in done.stdout
    missing = segment(f"dicomweb:{server}/studies/1.2.3", "--model", model_file, "--store")
    assert missing.returncode == 1
    assert "the server has no such study" in missing.stderr
    assert len(missing.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (("exam.nii.gz", "--store"), 1, "exam.nii.gz: is not on a server"),
        (("exam.nii.gz",), 2, "-o DIR is missing"),
        (("dicomweb:https://h/studies/1",), 2, "-o DIR is missing"),
        (("dicomweb:https://h/1", "-o", "out"), 2, "not the address of a study"),
        (("dicomweb:https://me:hunter2@h/studies/1", "-o", "out"), 2, "LUMBARSEG_DICOMWEB_USER"),
    ],
)
def test_impossible_commands_are_one_line(options: tuple[str, ...], code: int, line: str) -> None:
    done = segment(*options)
    assert done.returncode == code
    assert line in done.stderr
    assert "hunter2" not in done.stderr
