"""MONAI Label: segments go by their names, whatever their numbers; who drew them, when and after which model stays."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.layouts import monailabel as layout
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam

from lumbarseg import io
from lumbarseg.anatomy import STRUCTURES, structure_by_name
from lumbarseg.datasets import Dataset, monailabel_datastore
from lumbarseg.datasets.importers.monailabel import KNOWN_FAULTS, LABEL_TABLE, make_importer
from lumbarseg.datasets.importing import import_source
from lumbarseg.errors import DatasetError
from lumbarseg.io import seg_nrrd
from lumbarseg.resampling import reorient
from lumbarseg.terminology import structure_codes
from lumbarseg.volume import Array, Volume

from .layout_round_trip import RoundTrip, import_layout

ANNOTATED = sorted(structure_by_name(name).label for name in layout.NAMES)


@cache
def phantoms() -> tuple[SyntheticExam, ...]:
    """As many as the layout plants something in, of four that are drawn."""
    few = tuple(exam(number, seed=9) for number in range(4))
    return tuple(
        SyntheticExam(f"case-{number}", few[number % 4].image, few[number % 4].labels, "T2")
        for number in range(len(layout.FAULTS))
    )


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monailabel") / "studies"


@pytest.fixture(scope="module")
def round_trip(studies: Path) -> RoundTrip:
    return import_layout(layout, make_importer(), studies, phantoms(), with_faults=True)


def truth(name: str) -> Array:
    """What the person drew of a phantom, RAS."""
    labels = reorient(phantoms()[int(name.partition("-")[2])].labels, "RAS").array
    return np.where(np.isin(labels, ANNOTATED), labels, 0)


def test_every_injected_fault_is_reported_and_none_invented(round_trip: RoundTrip) -> None:
    assert len(round_trip.injected) > 6
    assert round_trip.reported == round_trip.expected
    assert {fault for _, fault in round_trip.reported} - {"refused"} <= set(KNOWN_FAULTS)
    waiting = {f"case-{number}" for number in range(len(layout.FAULTS)) if layout.is_unfinished(number)}
    assert waiting and not waiting & {*round_trip.loaded, *round_trip.refused}


def test_names_of_segments_count_not_their_numbers(round_trip: RoundTrip) -> None:
    spoilt = {fault.case for fault in round_trip.injected if fault.fault in ("unnamed", "twice")}
    complete = {name: read for name, read in round_trip.loaded.items() if name not in spoilt}
    assert len(complete) > 3
    for name, read in complete.items():
        np.testing.assert_array_equal(reorient(read.labels, "RAS").array, truth(name))
        assert read.label_table is not None
        assert set(ANNOTATED) <= set(read.label_table)
        assert {"arch", "background"} <= set(read.label_table[0])
        assert not {"body", "disc", "L3"} & set(read.label_table[0])


def test_a_segment_without_a_meaning_is_unknown_and_two_of_one_name_are_one(round_trip: RoundTrip) -> None:
    unknown = next(fault.case for fault in round_trip.injected if fault.fault == "unnamed")
    result, true = reorient(round_trip.loaded[unknown].labels, "RAS").array, truth(unknown)
    assert len(np.unique(true[result == 255])) == 1
    np.testing.assert_array_equal(result[result != 255], true[result != 255])
    twice = next(fault.case for fault in round_trip.injected if fault.fault == "twice")
    result, true = reorient(round_trip.loaded[twice].labels, "RAS").array, truth(twice)
    np.testing.assert_array_equal(
        result, np.where(true == structure_by_name("L1").label, structure_by_name("L2").label, true)
    )


def test_who_when_and_which_model_stay_with_each_case(round_trip: RoundTrip) -> None:
    for read in round_trip.loaded.values():
        message = read.metadata["annotated"]
        assert (message["by"], message["model"], message["tag"]) == ("reader one", "lumbar_spine", "final")
        assert message["at"].startswith("2025-10-") and message["at"].endswith("+00:00")
        assert message["other_tags"] == ["original"]
    plain = next(name for name, read in round_trip.loaded.items() if not read.warnings)
    message = round_trip.loaded[plain].metadata["annotated"]
    half = truth(plain)  # the answer lacks a part of L3, and nothing else
    assert 0 < message["changed_voxels"] < (half == structure_by_name("L3").label).sum()
    assert 0.9 < message["answer_dice"] < 1


def test_refusals_name_the_file_and_the_reason(round_trip: RoundTrip) -> None:
    by_detail = {fault.detail: fault.case for fault in round_trip.injected}
    for detail, text in (
        ("value without a name", r"holds the value 13, which no name explains"),
        ("no names", "has no names of its values"),
        ("image removed", "missing, though datastore_v2.json lists it"),
    ):
        assert text in round_trip.refused[by_detail[detail]]


def test_a_table_of_the_user_explains_labels_without_names(
    round_trip: RoundTrip, studies: Path, tmp_path: Path
) -> None:
    case = next(fault.case for fault in round_trip.injected if fault.detail == "no names")
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"0": ["background"], **{str(v): ["body"] for v in range(1, 13)}}))
    message = make_importer(table=table)
    raw = next(raw for raw in message.list_cases(studies).cases if raw.name == case)
    read = message.load_case(raw)
    np.testing.assert_array_equal(reorient(read.labels, "RAS").array > 0, truth(case) > 0)


def test_other_tags_are_ignored_unless_selected(studies: Path, round_trip: RoundTrip) -> None:
    results = make_importer(tag="original").list_cases(studies)
    assert len(results.cases) == len(layout.FAULTS) - 1  # one image was removed
    with pytest.raises(DatasetError, match=r"none of its \d+ exams has a label under second; .*--tag"):
        make_importer(tag="second").list_cases(_copy_with_original_only(studies, round_trip))


def _copy_with_original_only(studies: Path, round_trip: RoundTrip) -> Path:
    """A datastore in which every file is in its place."""
    folder = studies.parent / "whole"
    shutil.copytree(studies, folder, dirs_exist_ok=True)
    values = json.loads((folder / monailabel_datastore.DATASTORE_FILE).read_text())
    removed = next(fault.case for fault in round_trip.injected if fault.detail == "image removed")
    del values["objects"][removed]
    (folder / "labels" / "final" / f"{removed}.nii.gz").unlink()
    (folder / monailabel_datastore.DATASTORE_FILE).write_text(json.dumps(values))
    return folder


def test_a_final_label_outside_the_table_is_reported(studies: Path, round_trip: RoundTrip) -> None:
    folder = _copy_with_original_only(studies, round_trip)
    shutil.copy(folder / "labels/final/case-0.nii.gz", folder / "labels/final/stray.nii.gz")
    assert "does not list" in dict(make_importer().list_cases(folder).refused)["stray"]


def test_a_segmentation_of_slicer_names_its_values_itself(tmp_path: Path) -> None:
    one = phantoms()[0]
    rows = dict(enumerate(("L4", "sacrum", "L2-L3"), start=1))
    lookup = np.zeros(256, np.uint8)
    for folder_root, name in rows.items():
        lookup[structure_by_name(name).label] = folder_root
    segments = [
        seg_nrrd.Segment(folder_root, name, structure_by_name(name).colour, structure_codes(structure_by_name(name)))
        for folder_root, name in rows.items()
    ]
    _datastore(tmp_path, one, {"label_info": [{"name": "L1", "idx": 1}]}, ".seg.nrrd")
    path = tmp_path / "labels" / "final" / "one.seg.nrrd"
    path.unlink()
    seg_nrrd.write(Volume(lookup[one.labels.array], one.labels.affine), segments, path)
    read = make_importer().load_case(make_importer().list_cases(tmp_path).cases[0])
    assert {names[0] for value, names in (read.label_table or {}).items() if value} == set(rows.values())


def _datastore(folder: Path, one: SyntheticExam, info: dict[str, object], ending: str = ".nii.gz") -> None:
    """One exam, its labels as they are."""
    io.write_image(one.image, folder / "one.nii.gz")
    path = folder / "labels" / "final" / "one.nii.gz"
    io.write_labels(one.labels, path, structures=())
    if ending != ".nii.gz":
        path.rename(path.with_name(f"one{ending}"))
    rows = {"image": {"ext": ".nii.gz", "info": {}}, "labels": {"final": {"ext": ending, "info": info}}}
    (folder / monailabel_datastore.DATASTORE_FILE).write_text(
        json.dumps({"name": "", "description": "", "objects": {"one": rows}})
    )


@pytest.mark.parametrize("name", ["../one", "/etc/one"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    _datastore(tmp_path, phantoms()[0], {"values": "declared"})
    values = json.loads((tmp_path / monailabel_datastore.DATASTORE_FILE).read_text())
    values["objects"] = {name: values["objects"]["one"]}
    (tmp_path / monailabel_datastore.DATASTORE_FILE).write_text(json.dumps(values))
    result = make_importer().list_cases(tmp_path)
    assert not result.cases
    assert any("leads out" in reason or "missing" in reason for _, reason in result.refused)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"datastore_v2\.json: not found; give the folder"),
        ("{", r"line 1, column 2: not JSON"),
        ("[]", "must hold one JSON object"),
        ('{"objects": {}, "labels_dir": "../x"}', "labels_dir: must be a folder inside"),
    ],
)
def test_a_folder_of_another_kind_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / monailabel_datastore.DATASTORE_FILE).write_text(text)
    with pytest.raises(DatasetError, match=message):
        make_importer().list_cases(tmp_path)


def test_the_import_is_whole_and_done_twice_changes_nothing(
    studies: Path, round_trip: RoundTrip, tmp_path: Path
) -> None:
    first = import_source(make_importer(), studies, tmp_path / "data", jobs=1, val_fraction=0.0)
    assert set(first.added) == set(round_trip.loaded)
    before = (tmp_path / "data" / "dataset.json").read_bytes()
    repeated = import_source(make_importer(), studies, tmp_path / "data", jobs=1, val_fraction=0.0)
    assert not repeated.added
    assert (tmp_path / "data" / "dataset.json").read_bytes() == before
    dataset = Dataset.open(tmp_path / "data")
    assert dataset.label_table == dict(sorted(LABEL_TABLE.items()))
    assert {s.label for s in STRUCTURES} < set(dataset.label_table)
