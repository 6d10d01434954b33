"""MRSpineSeg: 19 structures become the package's own, upper ones that were not drawn stay unknown."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.layouts import mrspineseg as layout
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam

from lumbarseg import io
from lumbarseg.anatomy import Kind, arch_of_level, structure_by_name
from lumbarseg.datasets.importers.importer import SourceCase
from lumbarseg.datasets.importers.mrspineseg import IMPORTER, KNOWN_FAULTS, LABEL_TABLE
from lumbarseg.datasets.schemes import REGULAR_VERTEBRAE, SCHEMES
from lumbarseg.errors import DatasetError, FileError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .layout_round_trip import RoundTrip, disagreement, import_layout

UPPER = ("T9", "T10")


@cache
def phantoms() -> tuple[SyntheticExam, ...]:
    return tuple(exam(number, seed=6, bodies=9) for number in range(len(layout.FAULTS)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mrspineseg")


@pytest.fixture(scope="module")
def round_trip(folder: Path) -> RoundTrip:
    return import_layout(layout, IMPORTER, folder, phantoms(), with_faults=True)


def test_every_injected_fault_is_reported_and_none_invented(round_trip: RoundTrip) -> None:
    assert round_trip.reported == round_trip.expected
    assert {fault for _, fault in round_trip.reported} - {"refused"} <= set(KNOWN_FAULTS)
    assert len(round_trip.loaded) == 3


def test_the_labels_allow_the_truth_in_every_voxel_and_hold_all_that_the_source_draws(round_trip: RoundTrip) -> None:
    for number, one in enumerate(phantoms()):
        read = round_trip.loaded.get(layout.case_name(number))
        if read is None:
            continue
        table = read.label_table or LABEL_TABLE
        assert not disagreement(read, one.labels, LABEL_TABLE).any()
        labels, truth = reorient(read.labels, "RAS").array, reorient(one.labels, "RAS").array
        unannotated = [structure_by_name(name).label for name in table[0] if name not in tuple(Kind)] + [
            structure_by_name("canal").label
        ]
        np.testing.assert_array_equal(labels > 0, (truth > 0) & ~np.isin(truth, unannotated))


def test_upper_vertebrae_that_lack_are_unknown_and_the_others_are_not(round_trip: RoundTrip) -> None:
    cropped, complete = round_trip.loaded["Case5"], round_trip.loaded["Case1"]
    assert cropped.label_table is not None
    names = {*UPPER, *(arch_of_level(level).name for level in UPPER), "T9-T10", "T10-T11"}
    assert names <= set(cropped.label_table[0]) and not names & {
        n for v, row in cropped.label_table.items() if v for n in row
    }
    assert not names & set((complete.label_table or LABEL_TABLE)[0])
    for table in (cropped.label_table, LABEL_TABLE):
        assert Kind.CANAL.value in table[0] and Kind.SACRUM.value not in table[0]
        assert set(REGULAR_VERTEBRAE[:8]) <= set(table[0]) and not set(REGULAR_VERTEBRAE[10:]) & set(table[0])


@pytest.mark.parametrize("value", [value for value in SCHEMES["mrspineseg"] if value])
def test_a_value_keeps_its_meaning(value: int, tmp_path: Path) -> None:
    read = IMPORTER.load_case(write(tmp_path, np.array([0, 2, value], np.uint8)))
    assert (read.label_table or LABEL_TABLE)[int(read.labels.array.ravel()[2])] == SCHEMES["mrspineseg"][value]
    assert read.warnings == ()


def test_every_exam_is_a_patient_in_the_order_of_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 2):
        write(tmp_path, np.array([0, 1, 2], np.uint8), number)
    result = IMPORTER.list_cases(tmp_path)
    assert [(raw.name, raw.patient) for raw in result.cases] == [("Case2", "2"), ("Case9", "9"), ("Case10", "10")]


def test_bad_input_is_refused_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no MR/Case1"):
        IMPORTER.list_cases(tmp_path)
    with pytest.raises(DatasetError, match=r"mask_case1\.nii\.gz: holds the value 20"):
        IMPORTER.load_case(write(tmp_path, np.array([0, 1, 20], np.uint8)))
    with pytest.raises(DatasetError, match="nothing is labelled"):
        IMPORTER.load_case(write(tmp_path, np.zeros(3, np.uint8)))
    raw = write(tmp_path, np.array([0, 1, 2], np.uint8))
    raw.files[1].write_bytes(raw.files[1].read_bytes()[:40])
    with pytest.raises(FileError, match=r"mask_case1\.nii\.gz: "):
        IMPORTER.load_case(raw)
    (raw.files[1].parent / "mask_case7.nii.gz").write_bytes(raw.files[0].read_bytes())
    result = IMPORTER.list_cases(tmp_path)
    assert [raw.name for raw in result.cases] == ["Case1"]
    assert result.refused[0][0] == "Case7" and "MR/Case7" in result.refused[0][1]


def write(folder: Path, values: np.ndarray, number: int = 1) -> SourceCase:
    """A pair of one row of voxels."""
    mask = Volume(values.reshape(-1, 1, 1), np.eye(4))
    io.write_image(Volume(np.zeros_like(mask.array), np.eye(4)), folder / "train" / "MR" / f"Case{number}.nii.gz")
    io.write_labels(mask, folder / "train" / "Mask" / f"mask_case{number}.nii.gz", structures=())
    return IMPORTER.list_cases(folder).cases[0]
