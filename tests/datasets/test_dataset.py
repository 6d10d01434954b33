from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import sets

from lumbarseg.anatomy import CLASSES, STRUCTURES
from lumbarseg.datasets import Dataset, add_cases, create_dataset, read_case, write_case, write_case_files
from lumbarseg.datasets.dataset import verify_checksums
from lumbarseg.datasets.label_table import parse_label_table
from lumbarseg.errors import DatasetError, LumbarsegError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sets.write(tmp_path / "set", train=2, val=1).folder


def test_a_case_comes_back_as_it_was_written(tmp_path: Path) -> None:
    create_dataset(tmp_path / "set", "mine", sets.COMPLETE_VERTEBRAE)
    image, labels = sets.exam(1, values=4)
    facts = {"patient": "p7", "contrast": "T1", "split": "val", "warnings": ["tilted"], "age": 61}
    write_case(tmp_path / "set", "a-1", image, labels, facts)
    dataset = Dataset.open(tmp_path / "set")
    (case,) = dataset.cases()
    assert (case.name, case.patient, case.contrast, case.split) == ("a-1", "p7", "T1", "val")
    assert case.warnings == ("tilted",)
    assert case.metadata == {"age": 61}
    assert case.label_table == dataset.label_table == sets.COMPLETE_VERTEBRAE
    assert case.voxel_counts == dict(
        zip(*(part.tolist() for part in np.unique(labels.array, return_counts=True)), strict=True)
    )
    assert case.geometry == {"shape": [6, 48, 56], "spacing": [4.0, 1.0, 1.0], "axes": "RAS"}
    result, annotated = read_case(case)
    np.testing.assert_allclose(result.array, image.array, rtol=1e-5)
    np.testing.assert_array_equal(annotated.array, labels.array)
    assert result.grid.same_as(image.grid)
    assert annotated.grid.same_as(labels.grid)
    verify_checksums(case)


@pytest.mark.parametrize("axes", ["LPS", "PIR", "SRA", "AIL"])
def test_cases_are_stored_in_canonical_axes_where_they_were(axes: str, tmp_path: Path) -> None:
    create_dataset(tmp_path / "set", "mine", sets.TABLE)
    image, labels = sets.exam(1)
    case = write_case(tmp_path / "set", "a", reorient(image, axes), reorient(labels, axes), {})
    result, annotated = read_case(case)
    assert result.grid.axis_codes == annotated.grid.axis_codes == "RAS"
    assert result.grid.same_as(image.grid)
    np.testing.assert_array_equal(annotated.array, labels.array)


def test_a_case_may_have_a_table_of_its_own(folder: Path) -> None:
    image, labels = sets.exam(5, values=2)
    write_case(folder, "other", image, labels, {"table": {0: ["unknown"], 1: ["L4", "L4 arch"]}})
    tables = {case.name: case.label_table for case in Dataset.open(folder).cases()}
    assert tables["other"] == {0: ("unknown",), 1: ("L4", "L4 arch")}
    assert tables["case-0"] == sets.TABLE


def test_adding_a_case_leaves_all_other_files_alone(folder: Path) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        result = [path for path in folder.rglob("*.nii.gz") if path.name != "new.nii.gz"]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in result}

    before = state()
    rows = json.loads((folder / "dataset.json").read_text())["cases"]
    write_case(folder, "new", *sets.exam(9), {})
    assert state() == before
    assert len(before) == 6
    after = json.loads((folder / "dataset.json").read_text())["cases"]
    assert [row for row in after if row["name"] != "new"] == rows
    assert {path.name for path in folder.iterdir()} == {"dataset.json", "images", "labels"}


def test_stored_cases_are_entered_in_one_step_in_the_order_of_their_names(tmp_path: Path) -> None:
    dataset = create_dataset(tmp_path / "set", "mine", sets.TABLE)
    cases = [write_case_files(dataset, name, *sets.exam(1), {}) for name in ("b", "c", "a")]
    assert Dataset.open(dataset.folder).cases() == []
    add_cases(dataset.folder, cases)
    assert [case.name for case in Dataset.open(dataset.folder).cases()] == ["a", "b", "c"]


def test_what_cannot_be_written_leaves_the_dataset_as_it_was(folder: Path) -> None:
    before = (folder / "dataset.json").read_bytes()
    with pytest.raises(DatasetError, match="not JSON values"):
        write_case(folder, "odd", *sets.exam(1), {"scanner settings": object()})
    assert (folder / "dataset.json").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"dataset.json", "images", "labels"}


def test_cases_by_split(folder: Path) -> None:
    dataset = Dataset.open(folder)
    assert [case.name for case in dataset.cases("train")] == ["case-0", "case-1"]
    assert [case.name for case in dataset.cases("val")] == ["case-2"]
    assert dataset.cases("test") == []
    with pytest.raises(DatasetError, match="'valid' is no split"):
        dataset.cases("valid")


def test_a_folder_holds_one_dataset(folder: Path) -> None:
    with pytest.raises(DatasetError, match="there is a dataset already"):
        create_dataset(folder, "again", sets.TABLE)


def test_bad_cases_are_refused_before_anything_is_written(folder: Path) -> None:
    image, labels = sets.exam(1)
    shifted = Volume(labels.array, labels.affine + np.eye(4)[:, [3, 3, 3, 0]])
    unknown = Volume(np.where(labels.array == 5, 77, labels.array).astype(np.uint8), labels.affine)
    for name, annotated, facts, message in (
        ("../out", labels, {}, "a name may hold"),
        ("a b", labels, {}, "a name may hold"),
        ("ok", shifted, {}, "different grids"),
        ("ok", unknown, {}, "holds the value 77"),
        ("ok", labels, {"table": {0: ["background"]}}, "holds the values 1, 2, 3, 4, 5"),
        ("ok", labels, {"table": {1: ["body"]}}, "the value 0 is missing"),
    ):
        with pytest.raises(DatasetError, match=message):
            write_case(folder, name, image, annotated, facts)
    assert len(list(folder.rglob("*.nii.gz"))) == 6


ROW = ("cases", 0)
WRONG: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "format": (("format",), "other", "format"),
    "version": (("version",), 2, "format"),
    "name": (("name",), 5, "name: must be text"),
    "no table": (("labels",), None, "labels: must be a table"),
    "value": (("labels", "300"), ["body"], "'300' is not a voxel value"),
    "negative value": (("labels", "-1"), ["body"], "'-1' is not a voxel value"),
    "structure": (("labels", "1"), ["L9"], r"labels\[1\]: 'L9' is no structure"),
    "empty set": (("labels", "1"), [], r"labels\[1\]: must be a list"),
    "cases": (("cases",), {}, "cases: must be a list"),
    "case": (("cases", 0), "case-0", r"cases\[0\]: must be an object"),
    "case name": ((*ROW, "name"), "../x", r"cases\[0\]: name"),
    "twice": ((*ROW, "name"), "case-1", "case-1 is used twice"),
    "split": ((*ROW, "split"), "valid", "split: 'valid'"),
    "patient": ((*ROW, "patient"), 7, "patient: must be text"),
    "about": ((*ROW, "about"), [], "about: must be an object"),
    "present": ((*ROW, "present"), {"1": -4}, "present: '1': -4 is no voxel value"),
    "present value": ((*ROW, "present"), {"L4": 7}, "present: 'L4': 7 is no voxel value"),
    "warnings": ((*ROW, "warnings"), "tilted", "warnings: must be a list"),
    "refused": (("refused",), ["case-9"], "refused: must be a table"),
    "gone": ((*ROW, "image"), "images/gone.nii.gz", "does not exist"),
    "outside": ((*ROW, "image"), "../set/images/case-0.nii.gz", "inside the dataset's folder"),
    "absolute": ((*ROW, "labels"), "/etc/hostname", "inside the dataset's folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_entry_is_named(name: str, folder: Path) -> None:
    keys, value, message = WRONG[name]
    path = folder / "dataset.json"
    values = json.loads(path.read_text())
    folder_root = values
    for key in keys[:-1]:
        folder_root = folder_root[key]
    folder_root[keys[-1]] = value
    path.write_text(json.dumps(values))
    with pytest.raises(DatasetError, match=message) as caught:
        Dataset.open(folder)
    assert str(caught.value).startswith(f"{path}: line ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\xff"])
def test_what_is_no_dataset_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"dataset\.json: "):
        Dataset.open(tmp_path)


def test_a_folder_without_dataset_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not found"):
        Dataset.open(tmp_path)


def test_changed_files_are_detected(folder: Path) -> None:
    dataset = Dataset.open(folder)
    for case in dataset.cases():
        verify_checksums(case)
    first, second, _ = dataset.cases()
    first.labels.write_bytes(second.labels.read_bytes())
    with pytest.raises(DatasetError, match=r"case-0\.nii\.gz: changed"):
        verify_checksums(first)


def test_labels_on_another_grid_are_refused_on_reading(folder: Path, tmp_path: Path) -> None:
    other = create_dataset(tmp_path / "other", "other", sets.TABLE)
    small = write_case_files(other, "small", *sets.exam(1, shape=(6, 40, 48)), {})
    case = Dataset.open(folder).cases()[0]
    case.labels.write_bytes(small.labels.read_bytes())
    with pytest.raises(DatasetError, match="not on the grid of"):
        read_case(case)


NAMES = st.sampled_from([*(s.name for s in STRUCTURES), *(str(kind) for kind in CLASSES), "unknown"])


@given(st.dictionaries(st.integers(1, 255), st.lists(NAMES, min_size=1, max_size=4)), st.lists(NAMES, min_size=1))
def test_label_tables_survive_json(table: dict[int, list[str]], rest: list[str]) -> None:
    once = parse_label_table({str(value): names for value, names in ({0: rest} | table).items()}, "here")
    repeated = parse_label_table(json.loads(json.dumps(once)), "here")
    assert repeated == once == {value: tuple(names) for value, names in ({0: rest} | table).items()}


@given(st.dictionaries(st.text(), st.lists(st.text()) | st.text() | st.none() | st.integers()))
def test_any_other_table_is_refused_in_words(values: dict[str, Any]) -> None:
    try:
        table = parse_label_table(values, "here")
    except LumbarsegError as error:
        assert str(error).startswith("here")  # noqa: PT017
    else:
        assert 0 in table
