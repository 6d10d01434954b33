"""A run on data in which only discs are drawn, from training to its scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.datasets import small_phantoms

from lumbarseg.anatomy import STRUCTURES, Kind
from lumbarseg.datasets import Dataset, create_dataset, write_case
from lumbarseg.evaluation.evaluate import evaluate_case
from lumbarseg.evaluation.predictors import predictor_from_model
from lumbarseg.inference import Model
from lumbarseg.training.export import export_model
from lumbarseg.training.presets import PRESETS
from lumbarseg.training.trainer import train
from lumbarseg.volume import Volume

QUICK = replace(
    PRESETS["quick"].settings, steps=2, threads=1, validation_interval=2, precision="float32", targets=("discs",)
)
DISCS = {s.label: (s.name,) for s in STRUCTURES if s.kind is Kind.DISC}


@pytest.fixture(scope="module", params=["L5-S1", "L4-L5"])
def dataset(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Dataset:
    """Three phantoms whose discs are drawn down to one; the third is held out."""
    table = {v: names for v, names in DISCS.items() if request.param == "L5-S1" or names != ("L5-S1",)}
    folder = tmp_path_factory.mktemp("discs") / "set"
    create_dataset(folder, "discs", {0: ("background",), **table})
    for number in range(3):
        exam = small_phantoms.exam(number, seed=1)
        labels = np.where(np.isin(exam.labels.array, list(table)), exam.labels.array, 0).astype(np.uint8)
        facts = {"patient": f"p{number}", "split": "val" if number == 2 else "train"}
        write_case(folder, f"case-{number}", exam.image, Volume(labels, exam.labels.affine), facts)
    return Dataset.open(folder)


def test_a_model_of_discs_alone_knows_where_to_count_from_and_is_scored(dataset: Dataset, tmp_path: Path) -> None:
    model = Model.load(export_model(train(QUICK, [dataset], tmp_path / "run"), tmp_path / "discs.onnx"))
    lowest = "L5-S1" if any(names == ("L5-S1",) for names in dataset.label_table.values()) else "L4-L5"
    assert model.card.lowest_structure == (lowest, 1.0)
    assert model.card.trained_kinds == {Kind.BACKGROUND, Kind.DISC}
    assert model.card.output_kinds == {Kind.DISC}
    (case,) = dataset.cases("val")
    (row,) = evaluate_case(dataset.name, case, [predictor_from_model(model)])
    assert {part["name"] for part in row["structures"]} >= {"L1-L2", "L4-L5"}
    assert row["error"] or {part["kind"] for part in row["instances"]} == {"disc"}
