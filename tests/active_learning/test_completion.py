"""Completed annotations: only what annotators left open changes, and only to what they allow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from tests.datasets import small_phantoms
from tests.datasets.layouts.exam import SyntheticExam

from lumbarseg.active_learning.completion import CompletedTable, complete_exam
from lumbarseg.active_learning.ensemble import model_scopes
from lumbarseg.active_learning.pseudo_labels import PseudoLabels
from lumbarseg.anatomy import STRUCTURES, Kind, labels_of_kind, structure_by_name
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.inference import Model, ModelCard
from lumbarseg.metrics.overlap import compute_dice
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.volume import Array, Volume

BODIES = tuple(s for s in STRUCTURES if s.kind is Kind.BODY)
TABLE: LabelTable = {
    0: ("background", "disc", "canal", "sacrum", "arch"),
    **{structure.label: (structure.name,) for structure in BODIES},
    99: ("unknown",),
}


@pytest.fixture(scope="module")
def truth() -> SyntheticExam:
    return small_phantoms.exam(3)


@pytest.fixture(scope="module")
def model(model_file: str) -> Model:
    return Model.load(model_file)


def bodies_of(truth: SyntheticExam) -> Array:
    labels = truth.labels.array
    return np.where(np.isin(labels, labels_of_kind(Kind.BODY)), labels, 0).astype(np.uint8)


def complete(
    truth: SyntheticExam, annotation: Array, model: Model, table: Mapping[int, tuple[str, ...]]
) -> PseudoLabels:
    return complete_exam(truth.image, Volume(annotation, truth.labels.affine), dict(table), {"a": model}, 0.8)


def test_open_structures_are_filled_and_annotated_voxels_stay(truth: SyntheticExam, model: Model) -> None:
    annotation = bodies_of(truth)
    result = complete(truth, annotation, model, TABLE)
    labels = result.labels.array
    assert np.array_equal(labels[annotation > 0], annotation[annotation > 0])
    for kind, min_dice in ((Kind.DISC, 0.75), (Kind.CANAL, 0.75)):
        own = list(labels_of_kind(kind))
        assert compute_dice(np.isin(labels, own), np.isin(truth.labels.array, own)) > min_dice
    background = [value for value, names in result.label_table.items() if names == ("background",)]
    assert (labels == background).sum() > 0.5 * labels.size
    assert 0 < result.info.unknown_voxels == (labels == 0).sum()
    assert result.info.filled_voxels["L3-L4"] == (labels == structure_by_name("L3-L4").label).sum()


def test_structures_that_the_annotation_excludes_are_not_filled(truth: SyntheticExam, model: Model) -> None:
    table = {**TABLE, 0: ("background", "disc")}
    result = complete(truth, bodies_of(truth), model, table)
    kinds = (Kind.CANAL, Kind.ARCH, Kind.SACRUM)
    assert not np.isin(result.labels.array, [label for kind in kinds for label in labels_of_kind(kind)]).any()
    assert result.info.filled_voxels["L4-L5"]


def test_names_are_counted_from_the_annotated_level(truth: SyntheticExam, model: Model) -> None:
    annotation = bodies_of(truth)
    renamed = np.where(annotation == structure_by_name("L2").label, structure_by_name("L3").label, 0).astype(np.uint8)
    result = complete(truth, renamed, model, {**TABLE, 0: ("background", "body")})
    labels, l3 = result.labels.array, structure_by_name("L3").label
    assert compute_dice(labels == structure_by_name("L4").label, truth.labels.array == l3) > 0.8


def test_levels_in_another_order_are_left_as_annotated(truth: SyntheticExam, model: Model) -> None:
    swap = np.arange(256, dtype=np.uint8)
    l1, l2 = structure_by_name("L1").label, structure_by_name("L2").label
    swap[[l1, l2]] = l2, l1
    annotation = swap[bodies_of(truth)]
    result = complete(truth, annotation, model, TABLE)
    assert np.array_equal(result.labels.array, annotation)
    assert result.warnings[0].startswith("not-completed: the models find ")


def test_exam_without_spine_is_left_as_annotated(truth: SyntheticExam, model: Model) -> None:
    noise = np.random.default_rng(0).normal(100, 20, truth.image.array.shape).astype(np.float32)
    annotation = Volume(bodies_of(truth), truth.labels.affine)
    result = complete_exam(Volume(noise, truth.image.affine), annotation, TABLE, {"a": model}, 0.8)
    assert np.array_equal(result.labels.array, annotation.array)
    assert result.warnings[0].startswith("not-completed: no lumbar spine found")


def test_rows_of_the_annotation_are_reused() -> None:
    scopes = model_scopes({"a": ModelCard(PreprocessingSpec())})
    table = {0: ("background", "sacrum"), 7: ("L5", "L5 arch"), 9: ("unknown",)}
    completed = CompletedTable.create(table, scopes)
    assert {value: completed.rows[value] for value in table} == table
    assert completed.values[structure_by_name("L5").label] == 7
    assert completed.rows[completed.values[structure_by_name("sacrum").label]] == ("sacrum",)
    assert completed.rows[completed.background[0]] == completed.rows[completed.background[9]] == ("background",)


def test_background_of_a_model_that_knows_only_discs_leaves_the_rest_open() -> None:
    discs = model_scopes({"discs": ModelCard(PreprocessingSpec(), targets=("disc",))})
    table = {0: ("background", "disc", "canal"), 1: ("L5",), 9: ("unknown",)}
    completed = CompletedTable.create(table, discs)
    assert completed.rows[completed.background[0]] == ("background", "canal")
    assert set(completed.rows[completed.background[9]]) == {"background", "body", "canal", "sacrum", "arch"}
    upper = model_scopes({"upper": ModelCard(PreprocessingSpec(), targets=("L1", "L2"))})
    rows = CompletedTable.create({0: ("background", "body")}, upper)
    assert {"L3", "T12"} < set(rows.rows[rows.background[0]])
    assert not {"L1", "body"} & set(rows.rows[rows.background[0]])
