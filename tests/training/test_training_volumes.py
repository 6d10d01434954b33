from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests import sets

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.datasets import read_case
from lumbarseg.preprocessing import PreprocessingSpec, preprocess
from lumbarseg.training.training_volumes import (
    BYTES_PER_INTENSITY,
    PartialLabelCodec,
    TrainingVolume,
    extract_slab_codes,
    extract_slabs,
    load_volumes,
    majority_vote,
    resample_labels_nearest,
)
from lumbarseg.volume import Volume


def ramp_volume(slices: int, thickness: float = 1.0) -> TrainingVolume:
    """A volume whose slice k has intensity 10 k, and the code k // 2."""
    ramp = np.arange(slices, dtype=np.uint8)[:, None, None]
    image = np.broadcast_to(10 * ramp, (slices, 4, 4)).copy()
    return TrainingVolume("s", 0, image, np.broadcast_to(ramp // 2, image.shape).copy(), thickness, np.array([[2, 2]]))


def around(number: int) -> np.ndarray:
    """A slab and its two neighbours on either side."""
    return np.arange(number - 2, number + 3)


def test_the_first_code_is_unknown_and_tables_share_codes() -> None:
    codes = PartialLabelCodec.from_tables([sets.TABLE, sets.COMPLETE_VERTEBRAE])
    assert codes.allowed_sets[0] == frozenset(CLASSES)
    assert len(set(codes.allowed_sets)) == len(codes.allowed_sets) == 1 + 6 + 2
    assert codes.lookup_table(sets.COMPLETE_VERTEBRAE)[9] == 0
    assert codes.lookup_table(sets.COMPLETE_VERTEBRAE)[2] == codes.lookup_table(sets.TABLE)[2]
    assert codes.allowed_sets[codes.lookup_table(sets.COMPLETE_VERTEBRAE)[1]] == {Kind.BODY, Kind.ARCH}
    assert codes.allowed.shape == (9, 6)
    assert codes.allowed[0].all()


def test_codes_do_not_depend_on_the_order_of_tables() -> None:
    assert PartialLabelCodec.from_tables([sets.TABLE, sets.COMPLETE_VERTEBRAE]) == PartialLabelCodec.from_tables(
        [sets.COMPLETE_VERTEBRAE, sets.TABLE, sets.TABLE]
    )


def test_the_majority_of_slices_wins_and_ties_go_to_the_lower_code() -> None:
    columns = np.array([[1, 1, 2], [2, 1, 1], [0, 0, 3], [3, 3, 3], [5, 4, 4]]).T[:, None]
    assert majority_vote(columns).tolist() == [[1, 1, 0, 3, 4]]
    assert majority_vote(np.array([2, 1, 1, 2])[:, None, None]).tolist() == [[1]]


@given(st.integers(1, 9), st.integers(0, 50))
def test_the_majority_is_that_of_counting(count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 5, (count, 3, 4)).astype(np.uint8)
    expected = np.apply_along_axis(lambda column: np.bincount(column).argmax(), 0, codes)
    np.testing.assert_array_equal(majority_vote(codes), expected)


def test_single_slices_have_their_neighbours_and_the_border_repeated() -> None:
    volume = ramp_volume(6)
    assert [extract_slabs(volume, 1, 0, around(i), np.ones(1, np.float32))[:, 0, 0].tolist() for i in (0, 3, 5)] == [
        [0, 0, 0, 10, 20],
        [10, 20, 30, 40, 50],
        [30, 40, 50, 50, 50],
    ]
    assert [extract_slab_codes(volume, 1, 0, i)[0, 0] for i in (0, 3, 5, 6, -1)] == [0, 1, 2, 0, 0]


def test_slabs_are_means_of_their_slices() -> None:
    box = np.full(2, 0.5, np.float32)
    volume = ramp_volume(8)
    np.testing.assert_allclose(extract_slabs(volume, 2, 0, around(1), box)[:, 0, 0], [5, 5, 25, 45, 65])
    assert extract_slab_codes(volume, 2, 0, 1)[0, 0] == 1
    slabs = extract_slabs(volume, 2, 1, around(2), box)  # slices 1-2, 3-4, 5-6
    np.testing.assert_allclose(slabs[:, 0, 0], [15, 35, 55, 55, 55])
    assert extract_slab_codes(volume, 2, 1, 2)[0, 0] == 2


def test_a_wider_kernel_reaches_into_the_neighbours() -> None:
    triangle = np.array([1, 2, 3, 2, 1], np.float32) / 9
    image = extract_slabs(ramp_volume(9), 3, 0, around(1), triangle)
    np.testing.assert_allclose(image[2], 40, atol=1e-4)
    np.testing.assert_allclose(image[1], 100 / 9, rtol=1e-5)  # beyond the exam its first slice again


def test_datasets_are_read_as_the_network_sees_them(tmp_path: Path) -> None:
    dataset = sets.write(tmp_path / "a", train=2, val=1)
    other = sets.write(tmp_path / "b", train=1, val=1, table=sets.COMPLETE_VERTEBRAE)
    codes = PartialLabelCodec.from_tables([dataset.label_table, other.label_table])
    volumes = load_volumes([dataset, other], "train", codes, PreprocessingSpec())
    assert [(s.name, s.dataset_index) for s in volumes] == [("case-0", 0), ("case-1", 0), ("case-0", 1)]
    image, labels = read_case(dataset.cases()[0])
    first = volumes[0]
    assert first.image.dtype == first.codes.dtype == np.uint8
    assert first.slice_thickness == 4.0
    np.testing.assert_array_equal(first.codes, codes.lookup_table(dataset.label_table)[labels.array])
    np.testing.assert_allclose(
        first.image, BYTES_PER_INTENSITY * preprocess(image, PreprocessingSpec()).array, atol=0.51
    )
    structure = labels.array[0][tuple(first.spine_pixels.T)]
    assert (structure > 0).all()


def test_labels_come_to_the_network_grid_by_the_nearest_voxel() -> None:
    _, labels = sets.exam(3)
    fine = Volume(labels.array.repeat(2, 1).repeat(2, 2), labels.affine @ np.diag([1, 0.5, 0.5, 1]))
    np.testing.assert_array_equal(resample_labels_nearest(fine, PreprocessingSpec()), labels.array)
