"""Al Khalil's layout made from phantoms, every fault in it, and imported: nothing missed, nothing invented."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.datasets import small_phantoms
from tests.datasets.layouts import khalil as layout
from tests.datasets.layouts.exam import InjectedFault, SyntheticExam

from lumbarseg import io
from lumbarseg.anatomy import Kind, kinds_from_names, structure_by_name
from lumbarseg.datasets import Case, read_case
from lumbarseg.datasets.importers import khalil, mask_levels
from lumbarseg.datasets.importing import import_source
from lumbarseg.datasets.writing import DatasetResult
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Volume

RoundTrip = tuple[Path, list[InjectedFault], list[SyntheticExam]]


def round_trip(folder: Path, count: int, with_faults: bool) -> RoundTrip:
    exams: list[SyntheticExam] = []

    def passed() -> Iterator[SyntheticExam]:
        for exam in small_phantoms.exams(count):
            assert layout.is_usable(exam)
            exams.append(exam)
            yield exam

    return folder, layout.write(folder, passed(), np.random.default_rng(0), with_faults), exams


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> RoundTrip:
    """Two exams of one patient on two scanners, without faults."""
    return round_trip(tmp_path_factory.mktemp("khalil"), 2, with_faults=False)


@pytest.fixture
def source(two: RoundTrip, tmp_path: Path) -> Path:
    return shutil.copytree(two[0], tmp_path / "source")


def labels_dir(source: Path) -> Path:
    return source / "S01" / "Avanto" / "Labels"


def truth(exam: SyntheticExam, missing: set[str] = frozenset()) -> np.ndarray:
    annotated = [structure_by_name(name).label for name in mask_levels.COLUMN_STRUCTURES if name not in missing]
    return np.where(np.isin(exam.labels.array, annotated), exam.labels.array, 0)


def one(source: Path, target: Path) -> DatasetResult:
    return import_source(khalil.IMPORTER, source, target, jobs=1)


def gaps(case: Case) -> set[str]:
    return set(mask_levels.COLUMN_STRUCTURES) - {names[0] for value, names in case.label_table.items() if value}


@pytest.mark.slow
def test_every_injected_fault_is_reported_none_invented_and_every_voxel_is_true(tmp_path: Path) -> None:
    source, injected, exams = round_trip(tmp_path / "source", 51, with_faults=True)
    done = import_source(khalil.IMPORTER, source, tmp_path / "out")
    cases = {case.name: case for case in done.dataset.cases()}
    assert done.refused == {}
    assert list(cases) == sorted(layout.case_name(number) for number in range(51))
    assert len({case.patient for case in cases.values()}) == 39
    reported = {(name, text.partition(":")[0]) for name, texts in done.warnings.items() for text in texts}
    assert reported == {(fault.case, fault.fault) for fault in injected}
    assert {fault for _, fault in reported} == set(khalil.KNOWN_FAULTS)
    for number, exam in enumerate(exams):
        case = cases[layout.case_name(number)]
        missing = {
            fault.detail.partition(":")[0] for fault in injected if fault.case == case.name and fault.fault == "missing"
        }
        image, labels = read_case(case)
        np.testing.assert_array_equal(labels.array, truth(exam, missing))
        np.testing.assert_array_equal(image.array, exam.image.array)
        assert gaps(case) == missing <= set(case.label_table[0])
    splits: dict[str, set[str]] = {}
    for case in cases.values():
        splits.setdefault(case.patient, set()).add(case.split)
    assert all(len(result) == 1 for result in splits.values())


def test_a_round_trip_without_faults_is_imported_without_a_word(two: RoundTrip, tmp_path: Path) -> None:
    source, injected, exams = two
    assert injected == []
    done = one(source, tmp_path / "out")
    assert (done.warnings, done.refused) == ({}, {})
    first, second = done.dataset.cases()
    assert first.patient == second.patient == "S01"
    assert {first.scanner, second.scanner} == {"Avanto", "Ingenia"}
    assert first.geometry["axes"] == "RAS"
    for case, exam in zip((first, second), exams, strict=True):
        assert io.read_image(case.image).grid.same_as(exam.image.grid, tolerance=1e-2)
        np.testing.assert_array_equal(io.read_labels(case.labels).array, truth(exam))


def test_the_table_leaves_open_what_is_not_annotated() -> None:
    unannotated = set(khalil.LABEL_TABLE[0])
    assert {"canal", "sacrum", "arch", "background", "T12", "L6", "L5-S1"} <= unannotated
    assert not unannotated & {*mask_levels.COLUMN_STRUCTURES, "body", "disc"}
    assert [names[0] for value, names in khalil.LABEL_TABLE.items() if value] == [
        structure_by_name(name).name
        for name in sorted(mask_levels.COLUMN_STRUCTURES, key=lambda name: structure_by_name(name).label)
    ]
    assert kinds_from_names(khalil.LABEL_TABLE[0]) == set(Kind)


def test_shallower_and_deeper_folders_and_a_single_wrapping_one(source: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat" / "P1"
    shutil.copytree(labels_dir(source), flat / "masks")
    shutil.copy(source / "S01" / "Avanto" / "sagittal" / "T2_TSE.nii.gz", flat / "t2.nii.gz")
    (case,) = one(flat.parent, tmp_path / "a").dataset.cases()
    assert (case.name, case.patient, case.scanner) == ("P1_t2", "P1", "")
    wrapped = tmp_path / "download"
    shutil.copytree(source, wrapped / "Lumbar Spine")
    assert {case.patient for case in one(wrapped, tmp_path / "b").dataset.cases()} == {"S01"}


def test_a_wrong_folder_is_one_line(tmp_path: Path, source: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "T2.nii.gz").write_bytes(b"")
    for folder in (tmp_path / "x" / "y", tmp_path / "x"):
        with pytest.raises(DatasetError, match="not Al Khalil's layout"):
            khalil.list_cases(folder)
    shutil.copy(source / "S01" / "Avanto" / "sagittal" / "T2_TSE.nii.gz", source / "loose_T2.nii.gz")
    shutil.rmtree(labels_dir(source))
    result = khalil.list_cases(source)
    assert [raw.scanner for raw in result.cases] == ["Ingenia"]
    message = dict(result.refused)
    assert "no masks in a folder Labels or Masks" in message["S01_Avanto_sagittal_T2-TSE"]
    assert "in no folder of a patient" in message["loose-T2"]


def spoiled(source: Path, tmp_path: Path) -> tuple[str, DatasetResult]:
    done = one(source, tmp_path / "out")
    assert len(done.dataset.cases()) == 1
    (reason,) = done.refused.values()
    assert "\n" not in reason
    return reason, done


def test_a_mask_of_another_size_that_lies_elsewhere_is_refused(source: Path, tmp_path: Path) -> None:
    path = labels_dir(source) / "L3.nii.gz"
    mask = io.read_image(path)
    io.write_image(Volume(mask.array[:-2], np.diag([2.0, 2, 2, 1])), path)
    assert "L3.nii.gz: " in (reason := spoiled(source, tmp_path)[0]) and "give labels on its grid" in reason


def test_a_header_that_puts_a_mask_elsewhere_in_the_image_is_not_believed(source: Path, tmp_path: Path) -> None:
    path = labels_dir(source) / "L3.nii.gz"
    mask = io.read_image(path)
    high, low = (mask.grid.to_world(index) for index in (np.array(mask.array.shape) - 1, np.zeros(3)))
    reordered = np.diag([*(np.sign(high - low) * mask.grid.spacing), 1.0])  # other axes, about the same middle
    reordered[:3, 3] = (high + low) / 2 - reordered[:3, :3] @ (np.array(mask.array.shape) - 1) / 2
    io.write_image(Volume(mask.array.astype(np.uint8), reordered), path)
    done = one(source, tmp_path / "out")
    assert list(done.cases_by_fault()) == ["mask-header"]
    np.testing.assert_array_equal(io.read_labels(done.dataset.cases()[0].labels).array, truth(small_phantoms.exam(0)))


def test_a_finer_mask_is_brought_to_the_image_by_nearest_voxels(source: Path, tmp_path: Path) -> None:
    path = labels_dir(source) / "L3.nii.gz"
    mask = io.read_image(path)
    fine = mask.affine.copy()
    fine[:3, 3] = mask.grid.to_world(np.full(3, -1 / 3))
    fine[:3, :3] /= 3
    thrice = mask.array.astype(np.uint8).repeat(3, 0).repeat(3, 1).repeat(3, 2)
    io.write_image(Volume(thrice, fine), path)
    done = one(source, tmp_path / "out")
    assert list(done.cases_by_fault()) == ["mask-grid"]
    case = done.dataset.cases()[0]
    np.testing.assert_array_equal(io.read_labels(case.labels).array, truth(small_phantoms.exam(0)))


def test_one_structure_in_two_files_or_one_too_many_is_refused(source: Path, tmp_path: Path) -> None:
    shutil.copy(labels_dir(source) / "L3.nii.gz", labels_dir(source) / "L3_copy.nii.gz")
    assert "annotate the same structure" in spoiled(source, tmp_path)[0]


def test_unclear_levels_are_refused_unless_file_names_decide(source: Path, tmp_path: Path) -> None:
    for name in ("L1", "L1_L2"):
        (labels_dir(source) / f"{name}.nii.gz").unlink()
    by_name = one(source, tmp_path / "named")
    assert gaps(by_name.dataset.cases()[0]) == {"L1", "L1-L2"}
    for number, path in enumerate(sorted(labels_dir(source).iterdir())):
        path.rename(path.with_name(f"{number}.nii.gz"))
    assert "are not clear; name each file" in spoiled(source, tmp_path)[0]


def test_names_from_foot_to_head_are_refused(source: Path, tmp_path: Path) -> None:
    stems = [name.replace("-", "_") for name in mask_levels.COLUMN_STRUCTURES]
    for stem in stems:
        (labels_dir(source) / f"{stem}.nii.gz").rename(labels_dir(source) / f"{stem}.tmp")
    for stem, other in zip(stems, reversed(stems), strict=True):
        (labels_dir(source) / f"{stem}.tmp").rename(labels_dir(source) / f"{other}.nii.gz")
    assert "run from foot to head" in spoiled(source, tmp_path)[0]


def test_a_broken_mask_is_named(source: Path, tmp_path: Path) -> None:
    path = labels_dir(source) / "L4.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    reason = spoiled(source, tmp_path)[0]
    assert reason.startswith("S01/Avanto/Labels/L4.nii.gz: ")


@pytest.mark.parametrize(
    ("stem", "stated"),
    [
        ("L3", "L3"), ("s01_l3_l4", "L3-L4"), ("IVD-L3L4", "L3-L4"), ("disc_L34", "L3-L4"), ("mask_L5", "L5"),
        ("AL3", None), ("L1-L3", None), ("9", None), ("L3_disc", None), ("L5_S1", None), ("T12-L1", None),
        ("L10", None),
    ],
)  # fmt: skip
def test_structures_from_file_names(stem: str, stated: str | None) -> None:
    assert mask_levels.structure_from_file_name(stem) == stated
