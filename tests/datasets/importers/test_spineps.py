"""Results of SPINEPS and TotalSpineSeg beside their images: the truth in every voxel, as far as they tell it."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.layouts import spineps as layout
from tests.datasets.layouts import totalspineseg
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam

from lumbarseg import io
from lumbarseg.anatomy import LEVELS, LUMBAR_LEVELS, arch_of_level, structure_by_name
from lumbarseg.datasets.importers import paired_files, spineps
from lumbarseg.datasets.importers.importer import LoadedCase, SourceCase
from lumbarseg.datasets.schemes import SCHEMES
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .layout_round_trip import RoundTrip, disagreement, import_layout


@cache
def phantoms() -> tuple[SyntheticExam, ...]:
    return tuple(exam(number, seed=8, bodies=6) for number in range(4))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spineps")


@pytest.fixture(scope="module")
def round_trip(source: Path) -> RoundTrip:
    return import_layout(layout, paired_files.make_importer("spineps"), source, phantoms(), with_faults=True)


def test_injected_faults_are_reported_and_every_label_allows_the_truth(round_trip: RoundTrip) -> None:
    assert round_trip.reported == round_trip.expected
    assert {fault for _, fault in round_trip.reported} == set(spineps.KNOWN_FAULTS)
    for number, one in enumerate(phantoms()):
        read = round_trip.loaded[layout.case_name(number)]
        assert not disagreement(read, one.labels, spineps.LABEL_TABLE).any()


def test_both_masks_together_are_the_truth_itself(round_trip: RoundTrip) -> None:
    read, one = round_trip.loaded[layout.case_name(0)], phantoms()[0]
    assert read.label_table == spineps.LABEL_TABLE
    np.testing.assert_array_equal(reorient(read.labels, "RAS").array, reorient(one.labels, "RAS").array)


def test_one_mask_alone_is_used(round_trip: RoundTrip) -> None:
    tissues, vertebrae, numbers = (round_trip.loaded[layout.case_name(n)] for n in (1, 2, 3))
    l3 = structure_by_name("L3").label
    nameless = {spineps.LABEL_TABLE[int(value)] for value in np.unique(tissues.labels.array) if value >= 200}
    assert nameless == {("body",), ("arch",), ("disc",)}
    assert not np.isin(tissues.labels.array, [l3, structure_by_name("L3 arch").label]).any()
    assert (vertebrae.labels.array == 100 + l3).any() and not (vertebrae.labels.array == l3).any()
    assert vertebrae.label_table is not None and {"canal"} == set(vertebrae.label_table[0]) - {"background", "sacrum"}
    assert not np.isin(numbers.labels.array, [l3, 100 + l3]).any()
    assert numbers.labels.array.any()


def one_raw(source: Path, number: int) -> SourceCase:
    return next(raw for raw in spineps.list_cases(source).cases if raw.name == layout.case_name(number))


def test_patients_contrasts_and_other_names_of_files(round_trip: RoundTrip, source: Path, tmp_path: Path) -> None:
    assert not round_trip.refused
    raws = spineps.list_cases(source).cases
    assert {raw.contrast for raw in raws} == {"T2"} and {raw.patient for raw in raws} >= {"sub-001", "sub-002"}
    image, masks = one_raw(source, 0).files[0], one_raw(source, 0).files[1:]
    for path, name in zip(
        (image, *masks), ("77.nii.gz", "77_seg-spine_msk.nii.gz", "77_seg-vert_msk.nii.gz"), strict=True
    ):
        shutil.copy(path, tmp_path / name)
    (raw,) = spineps.list_cases(tmp_path).cases
    assert (raw.name, raw.patient, raw.contrast) == ("77", "77", "")
    (tmp_path / "other").mkdir()
    shutil.copy(image, tmp_path / "other" / "77.nii.gz")
    assert "2 such files of one exam" in spineps.list_cases(tmp_path).refused[0][1]


def test_wrong_input_is_reported(round_trip: RoundTrip, source: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no file like"):
        spineps.list_cases(tmp_path)
    copy = shutil.copytree(source, tmp_path / "copy")
    raw = one_raw(copy, 0)
    labels = io.read_labels(raw.files[1])
    io.write_labels(Volume(np.full_like(labels.array, 99), labels.affine), raw.files[1], ())
    with pytest.raises(DatasetError, match="holds the value 99, which the label table does not explain"):
        spineps.load_case(raw)
    raw.files[0].unlink()
    assert "its image sub-001_T2w.nii.gz is missing" in dict(spineps.list_cases(copy).refused)["sub-001_T2w"]


def test_with_a_sixth_lumbar_vertebra_the_disc_under_the_fifth_is_above_it(tmp_path: Path) -> None:
    """124 is the disc below L5: on the sacrum, or on L6 where there is one."""
    affine = np.diag([4.0, 1, 1, 1])
    tissues, vertebrae = np.zeros((2, 3, 6, 8), np.uint8)
    tissues[1, 1:3], vertebrae[1, 1:3] = (49, 100, 49, 100, 26, 0, 0, 0), (24, 124, 25, 125, 26, 0, 0, 0)
    io.write_image(Volume(np.ones((3, 6, 8), np.float32), affine), tmp_path / "x.nii.gz")
    for kind, mask in (("spine", tissues), ("vert", vertebrae)):
        io.write_labels(Volume(mask, affine), tmp_path / f"x_seg-{kind}_msk.nii.gz", ())
    read: LoadedCase = spineps.load_case(spineps.list_cases(tmp_path).cases[0])
    names = [spineps.LABEL_TABLE[int(value)][0] for value in read.labels.array[1, 1, :5]]
    assert names == [LUMBAR_LEVELS[-1], f"L5-{LEVELS[-1]}", LEVELS[-1], f"{LEVELS[-1]}-S1", "sacrum"]


def test_totalspineseg_as_it_leaves_its_output(tmp_path: Path) -> None:
    round_trip = import_layout(
        totalspineseg, paired_files.make_importer("totalspineseg"), tmp_path, phantoms()[:2], with_faults=True
    )
    assert round_trip.reported == round_trip.expected == {(phantoms()[1].name, "label-header")}
    table = SCHEMES["totalspineseg"]
    for one in phantoms()[:2]:
        read = round_trip.loaded[one.name]
        assert not disagreement(read, one.labels, table).any()
        np.testing.assert_array_equal(read.labels.array > 0, one.labels.array > 0)
        complete = [structure_by_name("L4").label, arch_of_level("L4").label]
        np.testing.assert_array_equal(read.labels.array == 44, np.isin(one.labels.array, complete))


def test_totalspineseg_as_a_derivative_in_bids(tmp_path: Path) -> None:
    image, labels = phantoms()[0].image, phantoms()[0].labels
    io.write_image(image, tmp_path / "sub-1" / "ses-2" / "anat" / "sub-1_ses-2_T2w.nii.gz")
    folder = tmp_path / "derivatives" / "labels" / "sub-1" / "ses-2" / "anat"
    io.write_labels(
        Volume(np.full_like(labels.array, 50), labels.affine), folder / "sub-1_ses-2_T2w_label-spine_dseg.nii.gz"
    )
    (raw,) = paired_files.make_importer("totalspineseg").list_cases(tmp_path).cases
    assert (raw.name, raw.patient, raw.contrast) == ("sub-1_ses-2_T2w", "sub-1", "T2")
