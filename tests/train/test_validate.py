from __future__ import annotations

import numpy as np
import pytest
import torch
from tests import sets
from torch import Tensor, nn

from lumbarseg.prepare import Spec
from lumbarseg.train.stacks import Codes, Stack
from lumbarseg.train.validate import thick, validate
from lumbarseg.volume import Array

CODES = Codes.of([sets.TABLE, sets.WHOLE])
TABLE, WHOLE = CODES.lookup(sets.TABLE), CODES.lookup(sets.WHOLE)
BODY, DISC, ARCH = 1, 2, 5


class Reader(nn.Module):
    """Finds in each pixel the class that its brightness says: class k is the byte 17 k."""

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.arange(6) * 0.1)

    def forward(self, images: Tensor) -> Tensor:
        return -((images[:, 2:3] - self.places[:, None, None]) ** 2)


def stack(classes: list[list[int]], codes: Array, group: int = 0) -> Stack:
    """An exam of one row per slice, in which the classes are found and the codes were drawn."""
    image = np.array(classes, np.uint8)[:, None] * 17
    return Stack("s", group, image, np.array(codes, np.uint8)[:, None], 4.0, np.array([[0, 0]]))


def scores(*stacks: Stack) -> dict[str, tuple[float, float]]:
    results = validate(Reader(), stacks, CODES, Spec(), "float32")
    return {result.name: (result.dice, result.ratio) for result in results}


def test_no_exam_gives_no_score() -> None:
    assert validate(Reader(), [], CODES, Spec(), "float32") == []


def test_scores_by_hand() -> None:
    exam = stack([[0, BODY, BODY, DISC], [BODY, BODY, 0, DISC]], TABLE[[[0, BODY, BODY, DISC], [0, BODY, BODY, BODY]]])
    found = scores(exam)
    assert set(found) == {"body", "disc"}
    assert found["body"] == pytest.approx((2 * 3 / (4 + 5), 4 / 5))
    assert found["disc"] == pytest.approx((2 / (2 + 1), 2))


def test_a_set_is_hit_by_any_of_its_classes_and_the_undrawn_does_not_count() -> None:
    found = scores(stack([[BODY, ARCH, 0, DISC]], WHOLE[[[1, 1, 1, 9]]]))
    assert found == {"body+arch": pytest.approx((2 * 2 / (2 + 3), 2 / 3))}


def test_dice_is_a_mean_over_exams_and_the_ratio_over_all_voxels() -> None:
    good = stack([[BODY, BODY, 0, 0]], TABLE[[[BODY, BODY, 0, 0]]])
    missed = stack([[0, 0, 0, 0]], TABLE[[[BODY, BODY, 0, 0]]])
    without = stack([[0, 0, 0, 0]], TABLE[[[0, 0, 0, 0]]])
    assert scores(good, missed, without) == {"body": pytest.approx((0.5, 0.5))}


def test_thin_slices_are_seen_as_slabs() -> None:
    image = np.arange(9, dtype=np.uint8)[:, None, None] * 17
    thin = Stack("s", 0, image, np.ones_like(image), 1.0, np.zeros((1, 2)))
    array, codes = thick(thin)
    assert array.shape == codes.shape == (2, 1, 1)
    np.testing.assert_allclose(array.ravel(), [0.15, 0.55], rtol=1e-5)
