"""`lumbarseg phantom`: the same exams for any number of workers, completed rather than written twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lumbarseg.cli.main import main
from lumbarseg.datasets import Dataset, read_case
from lumbarseg.phantom import Recipe, render_phantom

pytestmark = pytest.mark.slow


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "set"
    assert main(["phantom", str(folder), "-n", "3", "--seed", "5", "--jobs", "2"]) == 0
    return folder


def test_one_worker_makes_the_same_files_as_two(dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "set"
    assert main(["phantom", str(other), "-n", "1", "--seed", "5", "--start", "2", "--jobs", "1"]) == 0
    assert main(["phantom", str(other), "-n", "3", "--seed", "5", "--jobs", "1"]) == 0
    assert contents(other) == contents(dataset)


def test_a_finished_dataset_is_left_alone(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.suffix == ".gz"}
    capsys.readouterr()
    assert main(["phantom", str(dataset), "-n", "3", "--seed", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"folder": str(dataset), "made": 0, "cases": 3}
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*") if path.suffix == ".gz"} == before


def test_a_recipe_on_disk_gives_its_exam_again(dataset: Path) -> None:
    case = Dataset.open(dataset).cases()[1]
    recipe = Recipe.from_dict(json.loads((dataset / case.metadata["recipe"]).read_text()))
    phantom = render_phantom(recipe)
    image, labels = read_case(case)
    assert labels.grid.same_as(phantom.labels.grid)
    assert (labels.array == phantom.labels.array).all()
    assert abs(image.array - phantom.image.array).max() <= 0.5
    assert case.metadata["truth"] == phantom.ground_truth


def test_a_dataset_with_other_labels_takes_no_phantoms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lumbarseg.datasets import create_dataset

    create_dataset(tmp_path / "other", "other", {0: ["background"], 1: ["disc"]})
    assert main(["phantom", str(tmp_path / "other"), "-n", "1"]) == 1
    assert "another label table" in capsys.readouterr().err
