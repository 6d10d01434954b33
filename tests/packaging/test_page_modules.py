"""The page's JavaScript modules return what the Python modules return, on arrays written by Python."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless
from scipy import ndimage
from tests.grids import affine_of
from tests.io.make_dicom import AXIAL, LOCALISER, T1, T2, write_series
from tests.packaging.page_modules import Job, node_modules_or_skip, run_jobs
from tests.segmentation.spines import SpinePlan, build_spine

from lumbarseg.anatomy import CLASSES
from lumbarseg.batch.demo import synthetic_exam
from lumbarseg.clicks import Click
from lumbarseg.errors import LumbarsegError
from lumbarseg.inference import ModelCard
from lumbarseg.io import read_exam, read_image, read_labels, write_image, write_labels
from lumbarseg.measurement import SPINE, lumbar_lordosis, measure_structures, measurement_error
from lumbarseg.packaging import npm_packages, page_tables
from lumbarseg.phantom import RecipeRanges, render_phantom, sample_recipe
from lumbarseg.preprocessing import ClickGaussian, Normalisation, PreprocessingSpec, extract_windows, preprocess
from lumbarseg.report.exam_report import MEASUREMENT_COLUMNS, UNITS
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import segment
from lumbarseg.segmentation.discs_only import assign_levels_from_discs
from lumbarseg.segmentation.interactive import refine_with_clicks
from lumbarseg.segmentation.label_map import check_level_order, classes_on_exam_grid, keep_kinds, render_label_map
from lumbarseg.segmentation.levels import assign_levels, list_levels
from lumbarseg.segmentation.pipeline import separate_lumbar_spine
from lumbarseg.segmentation.prediction import Flips, Prediction, estimate_flips
from lumbarseg.volume import Volume

AXES = ("RAS", "LPS", "PIR", "SAL", "ASR", "IPL")
FULL_CARD = ModelCard(PreprocessingSpec())
DISCS_ONLY_CARD = ModelCard(
    PreprocessingSpec(), trained_names=("background", "disc"), targets=("disc",), lowest_structure=("L5-S1", 1.0)
)


def read_array(job: Job, name: str, dtype: Any) -> np.ndarray:
    return np.fromfile(f"{job['out']}.{name}", dtype)


def volume(axes: str, shape: tuple[int, int, int], seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    spacing = tuple(4.1 if letter in "RL" else 0.8 for letter in axes)
    array = ndimage.gaussian_filter(rng.normal(size=shape), 2).astype(np.float32) * 900 + 400
    return Volume(array, affine_of(axes, spacing, (3.0, -20.0, 7.0), (4.0, -7.0, 5.0)))


def test_numpy_and_ndimage_functions_match(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = np.round(rng.normal(size=(4, 9, 11)) * 3, 1)
    job = {"action": "arrays", "values": values.ravel().tolist(), "shape": values.shape, "sigma": 1.3, "q": 37.0}
    (result,) = run_jobs([job], tmp_path)
    flat = values.ravel()
    assert result["rounded"] == np.rint(flat).tolist()
    assert result["percentile"] == pytest.approx(np.percentile(flat, 37), rel=1e-12)
    assert result["percentiles"] == pytest.approx(np.percentile(flat.astype(np.float32), [37, 0, 50, 100]), rel=1e-6)
    for border, mode in (("nearest", "nearest"), ("zero", "constant")):
        assert np.allclose(result[border], ndimage.gaussian_filter1d(flat, 1.3, mode=mode), atol=1e-12)
    mask = values > 0
    assert result["components"] == ndimage.label(mask)[0].ravel().tolist()
    plane = ndimage.generate_binary_structure(3, 1) & np.array([[[False]], [[True]], [[False]]])
    assert result["componentsInPlane"] == ndimage.label(mask, plane)[0].ravel().tolist()
    assert result["componentsByCorners"] == ndimage.label(mask, np.ones((3, 3, 3)))[0].ravel().tolist()
    bytes_array = np.abs(np.rint(values * 10)).astype(np.uint8)
    assert result["maximumFilter"] == ndimage.grey_dilation(bytes_array, size=(3, 5, 5)).ravel().tolist()


@pytest.mark.parametrize("version", [1, 2])
def test_nifti_headers_are_read_as_in_python(tmp_path: Path, version: int) -> None:
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    rng, jobs = np.random.default_rng(5), []
    for number, dtype in enumerate((">i2", "u1", "<u2", ">f4", "f8", "i4", "i8", "i1")):
        array = (rng.random((5, 6, 7)) * 100).astype(dtype)
        image = kind(array, affine_of(AXES[number % 6], (1.0, 2.0, 3.0), (9, 8, 7), (10.0, 20.0, 5.0)), dtype=dtype)
        header = image.header
        header.set_sform(image.affine, 1 if number % 3 else 0)
        header.set_qform(image.affine, 1 if number % 2 else 0)
        if number % 4 == 1:
            header.set_slope_inter(0.37, -3.1)
        path = tmp_path / f"{number}.nii{'.gz' if number % 2 else ''}"
        image.to_filename(path)
        jobs.append({"action": "read", "file": str(path)})
    for job, result in zip(jobs, run_jobs(jobs, tmp_path), strict=True):
        expected = read_image(Path(job["file"]))
        assert tuple(result["shape"]) == expected.array.shape
        assert np.allclose(result["affine"], expected.affine, atol=1e-9)
        assert np.array_equal(read_array(job, "f32", np.float32), expected.array.ravel(order="F"))


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_the_viewer_gets_a_corrected_affine(tmp_path: Path, kind: type) -> None:
    affine = affine_of("PIL", (1.0, 2.0, 3.0), (9, 8, 7), (10.0, 20.0, 5.0))
    corrected = np.diag([1.0, -1.0, -1.0, 1.0]) @ affine
    image = kind(np.arange(210, dtype=np.int16).reshape(5, 6, 7), affine)
    image.set_qform(affine, 1)
    image.to_filename(tmp_path / "exam.nii.gz")
    job = {"action": "writeExam", "file": str(tmp_path / "exam.nii.gz"), "affine": corrected.tolist()}
    run_jobs([job], tmp_path)
    result = nibabel.load(f"{job['out']}.nii")
    for matrix in (result.get_sform(), result.get_qform(), result.affine):
        assert np.allclose(matrix, corrected, atol=1e-5)
    assert np.array_equal(result.dataobj, image.dataobj)


def test_a_slice_without_thickness_gets_the_assumed_thickness(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((1, 30, 40), np.float32), None)
    image.header.set_sform(np.array([[0, 1, 0, 3], [0, 0, 1.2, 4], [0, 0.1, 0, 5], [0, 0, 0, 1]]), 1)
    image.to_filename(tmp_path / "one.nii")
    (result,) = run_jobs([{"action": "read", "file": str(tmp_path / "one.nii")}], tmp_path)
    assert np.allclose(result["affine"], read_image(tmp_path / "one.nii").affine, atol=1e-9)
    assert "thickness" in result["notes"][0]


def test_damaged_files_raise_errors(tmp_path: Path) -> None:
    write_image(volume("RAS", (5, 20, 20)), tmp_path / "bytes_array.nii.gz")
    write_image(volume("RAS", (5, 20, 20)), tmp_path / "bytes_array.nii")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "bytes_array.nii.gz").read_bytes()[:900])
    (tmp_path / "cut.nii").write_bytes((tmp_path / "bytes_array.nii").read_bytes()[:900])
    (tmp_path / "none.nii").write_bytes(b"no exam at all" * 50)
    nan = np.full((4, 4, 4), np.nan, np.float32)
    nibabel.Nifti1Image(nan, np.eye(4)).to_filename(tmp_path / "nan.nii")
    nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)).to_filename(tmp_path / "four.nii")
    nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.diag([999.0, 1, 1, 1])).to_filename(tmp_path / "far.nii")
    names = ("cut.nii.gz", "cut.nii", "none.nii", "nan.nii", "four.nii", "far.nii")
    result = run_jobs([{"action": "read", "file": str(tmp_path / each)} for each in names], tmp_path)
    messages = ("gzip", "truncated", "not a NIfTI", "NaN", "4-D", "of a person")
    assert all(word in row["error"] for word, row in zip(messages, result, strict=True)), result
    for each in names:
        with pytest.raises(LumbarsegError):
            read_image(tmp_path / each)


@pytest.mark.parametrize("axes", AXES)
def test_label_maps_are_written_as_in_python(tmp_path: Path, axes: str) -> None:
    labels = np.random.default_rng(1).integers(0, 12, (6, 7, 8)).astype(np.uint8)
    affine = affine_of(axes, (1.0, 2.0, 3.0), (9.0, 8.0, 7.0), (10.0, 20.0, 5.0))
    labels.ravel(order="F").tofile(tmp_path / "labels")
    job = {"action": "write", "file": str(tmp_path / "labels"), "shape": labels.shape, "affine": affine.tolist()}
    run_jobs([job], tmp_path)
    write_labels(Volume(labels, affine), tmp_path / "python.nii")
    page, python = (nibabel.load(path) for path in (f"{job['out']}.nii", tmp_path / "python.nii"))
    assert np.array_equal(np.asarray(page.dataobj), labels)
    for get in ("get_sform", "get_qform"):
        assert np.allclose(getattr(page, get)(), getattr(python, get)(), atol=1e-5)
    for key in ("intent_code", "qform_code", "sform_code", "xyzt_units", "datatype", "descrip"):
        assert page.header[key] == python.header[key]
    (caret, table_), (caret_, python_table) = (
        [extension.get_content() for extension in image.header.extensions] for image in (page, python)
    )
    assert caret == caret_ and json.loads(table_.decode().rstrip("\0")) == json.loads(python_table)


def open_study(folder: Path, tmp_path: Path) -> tuple[Job, Volume]:
    """Return what the page reads from the files of a folder, or from one file, and the volume of its first exam."""
    files = sorted(str(path) for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else [str(folder)]
    program = node_modules_or_skip(testing=False) / "@niivue/dcm2niix/dist/dcm2niix.jpeg.wasm"
    job = {"action": "study", "files": files, "dcm2niix": str(program)}
    (result,) = run_jobs([job], tmp_path)
    if "error" in result:
        return result, Volume(np.zeros((1, 1, 1), np.float32), np.eye(4))
    array = read_array(job, "f32", np.float32).reshape(result["shape"], order="F")
    return result, Volume(array, np.array(result["affine"]))


def assert_same_exam(page: Volume, command: Volume) -> None:
    """Compare voxels by position: dcm2niix may store slices and rows in another order."""
    same_order = reorient(page, command.grid.axis_codes)
    assert np.allclose(same_order.affine, command.affine, atol=1e-3)
    assert np.allclose(same_order.array, command.array, atol=0.5)


@pytest.mark.parametrize("axes", ["PIL", "PIR", "AIL", "PSL", "LIP"])
def test_dicom_series_are_read_as_by_the_command(tmp_path: Path, axes: str) -> None:
    exam = reorient(volume("RAS", (9, 60, 80)), axes)
    exam = Volume(np.rint(exam.array).astype(np.int16), exam.affine)
    write_series(tmp_path / "study", exam, T2, shuffle=len(axes))
    result, page = open_study(tmp_path / "study", tmp_path)
    assert result["modality"] == "MR" and result["name"] == "T2_TSE_SAG"
    assert_same_exam(page, read_exam(tmp_path / "study").volume)


def test_the_series_of_a_study_come_in_the_order_of_the_command(tmp_path: Path) -> None:
    sagittal = reorient(volume("RAS", (9, 60, 80)), "PIR")
    sagittal = Volume(np.rint(sagittal.array).astype(np.int16), sagittal.affine)
    short = Volume(sagittal.array[:, :, :3], sagittal.affine)
    for protocol, image in ((T1, sagittal), (T2, sagittal), (AXIAL, reorient(sagittal, "LPS")), (LOCALISER, short)):
        write_series(tmp_path / "study" / protocol.description, image, protocol)
    archive = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "study")
    result, page = open_study(Path(archive), tmp_path)
    assert [title.split(":")[0] for title in result["titles"]] == [
        "3 T2_TSE_SAG",
        "2 T1_TSE_SAG",
        "4 T2_TSE_TRA",
        "1 localizer",
    ]
    assert "sagittal, T2, 9 slices" in result["titles"][0] and "localiser" in result["titles"][3]
    assert_same_exam(page, read_exam(tmp_path / "study").volume)


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"])
def test_compressed_dicom_is_read(tmp_path: Path, syntax: str) -> None:
    gdcm = pytest.importorskip("gdcm")
    from tests.io.dicom.test_pixels import compress_all  # needs gdcm

    exam = reorient(volume("RAS", (5, 60, 80)), "PIL")
    exam = Volume(np.rint(exam.array).astype(np.int16), exam.affine)
    write_series(tmp_path / "study", exam, T2)
    compress_all(tmp_path / "study", getattr(gdcm.TransferSyntax, syntax))
    for path in (tmp_path / "study").iterdir():  # GDCM adds the time at which it writes each file
        dataset = pydicom.dcmread(path)
        dataset.StudyTime = "120000"
        dataset.save_as(path)
    assert_same_exam(open_study(tmp_path / "study", tmp_path)[1], exam)


def test_studies_that_cannot_be_read_give_one_line(tmp_path: Path) -> None:
    exam = reorient(volume("RAS", (5, 60, 80)), "PIL")
    exam = Volume(np.rint(exam.array).astype(np.int16), exam.affine)
    write_series(tmp_path / "two" / "a", exam, T2)
    write_series(tmp_path / "two" / "b", exam, replace(T1, study="1.2.3.999999"))
    for path in write_series(tmp_path / "video", exam, T2):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
        dataset.PixelData = encapsulate([b"\xff\x4f" + bytes(100)])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path)
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04" + bytes(200))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "readme.txt").write_text("no exam")
    messages = {
        "two": "several patients",
        "video": "cannot be read",
        "broken.zip": "damaged ZIP",
        "text": "not a NIfTI file",
    }
    for name, expected in messages.items():
        result, _ = open_study(tmp_path / name, tmp_path)
        assert expected in result.get("error", ""), (name, result)


def test_preprocessing_matches_python(tmp_path: Path) -> None:
    shapes = {"R": 9, "L": 9, "A": 90, "P": 90, "S": 120, "I": 120}
    with_clicks = replace(FULL_CARD, spec=replace(FULL_CARD.spec, clicks=ClickGaussian()))
    thin = replace(FULL_CARD, spec=replace(FULL_CARD.spec, slab=8.5))
    cases = [(axes, FULL_CARD) for axes in AXES] + [("RAS", with_clicks), ("LPS", thin)]
    jobs = []
    for number, (axes, card) in enumerate(cases):
        path = tmp_path / f"{number}.nii"
        write_image(volume(axes, tuple(shapes[letter] for letter in axes), number), path)
        jobs.append({"action": "preprocess", "file": str(path), "card": page_tables.card_for_page(card)})
    for job, result, (_, card) in zip(jobs, run_jobs(jobs, tmp_path), cases, strict=True):
        expected = preprocess(read_image(Path(job["file"])), card.spec)
        assert tuple(result["shape"]) == expected.grid.shape
        assert np.allclose(result["affine"], expected.grid.affine, atol=1e-9)
        array = read_array(job, "f32", np.float32).reshape(expected.array.shape)
        assert np.abs(array - expected.array).max() < 2e-4
        middle = extract_windows(array[:, 1:, :-1], card.spec)[len(array) // 2]
        assert tuple(result["window"]) == middle.shape
        assert np.array_equal(read_array(job, "window", np.float32), middle.ravel())


def test_every_constant_the_page_reads_exists_in_python() -> None:
    constants = {
        module.__name__.rpartition(".")[2]: page_tables.module_constants(module)
        for module in page_tables.PORTED_MODULES
    }
    for path in npm_packages.page_source_folder().glob("*.js"):
        text = path.read_text(encoding="utf-8")
        read = [
            (m[2], re.findall(r"[A-Z]\w+(?=\s*[,}:])", m[1]))
            for m in re.finditer(r"const (\{[^}]*\}) = CONSTANTS\.(\w+);", text)
        ]
        read += [
            (m[2], re.findall(rf"\b{m[1]}\.(\w+)", text)) for m in re.finditer(r"const (\w+) = CONSTANTS\.(\w+);", text)
        ]
        assert len(read) == text.count("CONSTANTS."), path.name
        for module, names in read:
            missing = set(names) - set(constants[module])
            assert names and not missing, f"{path.name}: {module}.py has no constant {sorted(missing)}"


PLANS = {
    "plain": (SpinePlan(), FULL_CARD, {}),
    "scoliosis": (SpinePlan(bend=3.0, lordosis=4.0), FULL_CARD, {}),
    "missing and fused discs": (SpinePlan(missing=frozenset({3}), fused=frozenset({5})), FULL_CARD, {}),
    "crushed and slipped": (SpinePlan(crushed=frozenset({2}), slips={3: 6.0}), FULL_CARD, {}),
    "rough": (SpinePlan(noise=0.2, touching=True), FULL_CARD, {}),
    "no sacrum": (SpinePlan(sacrum=0.5), FULL_CARD, {}),
    "an S1 like a lumbar body": (SpinePlan(slope=45.0, lordosis=12.0, missing=frozenset({1})), FULL_CARD, {}),
    "named from the lowest": (SpinePlan(), FULL_CARD, {"pinned": ("L6", 1)}),
    "named from the third": (SpinePlan(), FULL_CARD, {"pinned": ("L2", 3)}),
    "single slices": (SpinePlan(slices=3), FULL_CARD, {}),
    "discs alone": (SpinePlan(), DISCS_ONLY_CARD, {}),
    "discs alone, no lowest disc": (
        SpinePlan(missing=frozenset({1})),
        replace(DISCS_ONLY_CARD, lowest_structure=("L4-L5", 0.9)),
        {},
    ),
    "discs alone, a tall spine": (SpinePlan(slices=1, size=1.15, lordosis=3.0, slope=15.0), DISCS_ONLY_CARD, {}),
    "turned": (SpinePlan(), FULL_CARD, {"flips": (True, False)}),
    "upside down": (SpinePlan(), FULL_CARD, {"flips": (True, True)}),
}


@pytest.fixture(scope="module")
def page_results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Job, Job, np.ndarray]]:
    """Return for each plan the job, the page's result, and the class probabilities (C, slices, A, S) given to both."""
    folder = tmp_path_factory.mktemp("page_results")
    jobs, probability_maps = [], []
    for number, (plan, card, options) in enumerate(PLANS.values()):
        classes = build_spine(plan, number).classes
        if trained_names := set(card.trained_names):
            classes = np.where(np.isin(classes, [CLASSES.index(k) for k in trained_names]), classes, 0)
        probabilities = np.stack([ndimage.uniform_filter((classes == c) * 1.0, (1, 3, 3)) for c in range(6)]) + 0.01
        probabilities = (probabilities / probabilities.sum(axis=0)).astype(np.float32)
        axes = AXES[number % len(AXES)]
        write_image(exam(classes, axes, plan, options.get("flips", (False, False))), folder / f"{number}.nii")
        probabilities.tofile(folder / f"{number}.probabilities")
        settings = {"pinned": None, "flips": (False, False)} | options
        paths = {"file": str(folder / f"{number}.nii"), "probabilities": str(folder / f"{number}.probabilities")}
        jobs.append({"action": "segment", "card": page_tables.card_for_page(card), **paths, **settings})
        probability_maps.append(probabilities)
    result = run_jobs(jobs, folder)
    return {key: row for key, *row in zip(PLANS, jobs, result, probability_maps, strict=True)}


def exam(classes: np.ndarray, axes: str, plan: SpinePlan, flips: Flips) -> Volume:
    """Return a volume with 0.8 mm pixels whose preprocessed grid is that of the class map (slices, A, S)."""
    slices, a, s = classes.shape
    shape = (slices, round(a / 0.8), round(s / 0.8))
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    affine = affine_of("RAS", (plan.slice, a / shape[1], s / shape[2]))
    return reorient(Volume(array, affine), axes)


@pytest.mark.parametrize("key", PLANS)
def test_instances_levels_and_label_map_match_python(page_results: Any, key: str) -> None:
    job, result, probabilities = page_results[key]
    _, card, _ = PLANS[key]
    prepared = preprocess(read_image(Path(job["file"])), card.spec)
    assert prepared.grid.shape == probabilities.shape[1:]
    prediction = Prediction(prepared, job["flips"], probabilities, probabilities.argmax(axis=0).astype(np.uint8))
    instances = separate_lumbar_spine(prediction, card)
    assign = assign_levels_from_discs if instances.discs_only else assign_levels
    assignment = assign(instances, probabilities, [job["pinned"]] if job["pinned"] else (), card.lowest_structure)
    labels = render_label_map(classes_on_exam_grid(prediction), instances, assignment.names, prediction)
    check_level_order(labels)
    for part in ("bodies", "discs", "arches", "sacrum", "canal"):
        expected = getattr(instances, part).astype(np.uint8)
        differs = (read_array(job, part, np.uint8) != expected.ravel()).sum()
        assert differs <= 0.001 * max((expected > 0).sum(), 1), part
    assert np.allclose(result["positions"], instances.positions, atol=1e-3)
    assert tuple(result["flips"]) == estimate_flips(prediction.classes, prepared)
    expected = keep_kinds(labels, card.output_kinds)
    differs = (read_array(job, "labels", np.uint8) != expected.ravel(order="F")).sum()
    assert differs <= 0.001 * (expected > 0).sum()
    assert result["anchor"] == assignment.anchor and result["reasons"] == list(assignment.reasons)
    assert result["confidence"] == pytest.approx(assignment.confidence, abs=0.002)
    rows = list_levels(instances, assignment, prediction)
    assert [level["name"] for level in result["levels"]] == [level.name for level in rows]
    for page, level in zip(result["levels"], rows, strict=True):
        assert (page["uncertain"], page["partial"]) == (level.uncertain, level.partial)
        assert page["reasons"] == list(level.reasons)
        assert np.allclose(page["centre"], level.centre, atol=0.11)


def test_measurements_match_python(tmp_path: Path) -> None:
    jobs = []
    for seed, axes in enumerate(("RAS", "PIL", "LPS")):
        labels = reorient(
            render_phantom(sample_recipe(np.random.default_rng(seed), RecipeRanges(isotropic_fraction=0.0))).labels,
            axes,
        )
        labels = Volume(np.ascontiguousarray(labels.array), labels.affine)
        if axes == "LPS":  # a header with front and back exchanged
            labels = Volume(labels.array, np.diag([1.0, -1.0, 1.0, 1.0]) @ labels.affine)
        write_labels(labels, tmp_path / f"{seed}.nii.gz")
        jobs.append({"action": "measure", "file": str(tmp_path / f"{seed}.nii.gz"), "flips": (axes == "LPS", False)})
    for job, result in zip(jobs, run_jobs(jobs, tmp_path), strict=True):
        expected = measure_structures(read_labels(Path(job["file"])), job["flips"])
        assert [row["name"] for row in result["rows"]] == [row.name for row in expected]
        for page, row in zip(result["rows"], expected, strict=True):
            values = {key: value for key, value in asdict(row).items() if value is not None and key != "not_measured"}
            assert set(page) == set(values), row.name
            for key, value in values.items():
                near = pytest.approx(value, abs=0.11) if isinstance(value, float) else value
                assert page[key] == near, (row.name, key)
        assert result["lordosis"] == pytest.approx(lumbar_lordosis(expected), abs=0.11)


def test_tables_state_the_error_of_each_measurement(tmp_path: Path) -> None:
    write_labels(synthetic_exam(193).labels, tmp_path / "labels.nii.gz")
    levels = [{"name": "L3", "confidence": 0.9}]
    job = {"action": "tables", "file": str(tmp_path / "labels.nii.gz"), "levels": levels, "exam": 'a "b", c'}
    (result,) = run_jobs([job], tmp_path)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(result["csv"]))}
    expected = measure_structures(read_labels(tmp_path / "labels.nii.gz"))
    assert list(rows) == [row.name for row in expected]
    for measured in expected:
        row = rows[measured.name]
        assert tuple(row) == (*MEASUREMENT_COLUMNS, "confidence") and row["exam"] == 'a "b", c'
        assert (row["kind"], row["complete"]) == (measured.kind.value, str(measured.complete))
        for name, unit in UNITS.items():
            value, error = getattr(measured, name), measurement_error(name, measured.kind.value)
            cells = row[f"{name}_{unit}"], row[f"{name}_{unit}_sd"]
            assert [float(cell) if cell else None for cell in cells] == [
                pytest.approx(value, abs=0.11) if value is not None else None,
                error if value is not None else None,
            ]
            if measured.name == "L3" and value is not None:
                assert f"{float(cells[0]):.1f} <small>±{error:.1f}</small>" in result["html"]
    assert rows["L3"]["confidence"] == "0.9" and rows["L2"]["confidence"] == ""
    assert f"±{measurement_error('lordosis', SPINE):.0f}°" in result["numbers"]


@dataclass(frozen=True, eq=False)
class ClassReader:
    """A network that reads the class of a pixel from its value, and follows clicks."""

    card: ModelCard

    def run(self, windows: np.ndarray) -> np.ndarray:
        count, first = len(CLASSES), 2 * self.card.spec.neighbours + 1
        image = windows[:, self.card.spec.neighbours][:, None]
        levels = np.arange(count, dtype=np.float32)[:, None, None] / (count - 1)
        return (-200 * (image - levels) ** 2 + 12 * windows[:, first : first + count]).astype(np.float32)


def class_image() -> Volume:
    """Return an exam whose values are classes, one voxel of which has the largest class."""
    array = build_spine(SpinePlan(), 4).classes.astype(np.float32)
    array[0, 0, 5] = len(CLASSES) - 1
    return Volume(array, affine_of("RAS", (SpinePlan().slice, 1.0, 1.0)))


PLAIN = Normalisation(low=0.0, high=100.0, power=0.0, top=100.0)
CLICK_CARD = ModelCard(PreprocessingSpec(normalisation=PLAIN, clicks=ClickGaussian()))
CLICKS = {
    "a border moved": [("L3", True, 16.0)],
    "not this vertebra": [("L3", False, 0.0)],
    "another name": [("L2", True, 0.0)],
    "not followed": [("L4", False, 0.0), ("L3", True, 40.0)],
    "a disc and a wrong kind": [("L3-L4", True, 8.0), ("canal", True, 22.0)],
}


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, ...]]:
    """Return for each list of clicks the page's result and that of Python. Clicks lie anterior of the centre of L3."""
    folder = tmp_path_factory.mktemp("corrected")
    write_image(reorient(class_image(), "PIL"), folder / "exam.nii")
    model = ClassReader(CLICK_CARD)
    automatic = segment(read_image(folder / "exam.nii"), model, keep_state=True)
    centre = np.array(next(level.centre for level in automatic.levels if level.name == "L3"))
    jobs, results = [], []
    for clicks in CLICKS.values():
        points = [(centre + np.array([0, distance, 0]), name, positive) for name, positive, distance in clicks]
        user_clicks = [Click(tuple(point), name, positive) for point, name, positive in points]
        results.append(refine_with_clicks(automatic, model, user_clicks))
        rows = [{"point": list(c.point), "structure": c.structure, "positive": c.positive} for c in user_clicks]
        card = page_tables.card_for_page(CLICK_CARD)
        jobs.append({"action": "correct", "file": str(folder / "exam.nii"), "card": card, "clicks": rows})
    page = run_jobs(jobs, folder)
    return {key: (automatic, *row) for key, *row in zip(CLICKS, jobs, page, results, strict=True)}


@pytest.mark.parametrize("key", CLICKS)
def test_corrections_match_python(corrected: dict[str, tuple[Any, ...]], key: str) -> None:
    automatic, job, page, expected = corrected[key]
    assert (read_array(job, "before", np.uint8) == automatic.labels.array.ravel(order="F")).all()
    labels, truth = read_array(job, "labels", np.uint8), expected.labels.array.ravel(order="F")
    assert (labels != truth).sum() <= 0.001 * (truth > 0).sum()
    assert (truth != automatic.labels.array.ravel(order="F")).any()
    assert [level["name"] for level in page["levels"]] == [level.name for level in expected.levels]
    assert page["anchor"] == expected.anchor and page["confidence"] == pytest.approx(expected.confidence, abs=0.002)
    assert len(page["notes"]) == len(expected.warnings)


def test_contradicting_clicks_are_refused(tmp_path: Path) -> None:
    write_image(class_image(), tmp_path / "exam.nii")
    rows = [{"point": [0, 0, 0], "structure": name, "positive": True} for name in ("L3", "L4")]
    card = page_tables.card_for_page(CLICK_CARD)
    job = {"action": "correct", "file": str(tmp_path / "exam.nii"), "card": card, "clicks": rows}
    (result,) = run_jobs([job], tmp_path)
    assert "clicks contradict each other" in result["error"]
