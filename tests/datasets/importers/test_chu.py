"""CHU: one value becomes seven named bodies, and the axis that its header reverses is found."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.layouts import chu as layout
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam

from lumbarseg import io
from lumbarseg.anatomy import structure_by_name
from lumbarseg.datasets.importers.chu import BODIES, IMPORTER, KNOWN_FAULTS, LABEL_TABLE
from lumbarseg.datasets.importers.importer import SourceCase
from lumbarseg.errors import DatasetError, FileError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .layout_round_trip import RoundTrip, import_layout

LABELS = [structure_by_name(level).label for level in BODIES]


@cache
def phantoms() -> tuple[SyntheticExam, ...]:
    return tuple(one for number in range(12) if layout.is_usable(one := exam(number, seed=3, bodies=7)))[:7]


@pytest.fixture(scope="module")
def round_trip(tmp_path_factory: pytest.TempPathFactory) -> RoundTrip:
    return import_layout(layout, IMPORTER, tmp_path_factory.mktemp("chu") / "zenodo", phantoms(), with_faults=True)


def truth(name: str) -> Array:
    """The bodies of a phantom that the tag holds, RAS."""
    labels = reorient(phantoms()[int(name[4:]) - 1].labels, "RAS").array
    return np.where(np.isin(labels, LABELS), labels, 0)


def test_every_injected_fault_is_reported_and_none_invented(round_trip: RoundTrip) -> None:
    assert len(round_trip.injected) > 8
    assert round_trip.reported == round_trip.expected
    assert {fault for _, fault in round_trip.reported} - {"refused"} <= set(KNOWN_FAULTS)


def test_the_bodies_are_the_phantoms_voxel_for_voxel(round_trip: RoundTrip) -> None:
    for name, read in round_trip.loaded.items():
        result, true = reorient(read.labels, "RAS").array, truth(name)
        touching = any(text.startswith("touching") for text in read.warnings)
        mask = true > 0 if touching else np.ones(true.shape, bool)  # the bridge between two bodies belongs to none
        np.testing.assert_array_equal(result[mask], true[mask])
        assert set(np.unique(result)) == {0, *LABELS} <= set(LABEL_TABLE)
        np.testing.assert_allclose(read.image.affine, read.labels.affine)


def test_the_touching_bodies_are_named_and_keep_every_voxel(round_trip: RoundTrip) -> None:
    injected = next(fault for fault in round_trip.injected if fault.fault == "touching")
    message = next(text for text in round_trip.loaded[injected.case].warnings if text.startswith("touching"))
    assert set(injected.detail.split(" and ")) <= set(message.replace(",", "").split())
    result = reorient(round_trip.loaded[injected.case].labels, "RAS").array
    assert (result > 0).sum() > (truth(injected.case) > 0).sum()  # the bridge was given to the two


def test_a_header_that_is_right_is_left_alone(round_trip: RoundTrip) -> None:
    right = next(name for name, read in round_trip.loaded.items() if not read.warnings)
    np.testing.assert_allclose(round_trip.loaded[right].image.affine, reorient(phantoms()[2].image, "LPS").affine)


@pytest.mark.parametrize("signs", [(1, -1, 1), (1, 1, -1), (1, -1, -1)])
def test_any_reversed_axis_is_put_right_without_mirroring_twice(tmp_path: Path, signs: tuple[int, ...]) -> None:
    one = phantoms()[0]
    image, labels = reorient(one.image, "RAS"), reorient(one.labels, "RAS")
    tag = np.isin(labels.array, LABELS).astype(np.uint8)
    wrong = np.diag([*(np.array(signs) * image.grid.spacing), 1.0])
    paths = (tmp_path / "Img_07.nii", tmp_path / "Img_07_Labels.nii")
    io.write_image(Volume(image.array, wrong), paths[0])
    io.write_labels(Volume(tag, wrong), paths[1], structures=())
    read = IMPORTER.load_case(IMPORTER.list_cases(tmp_path).cases[0])
    diagonal = np.diag(read.image.affine)[:3]
    assert (np.sign(diagonal[1:]) == 1).all() and np.linalg.det(read.image.affine) * np.prod(signs) > 0
    upright = reorient(read.labels, "RAS").array
    expected = np.where(tag > 0, labels.array, 0)[:: 1 if diagonal[0] > 0 else -1]
    np.testing.assert_array_equal(upright, expected)


def test_a_body_too_few_or_too_far_is_refused_with_the_reason(round_trip: RoundTrip, tmp_path: Path) -> None:
    six = next(fault.case for fault in round_trip.injected if fault.detail.endswith("not drawn"))
    assert "6 bodies, 7 are expected" in round_trip.refused[six] or "5 bodies, 7" in round_trip.refused[six]
    one = exam(0, seed=3, bodies=8)
    labels = reorient(one.labels, "LPS")
    upper = {structure_by_name("T10").label, *LABELS} - {structure_by_name("L2").label}
    affine = np.diag([*labels.grid.spacing, 1.0])
    io.write_image(Volume(reorient(one.image, "LPS").array, affine), tmp_path / "Img_01.nii")
    tag = np.isin(labels.array, sorted(upper)).astype(np.uint8)
    io.write_labels(Volume(tag, affine), tmp_path / "Img_01_Labels.nii", structures=())
    with pytest.raises(DatasetError, match=r"Img_01_Labels\.nii: its 7 bodies lie .* mm apart"):
        IMPORTER.load_case(IMPORTER.list_cases(tmp_path).cases[0])


def test_bad_files_are_refused_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no Img_NN"):
        IMPORTER.list_cases(tmp_path)
    volume = Volume(np.zeros((3, 4, 5), np.uint8), np.eye(4))
    image, labels = tmp_path / "Img_01.nii", tmp_path / "Img_01_Labels.nii"
    raw = SourceCase("Img_01", "01", (image, labels))
    io.write_image(volume, image)
    io.write_labels(volume, labels, structures=())
    with pytest.raises(DatasetError, match=r"Img_01_Labels\.nii: holds the values 0; one value"):
        IMPORTER.load_case(raw)
    io.write_labels(Volume(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.eye(4)), labels, structures=())
    with pytest.raises(DatasetError, match=r"holds the values 0, 1, 2, 3, 4, 5; one value"):
        IMPORTER.load_case(raw)
    noise = np.random.default_rng(0).integers(0, 2, (3, 4, 5)).astype(np.uint8)
    io.write_labels(Volume(noise, np.eye(4)), labels, structures=())
    with pytest.raises(DatasetError, match="bodies, 7 are expected"):
        IMPORTER.load_case(raw)
    labels.write_bytes(labels.read_bytes()[:380])
    with pytest.raises(FileError, match=r"Img_01_Labels\.nii: .*truncated"):
        IMPORTER.load_case(raw)


def test_the_real_exams_come_out_named_and_turned(real: Path) -> None:
    result = IMPORTER.list_cases(real / "chu")
    assert len(result.cases) == 10 and not result.refused
    for raw in result.cases:
        read = IMPORTER.load_case(raw)
        by_name = io.read_labels(real / "chu" / "named" / f"{raw.name}_named.nii.gz")
        np.testing.assert_array_equal(read.labels.array, by_name.array)
        np.testing.assert_allclose(read.image.affine, np.diag([-2, -1.25, 1.25, 1]))
        assert [text.partition(":")[0] for text in read.warnings] == ["axis"]
        assert (raw.patient, raw.contrast) == (raw.name[4:], "T2")


def test_a_real_exam_that_was_put_right_is_left_alone(real: Path, tmp_path: Path) -> None:
    for name in ("Img_05.nii.gz", "Img_05_Labels.nii.gz"):
        labels = io.read_labels(real / "chu" / name) if "Labels" in name else io.read_image(real / "chu" / name)
        write = io.write_labels if "Labels" in name else io.write_image
        write(Volume(labels.array, np.diag([-2, -1.25, 1.25, 1.0])), tmp_path / name)
    read = IMPORTER.load_case(IMPORTER.list_cases(tmp_path).cases[0])
    assert read.warnings == ()
    np.testing.assert_allclose(read.image.affine, np.diag([-2, -1.25, 1.25, 1]))
