from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.train.losses import Sets, cross_entropy, loss, set_dice

BACKGROUND, BODY, DISC, CANAL, SACRUM, ARCH = range(6)
UNKNOWN, NOTHING, A_BODY, WHOLE, NO_DISC, A_DISC = range(6)  # codes of the table below
ALLOWED = torch.zeros(6, 6, dtype=torch.bool)
for row, classes in enumerate(
    (range(6), [BACKGROUND], [BODY], [BODY, ARCH], [BACKGROUND, DISC], [DISC]),
):
    ALLOWED[row, list(classes)] = True
SETS = Sets.of(ALLOWED)
SMOOTH = 10.0


def sure(classes: list[int]) -> torch.Tensor:
    """Logits (1, 6, 1, n) that leave no doubt about the class of each voxel."""
    return 100 * torch.nn.functional.one_hot(torch.tensor(classes), 6).float().T[None, :, None]


def codes(*values: int) -> torch.Tensor:
    return torch.tensor(values)[None, None]


def drawn(seed: int, size: int = 40, values: tuple[int, ...] = tuple(range(6))) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits (2, 6, 1, size) and codes."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 6, 1, size, generator=generator, dtype=torch.float64)
    return logits, torch.tensor(values)[torch.randint(len(values), (2, 1, size), generator=generator)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [(NOTHING, math.log(6)), (A_BODY, math.log(6)), (WHOLE, math.log(3)), (NO_DISC, math.log(3)), (UNKNOWN, 0.0)],
)
def test_where_all_classes_are_equally_likely_a_set_costs_the_logarithm_of_its_share(
    code: int, expected: float
) -> None:
    assert cross_entropy(torch.zeros(1, 6, 1, 1), codes(code), SETS).item() == pytest.approx(expected)


def test_unknown_voxels_do_not_dilute_the_mean() -> None:
    some = cross_entropy(torch.zeros(1, 6, 1, 5), codes(A_BODY, WHOLE, UNKNOWN, UNKNOWN, UNKNOWN), SETS)
    assert some.item() == pytest.approx((math.log(6) + math.log(3)) / 2)


def test_dice_by_hand() -> None:
    # three voxels of body drawn; two found, and one more where nothing is
    value = set_dice(sure([BODY, BODY, BACKGROUND, BODY]), codes(A_BODY, A_BODY, A_BODY, NOTHING), SETS)
    assert value.item() == pytest.approx(1 - (2 * 2 + SMOOTH) / (3 + 3 + SMOOTH))


def test_dice_of_a_set_counts_any_of_its_classes() -> None:
    whole = codes(WHOLE, WHOLE, WHOLE, NOTHING)
    assert set_dice(sure([BODY, ARCH, BODY, BACKGROUND]), whole, SETS).item() == pytest.approx(0, abs=1e-6)
    missed = set_dice(sure([BODY, ARCH, DISC, BACKGROUND]), whole, SETS)
    assert missed.item() == pytest.approx(1 - (2 * 2 + SMOOTH) / (2 + 3 + SMOOTH))


def test_dice_leaves_out_voxels_that_may_or_may_not_belong() -> None:
    # a disc found where the source drew no discs, or an unknown voxel, is no mistake; one in a body is
    some = set_dice(sure([DISC, DISC, DISC]), codes(A_DISC, NO_DISC, UNKNOWN), SETS)
    assert some.item() == pytest.approx(0, abs=1e-6)
    value = set_dice(sure([DISC, BODY, DISC]), codes(A_DISC, A_BODY, A_BODY), SETS)
    disc = 1 - (2 + SMOOTH) / (2 + 1 + SMOOTH)
    body = 1 - (2 + SMOOTH) / (1 + 2 + SMOOTH)
    assert value.item() == pytest.approx((disc + body) / 2)


def test_only_drawn_sets_without_background_are_scored() -> None:
    assert SETS.scored.tolist() == [False, False, True, True, False, True]
    assert set_dice(sure([BODY, DISC]), codes(NOTHING, NO_DISC), SETS).item() == 0


@given(st.integers(0, 500))
def test_an_exam_without_disc_annotation_has_no_opinion_on_disc_against_background(seed: int) -> None:
    logits, found = drawn(seed, values=(UNKNOWN, A_BODY, NO_DISC, NO_DISC))
    logits.requires_grad_()
    value = loss(logits, found, SETS, 0.5)
    (gradient,) = torch.autograd.grad(value, logits)
    share = logits.detach().softmax(1)
    # moving probability from one to the other, keeping their sum
    slope = gradient[:, DISC] / share[:, DISC] - gradient[:, BACKGROUND] / share[:, BACKGROUND]
    assert slope[found == NO_DISC].abs().max() < 1e-10
    swapped = logits.detach().clone()
    swapped[:, [DISC, BACKGROUND]] = swapped[:, [BACKGROUND, DISC]]
    where = (found == NO_DISC)[:, None]
    same = loss(torch.where(where, swapped, logits.detach()), found, SETS, 0.5)
    assert same.item() == pytest.approx(value.item(), abs=1e-12)


@given(st.integers(0, 500))
def test_an_annotated_disc_has_one(seed: int) -> None:
    logits, found = drawn(seed, values=(A_DISC, NOTHING))
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, found, SETS, 0.5), logits)
    disc, nothing = gradient.movedim(1, -1)[found == A_DISC], gradient.movedim(1, -1)[found == NOTHING]
    assert (disc[:, DISC] < 0).all()
    assert (disc[:, BACKGROUND] > 0).all()
    assert (nothing[:, BACKGROUND] < 0).all()


@given(st.integers(0, 500))
def test_unknown_voxels_have_no_gradient_at_all(seed: int) -> None:
    logits, found = drawn(seed)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, found, SETS, 0.5), logits)
    rows = gradient.movedim(1, -1)
    assert (rows[found == UNKNOWN] == 0).all()
    assert rows[found == A_BODY].abs().max() > 0
    assert torch.isfinite(gradient).all()


def test_a_batch_of_which_nothing_is_known_costs_nothing() -> None:
    logits = torch.randn(2, 6, 4, 4, requires_grad=True)
    value = loss(logits, torch.zeros(2, 4, 4, dtype=torch.long), SETS, 0.5)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_the_right_answer_costs_nothing() -> None:
    found = codes(NOTHING, A_BODY, WHOLE, NO_DISC, A_DISC)
    assert loss(sure([BACKGROUND, BODY, ARCH, DISC, DISC]), found, SETS, 0.5).item() < 1e-5
