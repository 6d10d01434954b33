"""`lumbarseg pseudo-label` on small phantoms, with the bundled network as several models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from tests import tiny
from tests.datasets import small_phantoms
from tests.datasets.layouts.exam import SyntheticExam

from lumbarseg.anatomy import STRUCTURES, Kind, labels_of_kind
from lumbarseg.cli.main import main
from lumbarseg.datasets import Dataset, read_case
from lumbarseg.datasets.dataset import create_dataset, verify_checksums, write_case
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.inference.card import BLANK_DIGEST
from lumbarseg.io import write_image
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.volume import Volume

onnx = pytest.importorskip("onnx")

TARGETS = {
    "bodies": ("body",),
    "discs": ("disc",),
    "thick": ("body",),
    "upper": ("L1", "L2"),
    "lower": ("L3", "L4", "L5"),
}


@pytest.fixture(scope="module")
def models(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled network as models, one of which segments bodies too large."""
    folder = tmp_path_factory.mktemp("models")
    card = Model.load(model_file).card
    for name, targets in TARGETS.items():
        bias = tuple(b + (6.0 if name == "thick" and i == 1 else 0.0) for i, b in enumerate(card.bias))
        own = replace(card, targets=targets, bias=bias, digest=BLANK_DIGEST)
        proto = onnx.load(str(bundled_model_path()))
        del proto.metadata_props[:]
        (folder / f"{name}.onnx").write_bytes(tiny.sealed(proto, own))
    return folder


@pytest.fixture(scope="module")
def truth() -> SyntheticExam:
    return small_phantoms.exam(3)


@pytest.fixture(scope="module")
def exams(truth: SyntheticExam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exams")
    write_image(truth.image, folder / "p1_t2.nii.gz")
    noise = np.random.default_rng(0).normal(100, 20, (9, 90, 120)).astype(np.float32)
    write_image(Volume(noise, np.diag([4.0, 1.5, 1.5, 1.0])), folder / "p2_noise.nii.gz")
    return folder


def arguments(models: Path, exams: Path, output: Path, *names: str) -> list[str]:
    return ["pseudo-label", "-o", str(output), *(str(models / f"{name}.onnx") for name in names), str(exams)]


def test_each_model_labels_its_targets(
    models: Path, exams: Path, truth: SyntheticExam, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*arguments(models, exams, tmp_path / "d", "bodies", "discs"), "--patient", "[^_]+", "--licence", "mine"]
    assert main(command) == 3
    assert "p2_noise: not labelled: p2_noise.nii.gz: no lumbar spine found" in capsys.readouterr().err
    (case,) = Dataset.open(tmp_path / "d").all_cases
    verify_checksums(case)
    assert (case.patient, case.split, case.licence) == ("p1", "train", "mine")
    assert case.label_table[0] == ("background", "canal", "sacrum", "arch")
    labels = read_case(case)[1].array
    for kind, min_dice in ((Kind.BODY, 0.85), (Kind.DISC, 0.75)):
        own = list(labels_of_kind(kind))
        assert compute_dice(np.isin(labels, own), np.isin(truth.labels.array, own)) > min_dice
    assert not np.isin(labels, labels_of_kind(Kind.ARCH)).any()
    pseudo = case.metadata["pseudo"]
    assert [model["made_for"] for model in pseudo["models"]] == [["body"], ["disc"]]
    assert all(len(model["digest"]) == 64 for model in pseudo["models"])
    assert 0.5 < pseudo["confidence"]["L4"] <= 1
    assert pseudo["agreement"] == {}

    before = (tmp_path / "d" / "dataset.json").read_bytes()
    assert main([*command, "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert (result["added"], result["already"], list(result["refused"])) == (0, 1, ["p2_noise"])
    assert (tmp_path / "d" / "dataset.json").read_bytes() == before


def test_disagreement_is_reported_and_leaves_voxels_unknown(
    models: Path, exams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(models, exams / "p1_t2.nii.gz", tmp_path / "d", "bodies", "thick")
    assert main([*command, "--min-agreement", "0.97"]) == 3
    assert "review p1_t2:" in capsys.readouterr().out
    (case,) = Dataset.open(tmp_path / "d").all_cases
    assert case.metadata["review"]
    assert any(
        text.startswith("disagreement: L") and text.endswith("between bodies.onnx and thick.onnx")
        for text in case.warnings
    )
    assert case.voxel_counts[255] == case.metadata["pseudo"]["unknown_voxels"] > 0
    assert case.label_table[255] == ("unknown",)

    assert main(command) == 1
    assert "made by other models or options; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "options", "error"),
    [
        (["discs", "discs"], [], "given twice; give each model once"),
        (["none"], [], "none.onnx: cannot be read: not found"),
        (["bodies"], ["nowhere"], "nowhere: cannot be read: not found"),
        (["bodies"], ["--patient", "("], "no regular expression"),
    ],
)
def test_errors_are_one_line(
    names: list[str],
    options: list[str],
    error: str,
    models: Path,
    exams: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments(models, exams, tmp_path / "d", *names), *options]) == 1
    err = capsys.readouterr().err
    assert error in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_exams_of_the_same_name_are_prefixed_with_their_folders(
    models: Path, exams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t2.nii.gz").write_bytes((exams / "p2_noise.nii.gz").read_bytes())
    command = arguments(models, tmp_path / "a", tmp_path / "d", "bodies")
    assert main([*command, str(tmp_path / "b")]) == 3
    assert {"a_t2", "b_t2"} == set(Dataset.open(tmp_path / "d").refused)
    assert main(["pseudo-label", str(exams), "-o", str(tmp_path / "e")]) == 2
    assert "required: MODEL and EXAM" in capsys.readouterr().err


def test_models_that_know_only_discs_label_discs(
    models: Path, exams: Path, truth: SyntheticExam, tmp_path: Path, model_file: Path
) -> None:
    card = Model.load(model_file).card
    off = tuple(b if kind in ("background", "disc") else -1e4 for b, kind in zip(card.bias, card.classes, strict=True))
    discs_only = replace(card, trained_names=("background", "disc"), targets=(), bias=off, digest=BLANK_DIGEST)
    proto = onnx.load(str(bundled_model_path()))
    del proto.metadata_props[:]
    (tmp_path / "only_discs.onnx").write_bytes(tiny.sealed(proto, discs_only))
    main(arguments(tmp_path, exams / "p1_t2.nii.gz", tmp_path / "d", "only_discs"))
    (case,) = Dataset.open(tmp_path / "d").all_cases
    labels, own = read_case(case)[1].array, list(labels_of_kind(Kind.DISC))
    assert set(np.unique(labels)) <= {0, 255, *own}
    assert compute_dice(np.isin(labels, own), np.isin(truth.labels.array, own)) > 0.7
    assert not any("L3" in text and text.startswith("gap") for text in case.warnings)


def test_models_of_different_levels_label_them_together(models: Path, exams: Path, tmp_path: Path) -> None:
    main(arguments(models, exams / "p1_t2.nii.gz", tmp_path / "d", "upper", "lower"))
    (case,) = Dataset.open(tmp_path / "d").all_cases
    assert set(np.unique(read_case(case)[1].array)) - {255} == {0, 1, 2, 3, 4, 5}
    assert "T12" in case.label_table[0]


@pytest.fixture(scope="module")
def annotated(truth: SyntheticExam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose annotators drew bodies only, with an exam for training and one for validation."""
    folder = tmp_path_factory.mktemp("annotated")
    bodies = {structure.label: (structure.name,) for structure in STRUCTURES if structure.kind is Kind.BODY}
    create_dataset(folder, "bodies", {0: ("background", "disc", "canal", "sacrum", "arch"), **bodies})
    labels = np.where(np.isin(truth.labels.array, list(bodies)), truth.labels.array, 0).astype(np.uint8)
    for name, split in (("a1", "train"), ("a2", "val")):
        metadata = {"patient": name, "split": split, "licence": "CC0", "source": "me"}
        write_case(folder, name, truth.image, Volume(labels, truth.labels.affine), metadata)
    return folder


def test_self_training_on_annotated_and_unlabelled_exams(
    models: Path, annotated: Path, exams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    command = arguments(models, exams / "p1_t2.nii.gz", tmp_path / "d", "bodies", "discs")
    assert main([*command, str(annotated)]) in (0, 3)
    assert "3 exams labelled (3 added" in capsys.readouterr().out
    cases = {case.name: case for case in Dataset.open(tmp_path / "d").all_cases}
    before = {case.name: read_case(case)[1].array for case in Dataset.open(annotated).all_cases}
    after = {name: read_case(case)[1].array for name, case in cases.items()}
    assert np.array_equal(after["a2"], before["a2"])
    assert np.array_equal(after["a1"][before["a1"] > 0], before["a1"][before["a1"] > 0])
    assert np.isin(after["a1"], labels_of_kind(Kind.DISC)).sum() == sum(
        count
        for name, count in cases["a1"].metadata["pseudo"]["filled_voxels"].items()
        if name in {s.name for s in STRUCTURES if s.kind is Kind.DISC}
    )
    assert (cases["a1"].licence, cases["a1"].patient) == ("CC0", "a1")
    assert cases["a1"].source.startswith("me; ")

    train = ["train", str(tmp_path / "d"), "-o", str(tmp_path / "run"), "--preset", "quick", "--steps", "2"]
    assert main([*train, "--validation-interval", "2"]) == 0
    assert main(["export", "--last", str(tmp_path / "run"), "-o", str(tmp_path / "next.onnx")]) == 0
    assert main(["info", str(tmp_path / "next.onnx")]) == 0


def test_an_exam_name_in_two_sources_is_an_error(
    models: Path, annotated: Path, truth: SyntheticExam, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(truth.image, tmp_path / "a1.nii.gz")
    command = arguments(models, tmp_path / "a1.nii.gz", tmp_path / "d", "bodies", "discs")
    assert main([*command, str(annotated)]) == 1
    assert "a1: two exams under one name; give their folders in two commands" in capsys.readouterr().err
