"""The rooms that the page has in JavaScript give what those in Python give, on arrays from Python."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from tests.grids import affine_of
from tests.packaging.rooms import Job, run
from tests.segmentation.spines import Plan, build

from lumbarseg.anatomy import CLASSES
from lumbarseg.errors import LumbarsegError
from lumbarseg.inference import ModelCard
from lumbarseg.io import read_image, read_labels, write_image, write_labels
from lumbarseg.measurement import lumbar_lordosis, measure_structures
from lumbarseg.packaging import page_tables
from lumbarseg.phantom import RecipeRanges, draw_recipe, render_phantom
from lumbarseg.preprocessing import ClickGaussian, PreprocessingSpec, extract_windows, preprocess
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import discs_only, orientation
from lumbarseg.segmentation.label_map import check_level_order, classes_on_exam_grid, keep_kinds, render_label_map
from lumbarseg.segmentation.levels import _lowest_complete_body, assign_levels, list_levels
from lumbarseg.segmentation.orientation import Prediction
from lumbarseg.segmentation.pipeline import separate_lumbar_spine
from lumbarseg.volume import Volume

AXES = ("RAS", "LPS", "PIR", "SAL", "ASR", "IPL")
CARD = ModelCard(PreprocessingSpec())
ALONE = ModelCard(
    PreprocessingSpec(), trained_names=("background", "disc"), targets=("disc",), lowest_structure=("L5-S1", 1.0)
)


def told(job: Job, name: str, dtype: Any) -> np.ndarray:
    return np.fromfile(f"{job['out']}.{name}", dtype)


def volume(axes: str, shape: tuple[int, int, int], seed: int = 0) -> Volume:
    rng = np.random.default_rng(seed)
    spacing = tuple(4.1 if letter in "RL" else 0.8 for letter in axes)
    array = ndimage.gaussian_filter(rng.normal(size=shape), 2).astype(np.float32) * 900 + 400
    return Volume(array, affine_of(axes, spacing, (3.0, -20.0, 7.0), (4.0, -7.0, 5.0)))


def test_numpy_and_ndimage(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = np.round(rng.normal(size=(4, 9, 11)) * 3, 1)
    job = {"deed": "numbers", "values": values.ravel().tolist(), "shape": values.shape, "sigma": 1.3, "q": 37.0}
    (got,) = run([job], tmp_path)
    flat = values.ravel()
    assert got["rounded"] == np.rint(flat).tolist()
    assert got["percentile"] == pytest.approx(np.percentile(flat, 37), rel=1e-12)
    assert got["percentiles"] == pytest.approx(np.percentile(flat.astype(np.float32), [37, 0, 50, 100]), rel=1e-6)
    for border, mode in (("nearest", "nearest"), ("zero", "constant")):
        assert np.allclose(got[border], ndimage.gaussian_filter1d(flat, 1.3, mode=mode), atol=1e-12)
    mask = values > 0
    assert got["pieces"] == ndimage.label(mask)[0].ravel().tolist()
    plane = ndimage.generate_binary_structure(3, 1) & np.array([[[False]], [[True]], [[False]]])
    assert got["flat"] == ndimage.label(mask, plane)[0].ravel().tolist()
    whole = np.abs(np.rint(values * 10)).astype(np.uint8)
    assert got["spread"] == ndimage.grey_dilation(whole, size=(3, 5, 5)).ravel().tolist()
    affine = np.array([[2, 0.1, 0, 5], [0, 1, 0.2, -3], [0.3, 0, 4, 1], [0, 0, 0, 1]])
    assert np.allclose(got["inverse"], np.linalg.inv(affine), atol=1e-12)


@pytest.mark.parametrize("version", [1, 2])
def test_every_header_is_read_as_python_reads_it(tmp_path: Path, version: int) -> None:
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
        jobs.append({"deed": "read", "file": str(path)})
    for job, got in zip(jobs, run(jobs, tmp_path), strict=True):
        expected = read_image(Path(job["file"]))
        assert tuple(got["shape"]) == expected.array.shape
        assert np.allclose(got["affine"], expected.affine, atol=1e-9)
        assert np.array_equal(told(job, "f32", np.float32), expected.array.ravel(order="F"))


def test_one_slice_without_a_thickness_gets_the_same(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.ones((1, 30, 40), np.float32), None)
    image.header.set_sform(np.array([[0, 1, 0, 3], [0, 0, 1.2, 4], [0, 0.1, 0, 5], [0, 0, 0, 1]]), 1)
    image.to_filename(tmp_path / "one.nii")
    (got,) = run([{"deed": "read", "file": str(tmp_path / "one.nii")}], tmp_path)
    assert np.allclose(got["affine"], read_image(tmp_path / "one.nii").affine, atol=1e-9)
    assert "thickness" in got["notes"][0]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    write_image(volume("RAS", (5, 20, 20)), tmp_path / "whole.nii.gz")
    write_image(volume("RAS", (5, 20, 20)), tmp_path / "whole.nii")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "whole.nii.gz").read_bytes()[:900])
    (tmp_path / "cut.nii").write_bytes((tmp_path / "whole.nii").read_bytes()[:900])
    (tmp_path / "none.nii").write_bytes(b"no exam at all" * 50)
    nan = np.full((4, 4, 4), np.nan, np.float32)
    nibabel.Nifti1Image(nan, np.eye(4)).to_filename(tmp_path / "nan.nii")
    nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)).to_filename(tmp_path / "four.nii")
    nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.diag([999.0, 1, 1, 1])).to_filename(tmp_path / "far.nii")
    names = ("cut.nii.gz", "cut.nii", "none.nii", "nan.nii", "four.nii", "far.nii")
    got = run([{"deed": "read", "file": str(tmp_path / each)} for each in names], tmp_path)
    words = ("gzip", "truncated", "no NIfTI", "NaN", "4-D", "of a person")
    assert all(word in row["refused"] for word, row in zip(words, got, strict=True)), got
    for each in names:
        with pytest.raises(LumbarsegError):
            read_image(tmp_path / each)


@pytest.mark.parametrize("axes", AXES)
def test_a_label_map_is_written_as_python_writes_it(tmp_path: Path, axes: str) -> None:
    labels = np.random.default_rng(1).integers(0, 12, (6, 7, 8)).astype(np.uint8)
    affine = affine_of(axes, (1.0, 2.0, 3.0), (9.0, 8.0, 7.0), (10.0, 20.0, 5.0))
    labels.ravel(order="F").tofile(tmp_path / "labels")
    job = {"deed": "write", "file": str(tmp_path / "labels"), "shape": labels.shape, "affine": affine.tolist()}
    run([job], tmp_path)
    write_labels(Volume(labels, affine), tmp_path / "python.nii")
    ours, python = (nibabel.load(path) for path in (f"{job['out']}.nii", tmp_path / "python.nii"))
    assert np.array_equal(np.asarray(ours.dataobj), labels)
    for get in ("get_sform", "get_qform"):
        assert np.allclose(getattr(ours, get)(), getattr(python, get)(), atol=1e-5)
    for key in ("intent_code", "qform_code", "sform_code", "xyzt_units", "datatype", "descrip"):
        assert ours.header[key] == python.header[key]
    (caret, table_), (caret_, python_table) = (
        [extension.get_content() for extension in image.header.extensions] for image in (ours, python)
    )
    assert caret == caret_ and json.loads(table_.decode().rstrip("\0")) == json.loads(python_table)


def test_an_exam_is_prepared_as_python_prepares_it(tmp_path: Path) -> None:
    shapes = {"R": 9, "L": 9, "A": 90, "P": 90, "S": 120, "I": 120}
    clicked = replace(CARD, spec=replace(CARD.spec, clicks=ClickGaussian()))
    thin = replace(CARD, spec=replace(CARD.spec, slab=8.5))
    cases = [(axes, CARD) for axes in AXES] + [("RAS", clicked), ("LPS", thin)]
    jobs = []
    for number, (axes, card) in enumerate(cases):
        path = tmp_path / f"{number}.nii"
        write_image(volume(axes, tuple(shapes[letter] for letter in axes), number), path)
        jobs.append({"deed": "prepare", "file": str(path), "card": page_tables.card_for_page(card)})
    for job, got, (_, card) in zip(jobs, run(jobs, tmp_path), cases, strict=True):
        expected = preprocess(read_image(Path(job["file"])), card.spec)
        assert tuple(got["shape"]) == expected.grid.shape
        assert np.allclose(got["affine"], expected.grid.affine, atol=1e-9)
        array = told(job, "f32", np.float32).reshape(expected.array.shape)
        assert np.abs(array - expected.array).max() < 2e-4
        middle = extract_windows(array[:, 1:, :-1], card.spec)[len(array) // 2]
        assert tuple(got["window"]) == middle.shape
        assert np.array_equal(told(job, "window", np.float32), middle.ravel())


PLANS = {
    "plain": (Plan(), CARD, {}),
    "scoliosis": (Plan(bend=3.0, lordosis=4.0), CARD, {}),
    "missing and fused discs": (Plan(missing=frozenset({3}), fused=frozenset({5})), CARD, {}),
    "crushed and slipped": (Plan(crushed=frozenset({2}), slips={3: 6.0}), CARD, {}),
    "rough": (Plan(noise=0.2, touching=True), CARD, {}),
    "no sacrum": (Plan(sacrum=0.5), CARD, {}),
    "an S1 like a lumbar body": (Plan(slope=45.0, lordosis=12.0, missing=frozenset({1})), CARD, {}),
    "named from the lowest": (Plan(), CARD, {"lowest": "L6"}),
    "named from the third": (Plan(), CARD, {"pinned": ("L2", 3)}),
    "single slices": (Plan(slices=3), CARD, {}),
    "discs alone": (Plan(), ALONE, {}),
    "discs alone, no lowest disc": (Plan(missing=frozenset({1})), replace(ALONE, lowest_structure=("L4-L5", 0.9)), {}),
    "discs alone, a tall spine": (Plan(slices=1, size=1.15, lordosis=3.0, slope=15.0), ALONE, {}),
    "turned": (Plan(), CARD, {"flips": (True, False)}),
    "upside down": (Plan(), CARD, {"flips": (True, True)}),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Job, Job, np.ndarray]]:
    """For each plan the job, what the page tells, and the probabilities that both sides began from."""
    folder = tmp_path_factory.mktemp("answers")
    jobs, everything = [], []
    for number, (plan, card, words) in enumerate(PLANS.values()):
        classes = build(plan, number).classes
        if taught := set(card.trained_names):
            classes = np.where(np.isin(classes, [CLASSES.index(k) for k in taught]), classes, 0)
        scores = np.stack([ndimage.uniform_filter((classes == c) * 1.0, (1, 3, 3)) for c in range(6)]) + 0.01
        scores = (scores / scores.sum(axis=0)).astype(np.float32)
        axes = AXES[number % len(AXES)]
        write_image(exam(classes, axes, plan, words.get("flips", (False, False))), folder / f"{number}.nii")
        scores.tofile(folder / f"{number}.scores")
        rest = {"lowest": None, "pinned": None, "flips": (False, False)} | words
        paths = {"file": str(folder / f"{number}.nii"), "scores": str(folder / f"{number}.scores")}
        jobs.append({"deed": "answer", "card": page_tables.card_for_page(card), **paths, **rest})
        everything.append(scores)
    got = run(jobs, folder)
    return {key: row for key, *row in zip(PLANS, jobs, got, everything, strict=True)}


def exam(classes: np.ndarray, axes: str, plan: Plan, flips: orientation.Flips) -> Volume:
    """A volume that is prepared on the grid of a class map, with pixels of 0.8 mm and axes of its own."""
    slices, a, s = classes.shape
    shape = (slices, round(a / 0.8), round(s / 0.8))
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    affine = affine_of("RAS", (plan.slice, a / shape[1], s / shape[2]))
    return reorient(Volume(array, affine), axes)


@pytest.mark.parametrize("key", PLANS)
def test_a_spine_is_taken_apart_named_and_painted_as_in_python(answers: Any, key: str) -> None:
    job, got, scores = answers[key]
    _, card, _ = PLANS[key]
    prepared = preprocess(read_image(Path(job["file"])), card.spec)
    assert prepared.grid.shape == scores.shape[1:]
    spacing, flips = np.array(prepared.grid.spacing), job["flips"]
    classes = scores.argmax(axis=0)
    prediction = Prediction(prepared, flips, scores, classes)
    found = separate_lumbar_spine(prediction, card)
    named = [(job["lowest"], _lowest_complete_body(found))] if job["lowest"] else []
    named += [tuple(job["pinned"])] if job["pinned"] else []
    naming = (discs_only.assign_levels_from_discs if found.discs_only else assign_levels)(
        found, scores, named, card.lowest_structure
    )
    labels = render_label_map(classes_on_exam_grid(prediction), found, naming.names, prediction)
    check_level_order(labels)
    for part in ("bodies", "discs", "arches", "sacrum", "canal"):
        expected = getattr(found, part).astype(np.uint8)
        differs = (told(job, part, np.uint8) != expected.ravel()).sum()
        assert differs <= 0.001 * max((expected > 0).sum(), 1), part
    assert np.allclose(got["at"], found.positions, atol=1e-3)
    assert tuple(got["wrong"]) == orientation.estimate_flips(classes, spacing)
    expected = keep_kinds(labels, card.output_kinds)
    differs = (told(job, "labels", np.uint8) != expected.ravel(order="F")).sum()
    assert differs <= 0.001 * (expected > 0).sum()
    assert got["anchor"] == naming.anchor and got["reasons"] == list(naming.reasons)
    assert got["confidence"] == pytest.approx(naming.confidence, abs=0.002)
    rows = list_levels(found, naming, prediction)
    assert [level["name"] for level in got["levels"]] == [level.name for level in rows]
    for ours, level in zip(got["levels"], rows, strict=True):
        assert (ours["uncertain"], ours["partial"]) == (level.uncertain, level.partial)
        assert ours["reasons"] == list(level.reasons)
        assert np.allclose(ours["centre"], level.centre, atol=0.11)


def test_sizes_are_those_of_python(tmp_path: Path) -> None:
    jobs = []
    for seed, axes in enumerate(("RAS", "PIL", "LPS")):
        labels = reorient(
            render_phantom(draw_recipe(np.random.default_rng(seed), RecipeRanges(isotropic_fraction=0.0))).labels, axes
        )
        labels = Volume(np.ascontiguousarray(labels.array), labels.affine)
        if axes == "LPS":  # a header that denies where the front is
            labels = Volume(labels.array, np.diag([1.0, -1.0, 1.0, 1.0]) @ labels.affine)
        write_labels(labels, tmp_path / f"{seed}.nii.gz")
        jobs.append({"deed": "measure", "file": str(tmp_path / f"{seed}.nii.gz")})
    for number, (job, got) in enumerate(zip(jobs, run(jobs, tmp_path), strict=True)):
        expected = measure_structures(read_labels(Path(job["file"])), (number == 2, False))
        assert [row["name"] for row in got["rows"]] == [row.name for row in expected]
        for ours, row in zip(got["rows"], expected, strict=True):
            values = {key: value for key, value in asdict(row).items() if value is not None}
            assert set(ours) == set(values), row.name
            for key, value in values.items():
                near = pytest.approx(value, abs=0.11) if isinstance(value, float) else value
                assert ours[key] == near, (row.name, key)
        assert got["lordosis"] == pytest.approx(lumbar_lordosis(expected), abs=0.11)
