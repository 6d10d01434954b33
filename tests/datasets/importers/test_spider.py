"""SPIDER: counted vertebrae become named sets, and the two tables say whose exam it is and what is odd about it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.layouts import spider as layout
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam
from tests.io.itk import write_metaimage

from lumbarseg import io
from lumbarseg.anatomy import Kind, kinds_from_names, structure_by_name
from lumbarseg.datasets.importers.importer import SourceCase
from lumbarseg.datasets.importers.spider import IMPORTER, KNOWN_FAULTS, LABEL_TABLE
from lumbarseg.datasets.schemes import SCHEMES
from lumbarseg.errors import DatasetError, FileError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .layout_round_trip import RoundTrip, disagreement, import_layout


@cache
def phantoms() -> tuple[SyntheticExam, ...]:
    return tuple(exam(number, seed=4, bodies=5) for number in range(len(layout.FAULTS)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spider") / "zenodo"


@pytest.fixture(scope="module")
def round_trip(folder: Path) -> RoundTrip:
    assert all(map(layout.is_usable, phantoms()))
    return import_layout(layout, IMPORTER, folder, phantoms(), with_faults=True)


def test_every_injected_fault_is_reported_and_none_invented(round_trip: RoundTrip) -> None:
    assert {fault for _, fault in round_trip.reported} == {*KNOWN_FAULTS, "refused"} - {"label-grid"}
    assert round_trip.reported == round_trip.expected


def test_a_layout_without_faults_is_imported_without_a_word(tmp_path: Path) -> None:
    plain = import_layout(layout, IMPORTER, tmp_path, phantoms()[:2], with_faults=False)
    assert (tmp_path / "images" / "1_t2.mha").is_file() and (tmp_path / "masks" / "4_t2.mha").is_file()
    assert plain.reported == set() and list(plain.loaded) == [layout.case_name(0), layout.case_name(1)]


def test_the_labels_allow_the_truth_in_every_voxel_and_nothing_unannotated(round_trip: RoundTrip) -> None:
    for number, one in enumerate(phantoms()):
        read = round_trip.loaded.get(layout.case_name(number))
        if read is None:
            continue
        assert not disagreement(read, one.labels, LABEL_TABLE).any()
        labels, truth = reorient(read.labels, "RAS").array, reorient(one.labels, "RAS").array
        sacrum = structure_by_name("sacrum").label
        np.testing.assert_array_equal(labels > 0, (truth > 0) & (truth != sacrum))
        canal = structure_by_name("canal").label
        np.testing.assert_array_equal(labels == canal, truth == canal)
        assert read.image.grid.same_as(read.labels.grid)
        np.testing.assert_array_equal(reorient(read.image, "RAS").array, reorient(one.image, "RAS").array)


def test_what_the_image_cuts_off_has_values_of_its_own(round_trip: RoundTrip) -> None:
    partly = {name: read.metadata["partly_in_view"] for name, read in round_trip.loaded.items() if read.metadata}
    assert partly
    for name, levels in partly.items():
        labels = round_trip.loaded[name].labels.array
        for level in levels:
            assert (labels == 100 + structure_by_name(level).label).any() and not (
                labels == structure_by_name(level).label
            ).any()


def test_split_scanner_and_contrast_come_from_the_tables(folder: Path, round_trip: RoundTrip) -> None:
    raws = {raw.name: raw for raw in IMPORTER.list_cases(folder).cases}
    assert {name for name, raw in raws.items() if raw.split == "val"} == {"10_t2", "10_t2_SPACE", "25_t2"} & set(raws)
    for name, raw in raws.items():
        assert raw.patient == name.partition("_")[0]
        unknown = "new_file_name" not in raw.metadata
        assert raw.scanner == ("" if unknown else "SIEMENS Avanto")
        assert raw.metadata.get("sex", "F") in ("F", "M") and "birth_date" not in raw.metadata
        assert isinstance(raw.metadata.get("age", 50), int)
        json.dumps(raw.metadata)
        assert len(raw.metadata["gradings"]) in (5, 6)
    assert (
        raws["4_t2"].contrast == "STIR" and raws["10_t2"].contrast == "T2" and raws["10_t2_SPACE"].contrast == "SPACE"
    )


def test_the_sacrum_is_not_annotated() -> None:
    assert kinds_from_names(LABEL_TABLE[0]) == {Kind.BACKGROUND, Kind.SACRUM}


@pytest.mark.parametrize("value", SCHEMES["spider"])
def test_a_value_keeps_its_meaning(value: int, tmp_path: Path) -> None:
    raw = write(tmp_path, np.array([0, 1, value], np.uint8))
    read = IMPORTER.load_case(raw)
    assert LABEL_TABLE[int(read.labels.array.ravel()[2])] == SCHEMES["spider"][value]
    above = value != 100 and value % 100 > 17
    assert [text.partition(":")[0] for text in read.warnings] == ["above-T1"] * above + ["no-overview"]


def test_a_disc_below_the_lowest_is_imported_and_reported(tmp_path: Path) -> None:
    read = IMPORTER.load_case(write(tmp_path, np.array([0, 1, 200], np.uint8)))
    assert LABEL_TABLE[int(read.labels.array.ravel()[2])] == (Kind.DISC.value,)
    assert read.warnings[0].startswith("counting: the mask has a disc 200")


def test_bad_input_is_refused_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no images/1_t1"):
        IMPORTER.list_cases(tmp_path)
    with pytest.raises(DatasetError, match=r"1_t2\.mha: holds the value 57"):
        IMPORTER.load_case(write(tmp_path, np.array([0, 1, 57], np.uint8)))
    with pytest.raises(DatasetError, match="nothing is labelled"):
        IMPORTER.load_case(write(tmp_path, np.zeros(3, np.uint8)))
    raw = write(tmp_path, np.array([0, 1, 2], np.uint8))
    raw.files[1].write_bytes(raw.files[1].read_bytes()[:-8])
    with pytest.raises(FileError, match=r"masks/1_t2\.mha: "):
        IMPORTER.load_case(raw)
    write_metaimage(Volume(np.zeros((3, 1, 1), np.uint8), np.eye(4)), tmp_path / "images" / "x y.mha")
    write_metaimage(Volume(np.zeros((3, 1, 1), np.uint8), np.eye(4)), tmp_path / "masks" / "x y.mha")
    write_metaimage(Volume(np.zeros((3, 1, 1), np.uint8), np.eye(4)), tmp_path / "masks" / "9_t1.mha")
    result = IMPORTER.list_cases(tmp_path)
    assert [raw.name for raw in result.cases] == ["1_t2"]
    assert {name for name, _ in result.refused} == {"x-y", "9_t1"}


def write(folder: Path, values: np.ndarray) -> SourceCase:
    """A pair of one row of voxels."""
    mask = Volume(values.reshape(-1, 1, 1), np.eye(4))
    write_metaimage(Volume(np.zeros_like(mask.array), np.eye(4)), folder / "images" / "1_t2.mha")
    write_metaimage(mask, folder / "masks" / "1_t2.mha")
    assert io.read_labels(folder / "masks" / "1_t2.mha").array.shape == mask.array.shape
    return next(raw for raw in IMPORTER.list_cases(folder).cases if raw.name == "1_t2")
