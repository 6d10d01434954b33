"""MyoSegmenTUM: five masks a folder become one label map, whichever of the accepted layouts they have."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.layouts import myosegmentum as layout
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam
from tests.io.itk import write_metaimage

from lumbarseg import io
from lumbarseg.anatomy import LUMBAR_LEVELS, structure_by_name
from lumbarseg.datasets.importers import myosegmentum
from lumbarseg.datasets.importers.importer import Importer
from lumbarseg.datasets.importing import import_source
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .layout_round_trip import RoundTrip, disagreement, import_layout

IMPORTER: Importer = myosegmentum.IMPORTER
BODIES = [structure_by_name(level).label for level in LUMBAR_LEVELS]


@cache
def phantoms() -> tuple[SyntheticExam, ...]:
    return tuple(exam(number, seed=10, sequence="GRE", bodies=6) for number in range(4))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("myosegmentum")


@pytest.fixture(scope="module")
def round_trip(source: Path) -> RoundTrip:
    assert all(map(layout.is_usable, phantoms()))
    return import_layout(layout, IMPORTER, source, phantoms(), with_faults=True)


@pytest.fixture
def copy(round_trip: RoundTrip, source: Path, tmp_path: Path) -> Path:
    assert not round_trip.refused
    return shutil.copytree(source, tmp_path / "copy")


def folder_of(source: Path, number: int = 0) -> Path:
    case = layout.case_name(number)
    return source / case / case / "vertebrae"


def test_injected_faults_are_reported_and_bodies_are_the_truth(round_trip: RoundTrip) -> None:
    assert round_trip.reported == round_trip.expected
    assert {fault for _, fault in round_trip.reported} == {"grey-mask", "overlap", "label-header"}
    for number, one in enumerate(phantoms()):
        read = round_trip.loaded[layout.case_name(number)]
        assert not disagreement(read, one.labels, IMPORTER.label_table).any()
        labels, truth = reorient(read.labels, "RAS").array, reorient(one.labels, "RAS").array
        np.testing.assert_array_equal(labels > 0, np.isin(truth, BODIES))


def test_the_selected_contrast_is_read(copy: Path) -> None:
    water, fat, fraction = (
        importer.load_case(importer.list_cases(copy).cases[0]).image.array
        for importer in map(myosegmentum.make_importer, ("water", "fat", "pdff"))
    )
    np.testing.assert_array_equal(water, phantoms()[0].image.array)
    np.testing.assert_array_equal(fat, fraction)
    assert not np.array_equal(water, fat)
    with pytest.raises(DatasetError, match="choose one of water, fat, pdff"):
        myosegmentum.make_importer("t2")


def test_one_label_map_beside_or_above_the_image_is_taken(copy: Path, tmp_path: Path) -> None:
    image, labels = phantoms()[0].image, phantoms()[0].labels
    bodies = Volume(np.where(np.isin(labels.array, BODIES), labels.array, 0), labels.affine)
    for name, folder in (("s1", "s1"), ("s2", "s2/masks")):
        io.write_image(image, tmp_path / "other" / name / "sub_water.nii.gz")
        io.write_labels(bodies, tmp_path / "other" / folder / "vertebrae_seg.nii.gz")
    result = IMPORTER.list_cases(tmp_path / "other")
    assert [raw.name for raw in result.cases] == ["s1", "s2"]
    for raw in result.cases:
        np.testing.assert_array_equal(IMPORTER.load_case(raw).labels.array, bodies.array)


def test_what_is_missing_or_wrong_is_one_line_and_the_rest_is_kept(copy: Path, tmp_path: Path) -> None:
    extra = tmp_path / "copy" / "05"
    shutil.copytree(copy / "01", extra)
    (folder_of(copy, 0) / "L2_01.mha").unlink()
    (folder_of(copy, 1) / "WATER.nii.gz").rename(folder_of(copy, 1) / "WATER.dcm")
    mask = io.read_labels(folder_of(copy, 2) / "L5_03.mha")
    write_metaimage(Volume(mask.array * 0, mask.affine), folder_of(copy, 2) / "L5_03.mha")
    (folder_of(copy, 3) / "L1_04.mha").write_bytes(b"no volume at all")
    done = import_source(IMPORTER, copy, tmp_path / "out", jobs=1)
    assert done.added == ("05",)
    message = {
        "01": "4 masks of 5 expected: L2 missing",
        "02": "WATER.dcm: all slices in one DICOM file are not read; convert it: dcm2niix",
        "03": "L5_03.mha: an empty mask",
        "04": "L1_04.mha",
    }
    assert set(done.refused) == set(message)
    for name, text in message.items():
        assert text in done.refused[name]


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    io.write_image(phantoms()[0].image, tmp_path / "a_image.nii.gz")
    with pytest.raises(DatasetError, match="holds no folder with masks L1 to L5"):
        IMPORTER.list_cases(tmp_path)
