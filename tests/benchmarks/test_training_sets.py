"""No patient of a test set ever trains, and what a source did not annotate is unknown."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from benchmarks.accuracy import LABEL_TABLES
from benchmarks.training_sets import (
    TEST_PATIENTS,
    UNDECIDED,
    label_tables,
    mark_undecided,
    refuse_test_patients,
    spider_patient,
    write_training_sets,
)

from lumbarseg.datasets.label_table import read_label_table

REAL = Path(os.environ.get("LUMBARSEG_REAL", Path(__file__).resolve().parents[3] / "shared" / "real"))
needs_real_exams = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real exams at {REAL} (LUMBARSEG_REAL)")


@needs_real_exams
@pytest.mark.parametrize("folder", ["spider_space/train", "spider_t2/train", "spider_slices/train"])
def test_no_patient_of_a_test_set_is_in_a_training_folder(folder: str) -> None:
    files = sorted((REAL / folder).glob("*_image.nii.gz"))
    assert files
    refuse_test_patients(files)


@needs_real_exams
def test_test_folders_hold_test_patients_and_no_sudirman_patient_is_in_both_halves() -> None:
    for folder in ("spider_space/test", "spider_t2/test", "spider_slices/test"):
        patients = {spider_patient(path) for path in (REAL / folder).glob("*_image.nii.gz")}
        assert patients and patients <= TEST_PATIENTS
    halves = [{path.name for path in (REAL / "sudirman" / half).glob("*")} for half in ("train", "test")]
    assert halves[0] and not halves[0] & halves[1]


@needs_real_exams
def test_written_sets_hold_no_test_patient(tmp_path: Path) -> None:
    write_training_sets(REAL, tmp_path)
    for name, count in (("sudirman", 167), ("spider_slices", 22), ("spider_mid", 1)):
        images = sorted((tmp_path / name).glob("*_image.nii.gz"))
        assert len(images) >= count
        if name.startswith("spider"):
            refuse_test_patients(images)


def test_a_test_patient_is_refused() -> None:
    with pytest.raises(ValueError, match="patient 200 is in a test set"):
        refuse_test_patients([Path("200_t2_04_image.nii.gz")])


def test_borders_and_what_lies_above_are_undecided() -> None:
    labels = np.zeros((1, 12, 30), np.uint8)
    labels[0, 3:9, 10:16] = 1
    labels[0, 3:9, 2:7] = 30
    out = mark_undecided(labels, np.diag([4.0, 1.0, 1.0, 1.0]), rim=1)
    assert (out[0, 5:7, 12:14] == 1).all()
    assert (out[0, 2:4, 11] == UNDECIDED).all() and (out[0, 5, 16:] == UNDECIDED).all()
    assert out[0, 0, 4] == 0 and out[0, 5, 4] == 30
    assert (mark_undecided(labels[:, :, ::-1], np.diag([4.0, 1.0, -1.0, 1.0]), rim=1) == out[:, :, ::-1]).all()


def test_what_a_source_left_open_is_never_background_alone() -> None:
    tables = label_tables()
    assert {"disc", "canal", "sacrum", "arch"} < set(tables["sudirman"][0])
    assert {"disc", "canal", "sacrum"} < set(tables["spider_slices"][0])
    assert tables["spider_slices"][60] == read_label_table(LABEL_TABLES / "spider_t2.json")[60]
