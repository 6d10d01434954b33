"""Predictions of models and label files, evaluated on a dataset of blocks whose scores are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests import tiny

from lumbarseg.anatomy import structure_by_name
from lumbarseg.datasets import Dataset, create_dataset, write_case
from lumbarseg.datasets.label_table import read_label_table
from lumbarseg.errors import DatasetError, FileError, GridError
from lumbarseg.evaluation.evaluate import evaluate_case
from lumbarseg.evaluation.predictors import CasePrediction, predictor_from_files, predictor_from_model
from lumbarseg.evaluation.tables import compare_evaluations, evaluation_tables, largest_deficits
from lumbarseg.inference import Model
from lumbarseg.io import write_labels
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

SPACING = np.diag([4.0, 1.0, 1.0, 1.0])
OWN = {
    "L4": structure_by_name("L4").label,
    "L5": structure_by_name("L5").label,
    "L4-L5": structure_by_name("L4-L5").label,
}


def blocks(shift: int = 0) -> Array:
    """L4 above L4-L5 above L5, each 4 x 20 x 10 voxels, moved forward by `shift`."""
    labels = np.zeros((6, 40, 60), np.uint8)
    for i, value in enumerate((OWN["L5"], OWN["L4-L5"], OWN["L4"])):
        labels[1:5, 10 + shift : 30 + shift, 10 + 12 * i : 20 + 12 * i] = value
    return labels


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Three exams of two patients with bodies and discs, the canal not annotated."""
    folder = tmp_path / "data"
    table = {0: ("background", "canal")} | {value: (name,) for name, value in OWN.items()}
    create_dataset(folder, "blocks", table)
    rng = np.random.default_rng(0)
    for name, patient, contrast in (("a1", "a", "T1"), ("a2", "a", "T2"), ("b1", "b", "T2")):
        image = Volume(rng.normal(100, 9, (6, 40, 60)).astype(np.float32), SPACING)
        about = {"patient": patient, "contrast": contrast, "scanner": "S"}
        write_case(folder, name, image, Volume(blocks(), SPACING), about)
    return Dataset.open(folder)


def write_predictions(folder: Path, predictions: dict[str, Array]) -> Path:
    folder.mkdir()
    for name, labels in predictions.items():
        write_labels(Volume(labels, SPACING), folder / f"{name}.nii.gz")
    return folder


def test_label_files_are_scored_and_grouped(data: Dataset, tmp_path: Path) -> None:
    swapped = np.where(blocks() == OWN["L4"], OWN["L5"], np.where(blocks() == OWN["L5"], OWN["L4"], blocks()))
    folder = write_predictions(tmp_path / "out", {"a1": blocks(), "a2": blocks(5), "b1": swapped.astype(np.uint8)})
    exams = [row for case in data.cases() for row in evaluate_case(data.name, case, [predictor_from_files(folder)])]
    assert [row["names_right"] for row in exams] == [True, True, False]
    assert exams[2]["wrong_names"] == ["L4 as L5", "L5 as L4"]
    assert exams[2]["wrong_flagged"] == []
    assert exams[1]["structures"][0]["dice"] == pytest.approx(0.75)
    by = {
        (table.subject, table.group_keys): {line.group: line for line in table.groups}
        for table in evaluation_tables(exams, ("contrast",))
    }
    lines = by["structures", ("dataset", "structure")]
    assert lines["blocks", "L4"].estimates["dice"].mean == pytest.approx((1 + 0.75 + 0) / 3)
    assert (lines["blocks", "L4"].exams, lines["blocks", "L4"].patients) == (3, 2)
    assert lines["blocks", "L4-L5"].estimates["surface_mm"].left_out == 0
    bodies = by["instances", ("dataset", "kind")]["blocks", "body"].estimates
    assert (bodies["recall"].mean, bodies["precision"].mean) == (1, 1)
    assert bodies["named_recall"].mean == pytest.approx(4 / 6)
    assert by["exams", ("contrast",)][("T1",)].estimates["names_right"].mean == 1
    assert by["exams", ("contrast",)][("T1",)].estimates["names_right"].low is None
    assert by["structures", ("contrast", "kind")]["T2", "disc"].estimates["dice"].mean == pytest.approx(1.75 / 2)


def test_a_structure_that_is_not_predicted_has_a_dice_of_0_and_an_infinite_distance(
    data: Dataset, tmp_path: Path
) -> None:
    without = np.where(blocks() == OWN["L4"], 0, blocks()).astype(np.uint8)
    folder = write_predictions(tmp_path / "out", {"a1": without, "a2": blocks(), "b1": blocks()})
    exams = [row for case in data.cases() for row in evaluate_case(data.name, case, [predictor_from_files(folder)])]
    (line,) = [line for line in evaluation_tables(exams)[0].groups if line.group[1] == "L4"]
    assert line.estimates["dice"].mean == pytest.approx(2 / 3)
    assert (line.estimates["surface_mm"].mean, line.estimates["surface_mm"].left_out) == (0, 1)
    assert exams[0]["missing"] == ["L4"]


def test_two_predictors_are_compared(data: Dataset, tmp_path: Path) -> None:
    first_predictor = predictor_from_files(
        write_predictions(tmp_path / "ours", dict.fromkeys(("a1", "a2", "b1"), blocks()))
    )
    second_predictor = predictor_from_files(
        write_predictions(tmp_path / "theirs", {"a1": blocks(5), "a2": blocks(), "b1": blocks(5)})
    )
    pairs = [evaluate_case(data.name, case, [first_predictor, second_predictor]) for case in data.cases()]
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    differences = {row.group: row for row in compare_evaluations(first, second)["dice"]}
    mean = differences["blocks", "mean"]
    assert mean.difference.mean == pytest.approx(0.5 / 3)
    assert (mean.first, mean.first_higher, mean.first_lower, mean.difference.patients) == (1, 2, 0, 2)
    assert mean.p_value == 0.5  # both patients differ the same way: 2 of 4 choices of signs
    assert largest_deficits(first, second) == []
    assert [row["case"] for row in largest_deficits(second, first)] == ["a1", "b1"]
    assert all(row.difference.mean == 0 for rows in compare_evaluations(first, first).values() for row in rows)


def test_structures_that_one_cannot_segment_are_not_compared(data: Dataset) -> None:
    def bodies(case: object, image: Volume) -> CasePrediction:
        return CasePrediction(
            np.where(blocks() == OWN["L4-L5"], 0, blocks()).astype(np.uint8), segmented_kinds=frozenset({"body"})
        )

    def everything(case: object, image: Volume) -> CasePrediction:
        return CasePrediction(blocks(3))

    pairs = [evaluate_case(data.name, case, [bodies, everything]) for case in data.cases()]
    assert [part["name"] for part in pairs[0][0]["structures"]] == ["L4", "L5"]
    differences = compare_evaluations([pair[0] for pair in pairs], [pair[1] for pair in pairs])["dice"]
    assert [row.group[1] for row in differences] == ["mean", "L4", "L5"]


def test_values_and_axes_of_other_programs(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text('{"1": ["L4"], "2": ["L5"], "3": ["disc"]}')
    table = read_label_table(tmp_path / "table.json", ["background"])
    assert table[0] == ("background",)
    other_values = np.select([blocks() == OWN["L4"], blocks() == OWN["L5"], blocks() == OWN["L4-L5"]], [1, 2, 3])
    (tmp_path / "out").mkdir()
    reoriented = reorient(Volume(other_values.astype(np.uint8), SPACING), "PIR")
    write_labels(reoriented, tmp_path / "out" / "a1_labels.nii.gz")
    (row,) = evaluate_case(data.name, data.cases()[0], [predictor_from_files(tmp_path / "out", table)])
    assert {part["name"]: part["dice"] for part in row["structures"]} == {"L4": 1, "L5": 1}  # discs have no level there
    (own,) = evaluate_case(data.name, data.cases()[0], [predictor_from_files(data.folder / "labels", "dataset")])
    assert [part["dice"] for part in own["structures"]] == [1, 1, 1]


def test_label_files_that_do_not_match_the_case(data: Dataset, tmp_path: Path) -> None:
    case = data.cases()[0]
    folder = write_predictions(tmp_path / "out", {"a1": blocks()[:, :-1]})
    with pytest.raises(GridError, match="not on the grid"):
        evaluate_case(data.name, case, [predictor_from_files(folder)])
    with pytest.raises(FileError, match="a2"):
        evaluate_case(data.name, data.cases()[1], [predictor_from_files(folder)])
    with pytest.raises(FileError, match="no such folder"):
        predictor_from_files(tmp_path / "nowhere")
    unexplained = write_predictions(tmp_path / "unexplained", {"a1": np.where(blocks() > 0, 7, 0).astype(np.uint8)})
    with pytest.raises(DatasetError, match="value 7"):
        evaluate_case(data.name, case, [predictor_from_files(unexplained, {0: ("background",), 1: ("L4",)})])
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(DatasetError, match="must hold one JSON object"):
        read_label_table(tmp_path / "list.json", ["background"])


def test_an_exam_that_the_model_refuses_is_an_empty_prediction(data: Dataset, tmp_path: Path) -> None:
    model = Model.load(tiny.write(tmp_path / "tiny.onnx"), "cpu")
    values = np.random.default_rng(0).normal(-1000, 20, (6, 40, 60)).astype(np.float32)  # air with noise
    values[:, 10:30] = 40  # soft tissue
    air = Volume(values, SPACING)
    ct = write_case(data.folder, "ct", air, Volume(blocks(), SPACING), {"patient": "c"})
    (row,) = evaluate_case(data.name, ct, [predictor_from_model(model)], with_distances=False)
    assert "CT" in row["error"]
    assert [part["dice"] for part in row["structures"]] == [0, 0, 0]
    assert "distances" not in row["structures"][0]
    assert [table.groups[0].estimates["surface_mm"].count for table in evaluation_tables([row])[:1]] == [0]
