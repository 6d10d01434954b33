"""`lumbarseg pseudo-label` on small phantoms, with the shipped network as several models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests import tiny
from tests.datasets import small_phantoms
from tests.datasets.layouts.exam import SyntheticExam

from lumbarseg.anatomy import Kind, labels_of_kind
from lumbarseg.cli.main import main
from lumbarseg.datasets import Dataset, read_case
from lumbarseg.datasets.dataset import verify_checksums
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.inference.card import BLANK_DIGEST
from lumbarseg.io import write_image
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.volume import Volume

MADE_FOR = {"bodies": ("body",), "discs": ("disc",), "thick": ("body",)}


@pytest.fixture(scope="module")
def models(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network as three models, one of which draws bodies too large."""
    folder = tmp_path_factory.mktemp("models")
    card = Model.load(model_file).card
    for name, targets in MADE_FOR.items():
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


def words(models: Path, exams: Path, out: Path, *names: str) -> list[str]:
    return ["pseudo-label", "-o", str(out), *(str(models / f"{name}.onnx") for name in names), str(exams)]


def test_two_models_label_what_each_was_made_for(
    models: Path, exams: Path, truth: SyntheticExam, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [*words(models, exams, tmp_path / "d", "bodies", "discs"), "--patient", "[^_]+", "--licence", "mine"]
    assert main(call) == 3
    told = capsys.readouterr()
    assert "p2_noise: refused: p2_noise.nii.gz: no lumbar spine found" in told.err
    (case,) = Dataset.open(tmp_path / "d").all_cases
    verify_checksums(case)
    assert (case.patient, case.split, case.licence) == ("p1", "train", "mine")
    assert case.label_table[0] == ("background", "canal", "sacrum", "arch")
    labels = read_case(case)[1].array
    for kind, least in ((Kind.BODY, 0.85), (Kind.DISC, 0.75)):
        own = list(labels_of_kind(kind))
        assert compute_dice(np.isin(labels, own), np.isin(truth.labels.array, own)) > least
    assert not np.isin(labels, labels_of_kind(Kind.ARCH)).any()
    pseudo = case.metadata["pseudo"]
    assert [model["made_for"] for model in pseudo["models"]] == [["body"], ["disc"]]
    assert all(len(model["digest"]) == 64 for model in pseudo["models"])
    assert 0.5 < pseudo["confidence"]["L4"] <= 1
    assert pseudo["agreement"] == {}

    before = (tmp_path / "d" / "dataset.json").read_bytes()
    assert main([*call, "--json"]) == 3
    again = json.loads(capsys.readouterr().out)
    assert (again["added"], again["already"], list(again["refused"])) == (0, 1, ["p2_noise"])
    assert (tmp_path / "d" / "dataset.json").read_bytes() == before


def test_models_that_disagree_are_told_and_leave_voxels_unknown(
    models: Path, exams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = words(models, exams / "p1_t2.nii.gz", tmp_path / "d", "bodies", "thick")
    assert main([*call, "--agree", "0.97"]) == 3
    assert "look at p1_t2:" in capsys.readouterr().out
    (case,) = Dataset.open(tmp_path / "d").all_cases
    assert case.metadata["review"]
    assert any(
        text.startswith("disagreement: L") and text.endswith("between bodies.onnx and thick.onnx")
        for text in case.warnings
    )
    assert case.voxel_counts[255] == case.metadata["pseudo"]["unknown_voxels"] > 0
    assert case.label_table[255] == ("unknown",)

    assert main(call) == 1
    assert "made by other models or options; choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "more", "told"),
    [
        (["discs", "discs"], [], "given twice; give each model once"),
        (["none"], [], "none.onnx: cannot be read: not found"),
        (["bodies"], ["nowhere"], "nowhere: cannot be read: not found"),
        (["bodies"], ["--patient", "("], "no regular expression"),
    ],
)
def test_errors_are_one_line(
    names: list[str],
    more: list[str],
    told: str,
    models: Path,
    exams: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*words(models, exams, tmp_path / "d", *names), *more]) == 1
    err = capsys.readouterr().err
    assert told in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_exams_of_one_name_get_their_folders_before_it(
    models: Path, exams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t2.nii.gz").write_bytes((exams / "p2_noise.nii.gz").read_bytes())
    call = words(models, tmp_path / "a", tmp_path / "d", "bodies")
    assert main([*call, str(tmp_path / "b")]) == 3
    assert {"a_t2", "b_t2"} == set(Dataset.open(tmp_path / "d").refused)
    assert main(["pseudo-label", str(exams), "-o", str(tmp_path / "e")]) == 2
    assert "required: MODEL and EXAM" in capsys.readouterr().err
