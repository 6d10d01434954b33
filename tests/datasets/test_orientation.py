"""Which way axes point is told from the anatomy, whatever the header says, and nothing is claimed without evidence."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lumbarseg import io
from lumbarseg.anatomy import STRUCTURES, Kind
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.orientation import OrientationEstimate, estimate_orientation
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .small_phantoms import exam

COMPLETE = (Kind.BODY.value, Kind.ARCH.value)
NAMED_FILES: LabelTable = {0: ("background",), **{s.label: (s.name,) for s in STRUCTURES}}
TAG: LabelTable = {0: ("background",), 1: ("body",)}
TISSUES: LabelTable = {0: ("background", "sacrum"), 1: COMPLETE, 2: ("disc",), 3: ("canal",)}
FLIPS = [(1, 1), (-1, 1), (1, -1), (-1, -1)]
SEQUENCES = ("T2", "T1", "STIR", "GRE", "SPACE")


@cache
def phantom(sequence: str, number: int = 0) -> tuple[Volume, Volume]:
    one = exam(number, seed=8, sequence=sequence, bodies=6)
    return reorient(one.image, "RAS"), reorient(one.labels, "RAS")


def estimate(image: Volume, labels: Volume, table: LabelTable, flips: tuple[int, int]) -> OrientationEstimate:
    """The judgement of an exam whose header reverses the axes that are -1 in `flips`."""
    affine = np.diag([1.0, *flips, 1.0]) @ labels.affine
    return estimate_orientation(Volume(image.array, affine), Volume(labels.array, affine), table)


def single(labels: Volume, *kinds: Kind) -> Volume:
    keep = [s.label for s in STRUCTURES if s.kind in kinds]
    return Volume(np.where(np.isin(labels.array, keep), labels.array, 0).astype(np.uint8), labels.affine)


def tissues(labels: Volume) -> Volume:
    """Values of `TISSUES`."""
    value = {Kind.BODY: 1, Kind.ARCH: 1, Kind.DISC: 2, Kind.CANAL: 3}
    lookup = np.zeros(256, np.uint8)
    for structure in STRUCTURES:
        lookup[structure.label] = value.get(structure.kind, 0)
    return Volume(lookup[labels.array], labels.affine)


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_labels_of_everything_are_certain(sequence: str, flips: tuple[int, int]) -> None:
    image, labels = phantom(sequence)
    result = estimate(image, labels, NAMED_FILES, flips)
    assert (result.anterior_posterior, result.superior_inferior) == flips


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_the_canal_shows_the_front_of_vertebrae_without_names(sequence: str, flips: tuple[int, int]) -> None:
    image, labels = phantom(sequence)
    result = estimate(image, tissues(labels), TISSUES, flips)
    assert result.anterior_posterior == flips[0] and result.superior_inferior in (0, flips[1])
    middle = len(labels.array) // 2
    slab = [Volume(v.array[middle - 1 : middle + 2], v.affine) for v in (image, tissues(labels))]
    assert estimate(slab[0], slab[1], TISSUES, flips).anterior_posterior == flips[0]


@pytest.mark.parametrize("kind", [Kind.BODY, Kind.DISC])
def test_shapes_alone_are_mostly_right_and_hardly_ever_wrong(kind: Kind) -> None:
    verdicts = []
    for number in range(3):
        for sequence in SEQUENCES:
            image, labels = phantom(sequence, number)
            result = estimate(image, single(labels, kind), NAMED_FILES, (-1, 1))
            assert result.superior_inferior == 1  # by their names
            verdicts.append(-result.anterior_posterior)
    assert sum(verdict > 0 for verdict in verdicts) > 0.8 * len(verdicts)
    assert sum(verdict < 0 for verdict in verdicts) <= 1


def test_a_reversed_header_gives_the_opposite_evidence() -> None:
    image, labels = phantom("T2")
    tag = Volume((single(labels, Kind.BODY).array > 0).astype(np.uint8), labels.affine)
    one, other = (estimate(image, tag, TAG, flips) for flips in ((1, 1), (-1, -1)))
    assert (one.anterior_posterior, one.superior_inferior) == (-other.anterior_posterior, -other.superior_inferior)
    assert len(one.reasons) == len(other.reasons) >= 4


def test_grey_values_alone_decide_little_and_never_wrongly() -> None:
    verdicts = []
    for number in range(6):
        image, labels = phantom("T2", number)
        column = np.zeros_like(labels.array)
        i, j, k = (size // 2 for size in labels.array.shape)
        column[i - 1 : i + 2, j - 10 : j + 10, 20 : 2 * k - 20] = 1
        verdicts.append(estimate(image, Volume(column, labels.affine), TAG, (1, 1)).anterior_posterior)
    assert min(verdicts) == 0 and sum(verdicts) <= 1


@pytest.mark.parametrize("annotated", [0, 3])
def test_nothing_is_claimed_without_labels(annotated: int) -> None:
    array = np.zeros((5, 30, 40), np.uint8)
    array[2, 10:13, 10:13] = annotated
    result = estimate_orientation(Volume(array.astype(np.float32), np.eye(4)), Volume(array, np.eye(4)), TISSUES)
    assert (result.anterior_posterior, result.superior_inferior) == (0, 0) and "labelled" in result.reasons[0]


@pytest.mark.parametrize("name", ["siegen", "myosegmentum", "discs", "spider_space/test"])
def test_orientation_of_real_exams(real: Path, name: str) -> None:
    table = TISSUES if name.startswith("spider") else {**NAMED_FILES, 30: ("sacrum",)}
    for path in sorted((real / name).glob("*_image.nii.gz"))[:6]:
        image, labels = io.read_image(path), io.read_labels(path.with_name(path.name.replace("image", "labels")))
        for flips in FLIPS[1:3]:
            result = estimate(image, labels, table, flips)
            assert result.anterior_posterior == flips[0], path.name
            assert result.superior_inferior in ((0, flips[1]) if name.startswith("spider") else (flips[1],)), path.name
