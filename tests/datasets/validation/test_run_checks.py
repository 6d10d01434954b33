"""Every fault that is planted in a clean dataset is found by its name, and nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from lumbarseg import io
from lumbarseg.anatomy import STRUCTURES, arch_of_level, structure_by_name
from lumbarseg.datasets import Dataset, add_cases, create_dataset, write_case
from lumbarseg.datasets.dataset import file_checksum
from lumbarseg.datasets.validation import label_map as label_checks
from lumbarseg.datasets.validation.fingerprints import compute_fingerprint, find_duplicates
from lumbarseg.datasets.validation.run_checks import CheckReport, check_datasets
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .. import small_phantoms

TABLE = {0: ("background",), **{s.label: (s.name,) for s in STRUCTURES}}
Change = Callable[[Volume, Volume], tuple[Volume, Volume]]


@cache
def exam(number: int, sequence: str = "T2") -> tuple[Volume, Volume]:
    phantom = small_phantoms.exam(number, 5, sequence)
    return reorient(phantom.image, "RAS"), reorient(phantom.labels, "RAS")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "clean"
    create_dataset(folder, "clean", TABLE)
    for number in range(3):
        facts = {"patient": f"p{number}", "contrast": "T2", "split": "val" if number == 2 else "train"}
        write_case(folder, f"case-{number}", *exam(number), facts)
    return folder


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(clean, tmp_path / "set"))


def checked(*folders: Path) -> CheckReport:
    return check_datasets([Dataset.open(folder) for folder in folders], jobs=1)


def faults(*folders: Path) -> list[tuple[str, str, str]]:
    """Everything above a note."""
    result = checked(*folders).findings
    return [(f.case, f.check, f.severity) for f in result if f.severity != "note"]


def put(folder: Path, name: str, image: Volume, labels: Volume) -> None:
    """Other files for a case, as if they had been imported so."""
    case = next(case for case in Dataset.open(folder).cases() if case.name == name)
    io.write_image(image, case.image)
    io.write_labels(labels, case.labels)
    shape, spacing = image.array.shape, [round(s, 6) for s in image.grid.spacing]
    sums = {"image": file_checksum(case.image), "labels": file_checksum(case.labels)}
    add_cases(
        folder, [replace(case, checksums=sums, voxel_counts={}, geometry={"shape": list(shape), "spacing": spacing})]
    )


def relabelled(labels: Volume, of: dict[int, int]) -> Volume:
    lut = np.arange(256, dtype=np.uint8)
    lut[list(of)] = list(of.values())
    return Volume(lut[labels.array], labels.affine)


def swap(*names: tuple[str, str]) -> Change:
    pairs = [(structure_by_name(a).label, structure_by_name(b).label) for a, b in names]
    of = {x: y for a, b in pairs for x, y in ((a, b), (b, a))}
    return lambda image, labels: (image, relabelled(labels, of))


def without(*names: str) -> Change:
    return lambda image, labels: (image, relabelled(labels, {structure_by_name(name).label: 0 for name in names}))


def mirrored(axis: int) -> Change:
    return lambda image, labels: (
        Volume(np.flip(image.array, axis), image.affine),
        Volume(np.flip(labels.array, axis), labels.affine),
    )


def hollow(image: Volume, labels: Volume) -> tuple[Volume, Volume]:
    array = labels.array.copy()
    i, j, k = (int(np.median(axis)) for axis in np.nonzero(array == 3))
    array[i - 1 : i + 1, j - 2 : j + 2, k - 2 : k + 2] = 0
    return image, Volume(array, labels.affine)


def speckled(image: Volume, labels: Volume) -> tuple[Volume, Volume]:
    array = labels.array.copy()
    assert not array[4:6, -8:-5, 5:8].any()
    array[4:6, -8:-5, 5:8] = 2
    return image, Volume(array, labels.affine)


def in_two_places(image: Volume, labels: Volume) -> tuple[Volume, Volume]:
    """The left half of L4 is called L1."""
    array = labels.array.copy()
    half = array == 4
    half[int(np.median(np.nonzero(half)[0])) :] = False
    array[half] = 1
    return image, Volume(array, labels.affine)


def resized(image: Volume, labels: Volume) -> tuple[Volume, Volume]:
    factors = (1, 1.17, 1.23)
    affine = labels.affine @ np.diag([*(1 / f for f in factors), 1])
    grey = ndimage.zoom(labels.array.astype(np.float32), factors, order=1)
    return (
        Volume(ndimage.zoom(image.array.astype(np.float32), factors, order=1), affine),
        Volume(np.rint(grey).astype(np.uint8), affine),
    )


def unknown(image: Volume, labels: Volume) -> tuple[Volume, Volume]:
    return image, relabelled(labels, {structure_by_name("sacrum").label: 200})


def beside(image: Volume, labels: Volume) -> tuple[Volume, Volume]:
    affine = labels.affine.copy()
    affine[1, 3] += 4
    return image, Volume(labels.array, affine)


LEVELS = ("L1", "L2", "L3", "L4", "L5")
FOOT_TO_HEAD = swap(*((a, b) for a, b in zip(LEVELS[:2], LEVELS[:2:-1], strict=True)))


def skipped(image: Volume, labels: Volume) -> tuple[Volume, Volume]:
    """L1 is called T12: nothing is called L1."""
    _, labels = without("T12", "T12 arch", "T12-L1", "L1-L2", "T11", "T11 arch", "T11-T12")(image, labels)
    return swap(("T12", "L1"), ("T12 arch", "L1 arch"))(image, labels)


INJECTED: list[tuple[str, Change, str, str]] = [
    ("values", unknown, "values", "error"),
    ("empty", lambda image, labels: (image, Volume(labels.array * 0, labels.affine)), "empty", "error"),
    ("front is back", mirrored(1), "orientation", "error"),
    ("head is foot", mirrored(2), "orientation", "error"),
    ("two names swapped", swap(("L2", "L3"), ("L2 arch", "L3 arch")), "order", "error"),
    ("names from foot to head", FOOT_TO_HEAD, "order", "error"),
    ("levels left out at the top", without("T12", "T12 arch", "T12-L1", "L1-L2"), "", ""),
    ("a level not drawn", without("L3", arch_of_level("L3").name), "gap", "warning"),
    ("a name left out", skipped, "gap", "error"),
    ("one name in two places", in_two_places, "split", "error"),
    ("hole", hollow, "holes", "warning"),
    ("speck", speckled, "specks", "warning"),
    ("resized as if grey", resized, "interpolated", "error"),
    ("labels beside the image", beside, "geometry", "error"),
]


def test_a_clean_set_has_nothing_but_notes(clean: Path) -> None:
    result = checked(clean)
    assert [f for f in result.findings if f.severity != "note"] == []
    sides = [f for f in result.findings if "left and right" in f.text]
    assert len(sides) == 1 and sides[0].case == ""
    assert all({"L1", "L5", "L4-L5", "canal", "body"} <= report.annotated for report in result.cases)


@pytest.mark.parametrize(("change", "word", "severity"), [p[1:] for p in INJECTED], ids=[p[0] for p in INJECTED])
def test_an_injected_fault_is_reported_and_nothing_else(folder: Path, change: Change, word: str, severity: str) -> None:
    put(folder, "case-1", *change(*exam(1)))
    assert faults(folder) == ([("case-1", word, severity)] if word else [])


def test_a_disc_that_is_not_between_its_vertebrae(folder: Path) -> None:
    put(folder, "case-1", *swap(("L1-L2", "T12-L1"))(*without("T12-L1")(*exam(1))))
    assert faults(folder) == [("case-1", "order", "error")]


def test_a_level_stated_as_unannotated_is_no_gap(folder: Path) -> None:
    put(folder, "case-1", *without("L3", "L3 arch")(*exam(1)))
    case = Dataset.open(folder).cases()[1]
    add_cases(folder, [replace(case, label_table={**TABLE, 0: ("background", "L3", "L3 arch")})])
    assert faults(folder) == []


def test_a_file_that_changed(folder: Path) -> None:
    case = Dataset.open(folder).cases()[0]
    io.write_labels(io.read_labels(case.labels), case.labels)  # the same voxels without the names
    assert faults(folder) == [("case-0", "checksum", "error")]


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    case = Dataset.open(folder).cases()[0]
    case.image.write_bytes(case.image.read_bytes()[:2000])
    assert faults(folder) == [("case-0", "checksum", "error"), ("case-0", "file", "error")]


def test_grey_values_in_labels(folder: Path) -> None:
    case = Dataset.open(folder).cases()[0]
    labels = io.read_labels(case.labels)
    io.write_image(Volume(labels.array * np.float32(0.7), labels.affine), case.labels)
    add_cases(folder, [replace(case, checksums={**case.checksums, "labels": file_checksum(case.labels)})])
    assert faults(folder) == [("case-0", "file", "error")]
    assert "grey values" in checked(folder).findings_of("case-0")[0].text


@pytest.mark.parametrize(("shown", "stated"), [("T1", "T2 TSE"), ("T2", "T1w"), ("STIR", "T1"), ("T1", "tirm")])
def test_a_contrast_that_the_picture_denies(folder: Path, shown: str, stated: str) -> None:
    write_case(folder, "other", *exam(3, shown), {"contrast": stated})
    assert faults(folder) == [("other", "contrast", "warning")]


@pytest.mark.parametrize("shown", ["T1", "T2", "STIR", "SPACE"])
def test_a_contrast_that_fits(folder: Path, shown: str) -> None:
    write_case(folder, "other", *exam(5, shown), {"contrast": shown})
    write_case(folder, "unsaid", *exam(6, shown), {"contrast": "GRE"})
    assert faults(folder) == []


def as_floats(image: Volume) -> Volume:
    return Volume(image.array.astype(np.float32) * np.float32(0.25) + 5, image.affine)


def in_8_bits(image: Volume) -> Volume:
    array = image.array.astype(np.float32)
    return Volume(np.rint(array / array.max() * 255).astype(np.float32), image.affine)


def cropped(image: Volume) -> Volume:
    depth, height = image.array.shape[1:]
    return Volume(image.array[1:-1, depth // 8 : -depth // 6, height // 5 : -height // 7], image.affine)


def turned_over(image: Volume) -> Volume:
    return Volume(image.array[::-1, ::-1], image.affine)


@pytest.mark.parametrize("repeated", [as_floats, in_8_bits, cropped, turned_over])
def test_an_exam_saved_again_is_the_same_exam(folder: Path, repeated: Callable[[Volume], Volume]) -> None:
    image = repeated(exam(0)[0])
    labels = Volume(np.zeros(image.array.shape, np.uint8), image.affine)
    write_case(folder, "again", image, labels, {"patient": "p0"})
    assert ("again", "duplicate", "warning") in faults(folder) and ("again", "leak", "error") not in faults(folder)


def test_an_exam_of_another_split_saved_again_is_a_leak(folder: Path) -> None:
    image, labels = exam(2)
    write_case(folder, "again", as_floats(image), labels, {"patient": "somebody", "split": "train"})
    assert faults(folder) == [("again", "leak", "error")]


@settings(max_examples=15, deadline=None)
@given(
    st.permutations((0, 1, 2)),
    st.tuples(*[st.booleans()] * 3),
    st.floats(0.01, 50),
    st.sampled_from([np.int16, np.float32, np.float64]),
)
def test_axes_scale_and_number_type_do_not_hide_an_exam(
    order: list[int], flips: tuple[bool, ...], scale: float, dtype: type
) -> None:
    image = exam(0)[0]
    letters = ("RL", "AP", "SI")
    axes = "".join(letters[axis][int(flip)] for axis, flip in zip(order, flips, strict=True))
    stored = reorient(image, axes)
    array = (stored.array * (1 if dtype is np.int16 else scale)).astype(dtype)
    repeated = reorient(Volume(array, stored.affine), "RAS")
    result = find_duplicates(
        [compute_fingerprint(image), compute_fingerprint(exam(1)[0]), compute_fingerprint(repeated)]
    )
    assert [(duplicate.first, duplicate.second) for duplicate in result] == [(0, 2)]
    assert result[0].description == "the same voxels"


def test_a_patient_in_two_splits(folder: Path) -> None:
    case = Dataset.open(folder).cases()[2]
    add_cases(folder, [replace(case, patient="p0")])
    assert faults(folder) == [("case-0", "leak", "error")]


def test_leaks_between_datasets(folder: Path, tmp_path: Path) -> None:
    create_dataset(tmp_path / "other", "other", TABLE)
    write_case(tmp_path / "other", "x", *exam(0), {"patient": "someone", "split": "test"})
    assert faults(folder, tmp_path / "other") == [("set/case-0", "leak", "error")]
    separate = faults(tmp_path / "other")
    assert separate == []


def test_a_patient_of_one_source_in_two_datasets(folder: Path, tmp_path: Path) -> None:
    case = Dataset.open(folder).cases()[0]
    add_cases(folder, [replace(case, patient="007", source="A study")])
    for name, source in (("same", "A study"), ("another", "B study")):
        create_dataset(tmp_path / name, name, TABLE)
        write_case(tmp_path / name, "x", *exam(4), {"patient": "7", "split": "test", "source": source})
    assert faults(folder, tmp_path / "another") == []
    assert faults(folder, tmp_path / "same") == [("set/case-0", "leak", "warning")]


def test_processes_find_the_same(folder: Path) -> None:
    put(folder, "case-1", *speckled(*exam(1)))
    steps: list[tuple[str, int]] = []
    result = check_datasets(
        [Dataset.open(folder)], jobs=2, on_case_done=lambda name, total: steps.append((name, total))
    )
    assert result.findings == checked(folder).findings
    assert steps == [(f"case-{i}", 3) for i in range(3)]


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no case"):
        check_datasets([create_dataset(tmp_path / "none", "none", TABLE)])


@pytest.mark.parametrize("seed", range(5))
def test_interpolation_is_detected_with_any_numbers(seed: int) -> None:
    labels = exam(1)[1]
    assert label_checks.interpolated_fraction(labels.array) < 0.05
    rng = np.random.default_rng(seed)
    lut = np.r_[0, rng.permutation(np.arange(1, 256))].astype(np.uint8)
    assert label_checks.interpolated_fraction(lut[labels.array]) < 0.05
    assert label_checks.interpolated_fraction(resized(*exam(1))[1].array) > 0.2


def test_checking_changes_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    checked(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_labels_are_left_alone() -> None:
    image, labels = exam(0)
    for volume in (image, labels):
        array: Array = volume.array
        array.flags.writeable = False
    assert label_checks.interpolated_fraction(labels.array) >= 0
    assert compute_fingerprint(image).thumbnail.size
