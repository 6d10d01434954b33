"""`lumbarseg segment`: what it writes and prints; one bad exam does not stop the others."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.io.make_dicom import write_series
from tests.io.make_nifti import save_nifti, set_header
from tests.program import ENVIRONMENT, PROGRAM

from lumbarseg.anatomy import LUMBAR_LEVELS, Kind, arch_of_level, labels_of_kind, structure_by_label, structure_by_name
from lumbarseg.cli.main import main
from lumbarseg.io import read_image, read_labels
from lumbarseg.metrics.overlap import score_structures
from lumbarseg.phantom import Phantom
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

pytestmark = pytest.mark.usefixtures("model_file")
FILES = {f"spine{suffix}" for suffix in ("_labels.nii.gz", "_report.json", ".png", "_report.html", "_measurements.csv")}
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def assert_complete(folder: Path, stem: str) -> None:
    """Assert that label map, report and picture can be read to their end."""
    assert np.unique(read_labels(folder / f"{stem}_labels.nii.gz").array).size > 5
    assert json.loads((folder / f"{stem}_report.json").read_text())["levels"]
    with Image.open(folder / f"{stem}.png") as picture:
        picture.load()


@pytest.fixture(scope="module")
def results_folder(exam: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answered")
    assert main(["segment", str(exam), "-o", str(folder)]) == 0
    return folder


def test_it_writes_labels_report_and_picture(results_folder: Path) -> None:
    assert names(results_folder) == FILES
    assert_complete(results_folder, "spine")


def test_the_labels_lie_on_the_exams_own_grid(results_folder: Path, exam: Path) -> None:
    labels_image, exam_image = nib.load(results_folder / "spine_labels.nii.gz"), nib.load(exam)
    assert labels_image.shape == exam_image.shape
    np.testing.assert_allclose(labels_image.affine, exam_image.affine, atol=1e-6)
    assert labels_image.get_data_dtype() == np.uint8


def test_the_levels_match_the_ground_truth(results_folder: Path, phantom: Phantom) -> None:
    rows = score_structures(read_labels(results_folder / "spine_labels.nii.gz").array, phantom.labels.array)
    lumbar = {row.name: row for row in rows if row.name in LUMBAR_LEVELS}
    assert set(lumbar) == set(LUMBAR_LEVELS)
    assert all(row.is_named_right and row.dice > 0.8 for row in lumbar.values())


def test_the_report_names_levels_from_head_to_foot(results_folder: Path) -> None:
    report = json.loads((results_folder / "spine_report.json").read_text())
    level_names = [level["name"] for level in report["levels"]]
    assert level_names[-5:] == list(LUMBAR_LEVELS)
    assert level_names == [
        structure_by_label(v).name for v in labels_of_kind(Kind.BODY) if structure_by_label(v).name in level_names
    ]
    assert "sacrum" in report["anchor"]


def test_it_prints_names_anchor_and_files(exam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(exam), "-o", str(tmp_path), "--timings"]) == 0
    output = capsys.readouterr().out
    assert "L1 L2 L3 L4 L5" in output
    assert "counted from: sacrum" in output
    assert str(tmp_path / "spine_labels.nii.gz") in output
    assert {"model", "read", "network", "segment", "write"} <= {line.split()[0] for line in output.splitlines()}


def test_json(exam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing.nii.gz"
    assert main(["segment", str(exam), str(missing), "-o", str(tmp_path / "o"), "--json"]) == 1
    good, bad = json.loads(capsys.readouterr().out)["exams"]
    assert good["error"] is None
    assert Path(good["files"]["labels"]).is_file()
    assert bad == {"exam": str(missing), "error": f"{missing}: cannot be read: not found; check the path"}


@pytest.mark.parametrize("choice", ["merge", "omit"])
def test_posterior_elements_are_merged_or_omitted(
    choice: str, results_folder: Path, exam: Path, tmp_path: Path
) -> None:
    assert main(["segment", str(exam), "-o", str(tmp_path), "--posterior-elements", choice]) == 0
    separate, labels = (read_labels(folder / "spine_labels.nii.gz").array for folder in (results_folder, tmp_path))
    arches = np.isin(separate, labels_of_kind(Kind.ARCH))
    assert arches.any()
    assert (labels[~arches] == separate[~arches]).all()
    l3, of_l3 = structure_by_name("L3").label, separate == arch_of_level("L3").label
    assert of_l3.any()
    assert (labels[of_l3] == (l3 if choice == "merge" else 0)).all()
    assert not np.isin(labels, labels_of_kind(Kind.ARCH)).any()


def test_the_user_names_the_lowest_level(headless: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", str(headless), "-o", str(tmp_path), "--json"]) == 3
    guess = json.loads(capsys.readouterr().out)["exams"][0]
    assert guess["uncertain"]
    assert guess["warnings"]
    assert main(["segment", str(headless), "-o", str(tmp_path), "--json", "--strict"]) == 1
    capsys.readouterr()
    assert main(["segment", str(headless), "-o", str(tmp_path), "--json", "--lowest", "L4"]) == 0
    renamed = json.loads(capsys.readouterr().out)["exams"][0]
    assert not renamed["uncertain"]
    complete_levels = [level["name"] for level in renamed["levels"] if not level["partial"]]
    assert complete_levels[-1] == "L4"
    point = ",".join(str(value) for value in renamed["levels"][1]["centre_mm"])
    assert main(["segment", str(headless), "-o", str(tmp_path), "--json", "--pin", f"T9@{point}"]) == 0
    assert json.loads(capsys.readouterr().out)["exams"][0]["levels"][1]["name"] == "T9"


@pytest.mark.parametrize("arguments", [["--lowest", "X"], ["--pin", "L3"], ["--pin", "L3@1,2"], ["--pin", "L9@1,2,3"]])
def test_an_invalid_level_name_is_wrong_usage(arguments: list[str], exam: Path, tmp_path: Path) -> None:
    assert main(["segment", str(exam), "-o", str(tmp_path), *arguments]) == 2
    assert not names(tmp_path)


def bad_exams(folder: Path, exam: Path) -> list[Path]:
    """Write one exam of each kind that cannot be segmented; return their paths."""
    good = nib.load(exam)
    array, affine = np.asarray(good.dataobj), good.affine
    content = exam.read_bytes()
    holes = array.astype(np.float32)
    holes[3, 3, 3] = np.nan
    noise = np.random.default_rng(0).normal(500, 50, (12, 120, 120)).astype(np.float32)
    contents = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"dear reader, this is no exam\n" * 30}
    for name, data in contents.items():
        (folder / f"{name}.nii.gz").write_bytes(data)
    arrays = {
        "nan": holes,
        "constant": np.full_like(array, 7),
        "two_d": array[0],
        "colour": np.zeros((4, 5, 6), RGB),
        "several": np.stack([array[:3]] * 2, axis=-1),
        "noise": noise,
    }
    for name, values in arrays.items():
        save_nifti(folder / f"{name}.nii.gz", values, affine)
    for name, header in (
        ("zero_spacing", {"pixdim": [1, 0, 0.6, 0.6, 0, 0, 0, 0], "sform_code": 0, "qform_code": 0}),
        ("singular", {"srow_x": [0, 0, 0, 0], "sform_code": 1}),
        ("two_gigabytes", {"dim": [3, 1024, 1024, 2048, 1, 1, 1, 1]}),
    ):
        set_header(save_nifti(folder / f"{name}.nii", array[:4, :40, :40], affine), **header)
    (folder / "nothing").mkdir()
    return sorted(folder.iterdir())


def test_each_bad_exam_is_one_line_and_the_good_one_is_segmented(
    exam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    bad = bad_exams(tmp_path / "in", exam)
    out = tmp_path / "out"
    assert main(["segment", *map(str, bad), str(exam), "-o", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(bad) == 13
    for path, line in zip(bad, lines, strict=True):
        assert line.startswith(f"lumbarseg: error: {path}")
    refused = {f"{path.name.partition('.')[0]}_report.json" for path in bad if path.is_file()}
    assert names(out) == FILES | refused | {"index.html", "measurements.csv"}


def test_a_failed_exam_leaves_only_a_report_of_the_reason(exam: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    bad = bad_exams(tmp_path / "in", exam)
    assert main(["segment", str(bad[0]), "-o", str(tmp_path / "out")]) == 1
    (name,) = names(tmp_path / "out")
    report = json.loads((tmp_path / "out" / name).read_text())
    assert report["exam"] == {"file": str(bad[0])}
    assert report["error"].startswith(f"{bad[0]}: ")
    assert "levels" not in report


def test_headers_that_disagree_are_a_warning(exam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = nib.load(exam)
    shifted = image.affine.copy()
    shifted[:3, 3] += 30
    image.set_qform(shifted, 1)
    nib.save(image, tmp_path / "two.nii.gz")
    assert main(["segment", str(tmp_path / "two.nii.gz"), "-o", str(tmp_path / "out")]) == 3
    assert "warning: sform and qform disagree" in capsys.readouterr().out
    assert main(["segment", str(tmp_path / "two.nii.gz"), "-o", str(tmp_path / "out"), "--strict"]) == 1


def test_a_folder_of_dicom_is_an_exam(phantom: Phantom, tmp_path: Path) -> None:
    """Which series was taken is told, and is no warning."""
    image = reorient(phantom.image, "PIR")
    write_series(tmp_path / "study", Volume(np.rint(image.array).astype(np.int16), image.affine))
    assert main(["segment", str(tmp_path / "study"), "-o", str(tmp_path / "out")]) == 0
    assert_complete(tmp_path / "out", "study")
    (note,) = json.loads((tmp_path / "out" / "study_report.json").read_text())["exam"]["notes"]
    assert "T2_TSE_SAG" in note and "sagittal" in note


def test_volume_selects_one_of_several(exam: Path, tmp_path: Path) -> None:
    image = nib.load(exam)
    array = np.asarray(image.dataobj)
    save_nifti(tmp_path / "series.nii.gz", np.stack([np.zeros_like(array), array], axis=-1), image.affine)
    assert main(["segment", str(tmp_path / "series.nii.gz"), "-o", str(tmp_path / "out"), "--volume", "1"]) == 0
    assert_complete(tmp_path / "out", "series")


def test_exams_of_one_name_do_not_replace_each_other(
    exam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "spine.nii.gz").write_bytes(exam.read_bytes())
    arguments = ["segment", str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path / "a"), "-o", str(tmp_path / "out")]
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "b" / "spine.nii.gz") in line
    assert "which has the same name" in line
    assert_complete(tmp_path / "out", "spine")


def test_an_exam_of_the_batch_is_never_replaced(exam: Path, tmp_path: Path) -> None:
    for name in ("x.nii.gz", "x_labels.nii.gz"):
        (tmp_path / name).write_bytes(exam.read_bytes())
    before = (tmp_path / "x_labels.nii.gz").read_bytes()
    assert main(["segment", *(str(tmp_path / n) for n in ("x.nii.gz", "x_labels.nii.gz")), "-o", str(tmp_path)]) == 1
    assert (tmp_path / "x_labels.nii.gz").read_bytes() == before


def test_a_file_that_is_not_a_model_is_one_line(exam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    arguments = ["segment", str(exam), "-o", str(tmp_path / "out"), "--model", str(tmp_path / "m.onnx")]
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(f"lumbarseg: error: {tmp_path / 'm.onnx'}: ")
    assert not names(tmp_path / "out")


def test_a_file_in_place_of_the_output_folder_is_reported(
    exam: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert main(["segment", str(exam), "-o", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line
    assert (tmp_path / "out").read_text() == "mine"


def test_a_full_disk_leaves_no_half_file(exam: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    command = [*PROGRAM, "segment", str(exam), "-o", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, preexec_fn=full)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("lumbarseg: error: ")
    assert "cannot be written" in line
    assert not names(out)


def test_an_interrupt_is_one_line_and_leaves_complete_files(exam: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for i in range(60):
        (folder / f"spine{i:02d}.nii.gz").write_bytes(exam.read_bytes())
    command = [*PROGRAM, "segment", str(folder), "-o", str(out)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert errors.splitlines() == [
        "lumbarseg: error: interrupted; files that were written are complete, the rest was not started"
    ]
    assert 3 <= len(names(out)) < 180
    assert not [name for name in names(out) if name.endswith(".part")]
    for path in out.glob("*_report.json"):
        json.loads(path.read_text())
    for path in out.glob("*_labels.nii.gz"):
        read_labels(path)


def test_two_runs_on_one_folder_leave_whole_files(exam: Path, tmp_path: Path) -> None:
    command = [*PROGRAM, "segment", str(exam), "-o", str(tmp_path / "out")]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT) for _ in range(2)]
    assert [child.wait(timeout=120) for child in both] == [0, 0]
    assert names(tmp_path / "out") == FILES
    assert_complete(tmp_path / "out", "spine")


@pytest.mark.parametrize(
    "name", ["lumbar_ct_tptbox", "cervical_t1_sct", "cervical_t2s_axial_sct", "abdomen_mr_totalseg"]
)
def test_no_lumbar_name_is_claimed_where_there_is_none(
    name: str, real: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = real / "negatives" / f"{name}_image.nii.gz"
    assert main(["segment", str(path), "-o", str(tmp_path), "--json"]) in (1, 3)
    (row,) = json.loads(capsys.readouterr().out)["exams"]
    assert row["error"] or row["warnings"]


def test_a_header_with_front_and_back_exchanged_is_a_warning(real: Path, tmp_path: Path) -> None:
    image = real / "chu" / "Img_04.nii.gz"
    assert main(["segment", str(image), "-o", str(tmp_path)]) == 3
    report = json.loads((tmp_path / "Img_04_report.json").read_text())
    assert any("front and back" in text for text in report["warnings"])
    truth = read_labels(real / "chu" / "named" / "Img_04_named.nii.gz")
    assert read_image(image).grid.same_as(truth.grid)
    rows = {
        row.name: row for row in score_structures(read_labels(tmp_path / "Img_04_labels.nii.gz").array, truth.array)
    }
    assert all(rows[level].is_named_right for level in LUMBAR_LEVELS)
