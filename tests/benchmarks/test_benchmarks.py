"""Benchmarks measure what they claim, and the results in the README are theirs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import sets
from tests.segmentation.test_interactive import ClickFollowingModel

from benchmarks import (
    accuracy,
    batch,
    card_facts,
    clicks,
    gallery,
    importing,
    level_names,
    model_card,
    readme,
    resume,
    speed,
    training,
)
from lumbarseg import io
from lumbarseg.anatomy import LUMBAR_LEVELS
from lumbarseg.batch.demo import synthetic_exam
from lumbarseg.datasets import create_dataset, write_case
from lumbarseg.errors import ModelError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import write_image, write_labels
from lumbarseg.metrics.structure_names import own_label_table


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> accuracy.Row:
    """Results of a phantom in place of one exam of siegen."""
    try:
        model = Model.load(bundled_model_path())
    except ModelError as error:
        pytest.skip(str(error))
    real = tmp_path_factory.mktemp("real")
    phantom = synthetic_exam(193)
    (real / "siegen").mkdir()
    write_image(phantom.image, real / "siegen" / "01_image.nii.gz")
    write_labels(phantom.labels, real / "siegen" / "01_labels.nii.gz")
    return accuracy.run_sets(model, real)


def test_an_exam_is_scored_by_name(evaluated: accuracy.Row) -> None:
    (row,) = evaluated["sets"]["siegen"]
    assert set(LUMBAR_LEVELS) <= set(row["structures"])
    assert not row["wrong"]
    targets = {line["what"]: line for line in evaluated["targets"]}
    assert targets["body Dice by name, L1-L5 and thoracic"]["figure"] > 0.8
    assert 0.8 < targets["body Dice by name, L1-L5 and thoracic"]["volume_ratio"] < 1.3
    assert "| siegen | body Dice by name" in accuracy.targets_table(evaluated["targets"])


def test_wrong_and_uncertain_names_are_counted() -> None:
    rows = [{"wrong": ["L4 as L5"], "missing": [], "wrong_unmarked": []}, {"wrong": [], "missing": []}]
    assert accuracy.count_named_right(rows) == 1
    level = {"name": "L4", "uncertain": False}
    assert accuracy._claims_lumbar_names({"levels": [level], "warnings": []})
    assert not accuracy._claims_lumbar_names({"levels": [level], "warnings": ["names are uncertain"]})
    assert not accuracy._claims_lumbar_names({"levels": [{**level, "uncertain": True}], "warnings": []})


def test_a_label_table_of_levels_becomes_one_of_tissues() -> None:
    table = accuracy.tissue_table(
        {0: ("background", "sacrum"), 5: ("L5", "L5 arch"), 61: ("body", "arch"), 9: ("L4-L5",)}
    )
    assert table == {0: ("background", "sacrum"), 5: ("arch", "body"), 61: ("arch", "body"), 9: ("disc",)}


def test_every_real_exam_has_its_reference(real: Path) -> None:
    counts = {}
    for benchmark_set in accuracy.SETS:
        pairs = list(benchmark_set.exams(real))
        counts[benchmark_set.name] = len(pairs)
        assert not benchmark_set.table or all(reference.is_file() for _, reference in pairs)
    assert counts == {
        "chu": 10,
        "siegen": 6,
        "myosegmentum": 23,
        "discs": 3,
        "spider_space": 6,
        "spider_t2": 13,
        "negatives": 7,
    }


def test_the_exam_of_the_speed_benchmark_has_a_routine_grid() -> None:
    volume = speed.routine_exam()
    assert volume.array.shape == speed.SHAPE == (16, 448, 448)
    np.testing.assert_allclose(volume.grid.spacing, (4.4, 0.6, 0.6), atol=1e-6)


def test_exams_of_a_batch_have_a_routine_grid_and_differ(tmp_path: Path) -> None:
    first, second = batch.write_exams(tmp_path, 2)
    assert io.read_image(first).array.shape == speed.SHAPE
    assert first.read_bytes() != second.read_bytes()


def test_a_process_is_measured_completely() -> None:
    run = speed.run_process(
        [sys.executable, "-c", "import time; x = bytearray(80_000_000); time.sleep(0.2); print(len(x))"]
    )
    assert run.seconds > 0.2
    assert run.peak > 80e6
    assert run.output == "80000000\n"
    with pytest.raises(RuntimeError, match="exit 7"):
        speed.run_process([sys.executable, "-c", "raise SystemExit(7)"])


def test_both_sides_can_read_the_files_of_the_import(tmp_path: Path) -> None:
    assert importing.write_volumes(tmp_path, 1, None, jobs=1) == ["phantom_000"]
    folder = tmp_path / importing.NAME
    image, labels = (
        io.read_image(folder / "imagesTr" / "phantom_000_0000.nii.gz"),
        io.read_labels(folder / "labelsTr" / "phantom_000.nii.gz"),
    )
    assert image.grid.same_as(labels.grid)
    assert image.array.shape == speed.SHAPE
    assert set(np.unique(labels.array)) == set(json.loads((folder / "dataset.json").read_text())["labels"].values())
    (tmp_path / "out").mkdir()
    result = importing.import_and_preprocess(tmp_path, tmp_path / "out", jobs=1)
    assert result["made"] == 1
    with np.load(tmp_path / "out" / "ready" / "phantom_000.npz") as ready:
        assert ready["image"].shape == ready["codes"].shape
        assert len(ready["image"]) == speed.SHAPE[0]
        assert len(np.unique(ready["codes"])) == len(importing.LABELS)


def test_the_ratio_is_that_of_the_rounds() -> None:
    sides = [{"ours": {"whole": 2.0, "work": 3.0}, "theirs": {"whole": t, "work": 9.0}} for t in (4.0, 8.0, 20.0)]
    result_of_rounds = importing.result(sides, 3.0, {"volumes": 10}, 2)
    assert result_of_rounds["volumes_per_second"] == {"ours": 5.0, "theirs": 1.25}
    assert result_of_rounds["ratio"]["in_each_round"] == [2, 4, 10]
    assert (result_of_rounds["ratio"]["seconds"], result_of_rounds["ratio"]["processor_seconds"]) == (4, 3)
    assert result_of_rounds["ratio"]["processor_seconds_without_their_start"] == 2
    assert result_of_rounds["targets"][0]["pass"]


def test_the_readme_shows_the_measured_results() -> None:
    text = readme.README.read_text()
    assert readme.fill_readme(text, "x").count("\nx\n") == 1
    if not (accuracy.RESULTS.exists() and speed.RESULTS.exists()):
        pytest.skip("no figures yet: make benchmark")
    results = [json.loads(path.read_text()) for path in (accuracy.RESULTS, speed.RESULTS)]
    assert readme.fill_readme(text, readme.format_tables(*results)) == text


def test_the_card_has_data_licences_and_limits() -> None:
    about = card_facts.card_facts()
    assert any("SPIDER" in text for text in about["data"])
    assert any("CC BY 4.0" in text for text in about["licences"])
    assert about["limits"]


def test_clicks_on_the_largest_error_improve_a_segmentation(tmp_path: Path) -> None:
    try:
        model = ClickFollowingModel(Model.load(bundled_model_path()), 50.0)
    except ModelError as error:
        pytest.skip(str(error))
    create_dataset(tmp_path / "one", "one", {0: ("background",), **own_label_table()})
    phantom = synthetic_exam(193)
    case = write_case(tmp_path / "one", "a", phantom.image, phantom.labels, {})
    row = clicks.simulate_clicks(model, case, 2)
    means = [clicks.mean(step["dice"].values()) for step in row["steps"]]
    assert len(means) == 3
    assert means[2] > means[0] > 0.7
    result = clicks.summary([row, {"case": "b", "refused": "no lumbar spine found"}])
    assert (result["cases"], result["refused"]) == (1, 1)
    assert result["dice"] == {"0": pytest.approx(means[0], abs=1e-3), "1": pytest.approx(means[1], abs=1e-3)}
    assert "| one | 1 |" in clicks.table({"one": result})


@pytest.mark.slow
def test_both_loops_train_the_same_network(tmp_path: Path) -> None:
    data = sets.write(tmp_path / "blobs", train=3, val=0).folder
    settings = training.settings_of("segresnet", 1.5)
    small = replace(settings, channels=(8, 16, 32), crop_size=32, batch_size=2, depth=4, threads=1, loader_threads=1)
    for side in (training.our_steps, training.monai_steps):
        result = training.time_steps(side(small, data), 0.0)
        assert result["steps"] == 3
        assert np.isfinite(result["loss"])
        assert result["work"] > 0
    row = {side: {"per_step": 1.0 + i, "work": 1.0 + 2 * i, "peak": 1e6} for i, side in enumerate(training.SIDES)}
    result_of_rounds = training.result("segresnet", [row], settings)
    assert (result_of_rounds["ratio"]["seconds"], result_of_rounds["ratio"]["processor_seconds"]) == (2, 3)
    assert result_of_rounds["target"]["pass"]
    assert "| segresnet | 1.00 | 0.50 | 2.0 | 3.0 | 1 | 1 |" in training.table([result_of_rounds])


@pytest.mark.slow
def test_interrupted_runs_end_like_uninterrupted_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["resume", "--kills", "3"])
    monkeypatch.setattr(resume, "RESULTS", tmp_path / "resume.json")
    assert resume.main() == 0
    assert all(len(row["kills"]) == 3 for row in json.loads(resume.RESULTS.read_text())["runs"])


def test_names_are_evaluated_in_complete_exams_and_in_crops(tmp_path: Path) -> None:
    try:
        model = Model.load(bundled_model_path())
    except ModelError as error:
        pytest.skip(str(error))
    phantom = synthetic_exam(193)
    (tmp_path / "siegen").mkdir()
    write_image(phantom.image, tmp_path / "siegen" / "01_image.nii.gz")
    write_labels(phantom.labels, tmp_path / "siegen" / "01_labels.nii.gz")
    complete, *crops = level_names.real_cases(model, tmp_path)
    assert complete.sacrum
    assert complete.right
    assert len(complete.levels) >= 5
    assert len(crops) >= 3
    assert not any(crop.sacrum or crop.unmarked for crop in crops)
    assert any(crop.wrong for crop in crops)  # the lowest is named L5, and marked
    result = level_names.summary([complete, *crops])
    assert result["sacrum_in_view"]["right"] == 1
    assert sum(row["count"] for row in result["exams"]["crops of real exams"]) == len(crops)
    assert "siegen, cropped" in level_names.tables(result)


def test_the_reliability_table_counts_each_prediction_once() -> None:
    rows = level_names.reliability_table([(0.1, False), (0.95, True), (1.0, True), (0.95, False)])
    assert [(row["from"], row["to"], row["count"], row["right"]) for row in rows] == [
        (0.0, 0.3, 1, 0),
        (0.9, 1.0, 3, 2),
    ]


def test_the_model_card_shows_the_results(evaluated: accuracy.Row) -> None:
    result = level_names.summary(
        [level_names.NamedCase("siegen", "01", True, 0.9, False, ("L4 as L5",), ("L4 as L5",), (), ((0.9, False),))]
    )
    text = model_card.render_page(evaluated, result)
    (row,) = evaluated["sets"]["siegen"]
    dice = accuracy.mean([value["dice"] for value in row["structures"].values()])
    assert f"| siegen |  | body | 1 | {dice:.3f} |" in text
    assert f"| L3 | {row['structures']['L3']['overlap']:.3f} |" in text
    assert "- siegen 01: L4 as L5" in text
    assert all(sentence in text for sentence in (*card_facts.DATA, *card_facts.LIMITS))


@pytest.mark.parametrize("kind", gallery.KINDS)
def test_a_hard_phantom_has_its_difficulty(kind: str) -> None:
    spine = gallery.draw_hard_phantom(kind, 0).spine
    assert spine.lumbar_count == {"four": 4, "six ": 6}.get(kind[:4], 5)
    if kind == "metal":
        assert any(body.metal for body in spine.bodies)
    if kind == "two levels fused":
        assert min(disc.height for disc in spine.discs) < 0.5
