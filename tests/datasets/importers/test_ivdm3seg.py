"""IVDM3Seg: one tag becomes named discs, counted from the lowest, and says so."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.layouts import ivdm3seg as layout
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam

from lumbarseg import io
from lumbarseg.anatomy import Kind, labels_of_kind
from lumbarseg.datasets.importers import ivdm3seg
from lumbarseg.datasets.importing import import_source
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .layout_round_trip import RoundTrip, import_layout

IMPORTER = ivdm3seg.IMPORTER
ALWAYS = {"counted", "patients"}


@cache
def phantoms() -> tuple[SyntheticExam, ...]:
    annotated = (exam(number, seed=11, sequence="GRE", bodies=8, slices=15) for number in range(12))
    return tuple([one for one in annotated if layout.is_usable(one)][:3])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ivdm3seg")


@pytest.fixture(scope="module")
def round_trip(source: Path) -> RoundTrip:
    assert len(phantoms()) == 3
    return import_layout(layout, IMPORTER, source, phantoms(), with_faults=True)


@pytest.fixture
def copy(round_trip: RoundTrip, source: Path, tmp_path: Path) -> Path:
    assert not round_trip.refused
    return shutil.copytree(source, tmp_path / "copy")


def test_injected_faults_are_reported_and_discs_are_the_truth(round_trip: RoundTrip) -> None:
    """An axis that the anatomy does not tell is said to be unsure; no other fault is invented."""
    assert round_trip.reported - {(layout.case_name(n), "unsure") for n in range(3)} == round_trip.expected
    for number, one in enumerate(phantoms()):
        read = round_trip.loaded[layout.case_name(number)]
        labels, truth = reorient(read.labels, "RAS").array, reorient(one.labels, "RAS").array
        np.testing.assert_array_equal(labels, np.where(np.isin(truth, labels_of_kind(Kind.DISC)), truth, 0))
        assert read.label_table is not None and {"T1-T2", "body", "canal"} <= set(read.label_table[0])
        assert set(np.unique(labels)) == set(read.label_table)
        np.testing.assert_array_equal(reorient(read.image, "RAS").array, reorient(one.image, "RAS").array)


def test_the_selected_contrast_is_read(copy: Path) -> None:
    importer = ivdm3seg.make_importer("wat")
    inn, wat = (i.load_case(i.list_cases(copy).cases[0]).image.array for i in (IMPORTER, importer))
    np.testing.assert_array_equal(wat, (inn * 0.5).astype(int))
    with pytest.raises(DatasetError, match="choose one of inn, opp, wat, fat"):
        ivdm3seg.make_importer("t2")


def test_what_is_missing_or_wrong_is_one_line_and_the_rest_is_kept(copy: Path, tmp_path: Path) -> None:
    for number in (4, 5, 6):
        shutil.copytree(copy / "01", copy / f"0{number}")
        for path in (copy / f"0{number}").iterdir():
            path.rename(path.with_name(path.name.replace("01", f"0{number}")))
    (copy / "02" / "02_Labels.nii").unlink()
    (copy / "03" / "03_inn.nii").unlink()
    tag = io.read_labels(copy / "04" / "04_Labels.nii")
    middle = tag.array.copy()
    middle[:, :, : 2 * tag.array.shape[2] // 3] = 0
    io.write_labels(Volume(middle, tag.affine), copy / "04" / "04_Labels.nii", ())
    io.write_labels(Volume(tag.array + (middle > 0), tag.affine), copy / "05" / "05_Labels.nii", ())
    shutil.copy(copy / "06" / "06_inn.nii", copy / "06" / "06-inn.nii")
    (copy / "01" / "01_Labels.nii").rename(copy / "01" / "01-Labels.nii")
    done = import_source(IMPORTER, copy, tmp_path / "out", jobs=1)
    assert done.added == ("01",)
    message = {
        "02": "its labels are missing",
        "03": "its image is missing: 03[_-]inn",
        "04": "discs, 7 or more are expected",
        "05": "holds the values 0, 1, 2; one value",
        "06": "2 images of one exam",
    }
    assert set(done.refused) == set(message)
    for name, text in message.items():
        assert text in done.refused[name]


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    io.write_image(phantoms()[0].image, tmp_path / "a_image.nii.gz")
    with pytest.raises(DatasetError, match="holds no NN/NN_inn"):
        IMPORTER.list_cases(tmp_path)
