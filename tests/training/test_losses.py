from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.training.losses import LabelSets, marginal_cross_entropy, segmentation_loss, set_dice_loss

BACKGROUND, BODY, DISC, CANAL, SACRUM, ARCH = range(6)
UNKNOWN, NOTHING, A_BODY, VERTEBRA, NO_DISC, A_DISC = range(6)  # codes of the table below
ALLOWED = torch.zeros(6, 6, dtype=torch.bool)
for row, classes in enumerate(
    (range(6), [BACKGROUND], [BODY], [BODY, ARCH], [BACKGROUND, DISC], [DISC]),
):
    ALLOWED[row, list(classes)] = True
SETS = LabelSets.from_allowed(ALLOWED)
SMOOTH = 10.0


def sure(classes: list[int]) -> torch.Tensor:
    """Logits (1, 6, 1, n) that are certain of the class of each voxel."""
    return 100 * torch.nn.functional.one_hot(torch.tensor(classes), 6).float().T[None, :, None]


def codes(*values: int) -> torch.Tensor:
    return torch.tensor(values)[None, None]


def random_case(
    seed: int, size: int = 40, values: tuple[int, ...] = tuple(range(6))
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits (2, 6, 1, size) and codes."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 6, 1, size, generator=generator, dtype=torch.float64)
    return logits, torch.tensor(values)[torch.randint(len(values), (2, 1, size), generator=generator)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [(NOTHING, math.log(6)), (A_BODY, math.log(6)), (VERTEBRA, math.log(3)), (NO_DISC, math.log(3)), (UNKNOWN, 0.0)],
)
def test_where_all_classes_are_equally_likely_a_set_costs_the_logarithm_of_its_share(
    code: int, expected: float
) -> None:
    assert marginal_cross_entropy(torch.zeros(1, 6, 1, 1), codes(code), SETS).item() == pytest.approx(expected)


def test_unknown_voxels_do_not_dilute_the_mean() -> None:
    some = marginal_cross_entropy(torch.zeros(1, 6, 1, 5), codes(A_BODY, VERTEBRA, UNKNOWN, UNKNOWN, UNKNOWN), SETS)
    assert some.item() == pytest.approx((math.log(6) + math.log(3)) / 2)


def test_dice_by_hand() -> None:
    # three voxels of body; two predicted, and one more where nothing is
    value = set_dice_loss(sure([BODY, BODY, BACKGROUND, BODY]), codes(A_BODY, A_BODY, A_BODY, NOTHING), SETS)
    assert value.item() == pytest.approx(1 - (2 * 2 + SMOOTH) / (3 + 3 + SMOOTH))


def test_dice_of_a_set_counts_any_of_its_classes() -> None:
    vertebrae = codes(VERTEBRA, VERTEBRA, VERTEBRA, NOTHING)
    assert set_dice_loss(sure([BODY, ARCH, BODY, BACKGROUND]), vertebrae, SETS).item() == pytest.approx(0, abs=1e-6)
    missed = set_dice_loss(sure([BODY, ARCH, DISC, BACKGROUND]), vertebrae, SETS)
    assert missed.item() == pytest.approx(1 - (2 * 2 + SMOOTH) / (2 + 3 + SMOOTH))


def test_dice_leaves_out_voxels_that_may_or_may_not_belong() -> None:
    # a disc predicted where discs are not annotated, or in an unknown voxel, is no error; one in a body is
    some = set_dice_loss(sure([DISC, DISC, DISC]), codes(A_DISC, NO_DISC, UNKNOWN), SETS)
    assert some.item() == pytest.approx(0, abs=1e-6)
    value = set_dice_loss(sure([DISC, BODY, DISC]), codes(A_DISC, A_BODY, A_BODY), SETS)
    disc = 1 - (2 + SMOOTH) / (2 + 1 + SMOOTH)
    body = 1 - (2 + SMOOTH) / (1 + 2 + SMOOTH)
    assert value.item() == pytest.approx((disc + body) / 2)


def test_only_annotated_sets_without_background_have_a_dice() -> None:
    assert SETS.dice_scored.tolist() == [False, False, True, True, False, True]
    assert set_dice_loss(sure([BODY, DISC]), codes(NOTHING, NO_DISC), SETS).item() == 0


@given(st.integers(0, 500))
def test_without_disc_annotation_disc_against_background_has_no_gradient(seed: int) -> None:
    logits, labels = random_case(seed, values=(UNKNOWN, A_BODY, NO_DISC, NO_DISC))
    logits.requires_grad_()
    value = segmentation_loss(logits, labels, SETS, 0.5)
    (gradient,) = torch.autograd.grad(value, logits)
    share = logits.detach().softmax(1)
    # moving probability from one to the other, keeping their sum
    slope = gradient[:, DISC] / share[:, DISC] - gradient[:, BACKGROUND] / share[:, BACKGROUND]
    assert slope[labels == NO_DISC].abs().max() < 1e-10
    swapped = logits.detach().clone()
    swapped[:, [DISC, BACKGROUND]] = swapped[:, [BACKGROUND, DISC]]
    either = (labels == NO_DISC)[:, None]
    same = segmentation_loss(torch.where(either, swapped, logits.detach()), labels, SETS, 0.5)
    assert same.item() == pytest.approx(value.item(), abs=1e-12)


@given(st.integers(0, 500))
def test_an_annotated_disc_has_a_gradient(seed: int) -> None:
    logits, labels = random_case(seed, values=(A_DISC, NOTHING))
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(segmentation_loss(logits, labels, SETS, 0.5), logits)
    disc, nothing = gradient.movedim(1, -1)[labels == A_DISC], gradient.movedim(1, -1)[labels == NOTHING]
    assert (disc[:, DISC] < 0).all()
    assert (disc[:, BACKGROUND] > 0).all()
    assert (nothing[:, BACKGROUND] < 0).all()


@given(st.integers(0, 500))
def test_unknown_voxels_have_no_gradient_at_all(seed: int) -> None:
    logits, labels = random_case(seed)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(segmentation_loss(logits, labels, SETS, 0.5), logits)
    rows = gradient.movedim(1, -1)
    assert (rows[labels == UNKNOWN] == 0).all()
    assert rows[labels == A_BODY].abs().max() > 0
    assert torch.isfinite(gradient).all()


def test_a_batch_of_which_nothing_is_known_costs_nothing() -> None:
    logits = torch.randn(2, 6, 4, 4, requires_grad=True)
    value = segmentation_loss(logits, torch.zeros(2, 4, 4, dtype=torch.long), SETS, 0.5)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_a_right_prediction_has_no_loss() -> None:
    labels = codes(NOTHING, A_BODY, VERTEBRA, NO_DISC, A_DISC)
    assert segmentation_loss(sure([BACKGROUND, BODY, ARCH, DISC, DISC]), labels, SETS, 0.5).item() < 1e-5


# Three voxels: background of an exam without disc annotation, a body, and another exam's disc.
THREE = codes(NO_DISC, A_BODY, A_DISC)
P = [[0.2, 0.3, 0.1, 0.1, 0.2, 0.1], [0.1, 0.5, 0.1, 0.1, 0.1, 0.1], [0.2, 0.1, 0.4, 0.1, 0.1, 0.1]]
"""Probabilities of background, body, disc, canal, sacrum, arch in each of the three."""


def logits_of(probabilities: list[list[float]]) -> torch.Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log().T[None, :, None].clone().requires_grad_()


def gradient_of(value: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """(voxels, classes)"""
    (gradient,) = torch.autograd.grad(value, logits)
    return gradient[0, :, 0].T


def test_cross_entropy_by_hand_where_discs_are_not_annotated() -> None:
    logits = logits_of(P)
    value = marginal_cross_entropy(logits, THREE, SETS)
    assert value.item() == pytest.approx(-(math.log(0.2 + 0.1) + math.log(0.5) + math.log(0.4)) / 3)
    # the slope of -log(p0 + p2) is p for a class outside the set, p - p / (p0 + p2) inside
    inside = [0.2 - 0.2 / 0.3, 0.3, 0.1 - 0.1 / 0.3, 0.1, 0.2, 0.1]
    body, disc = [0.1, 0.5 - 1, 0.1, 0.1, 0.1, 0.1], [0.2, 0.1, 0.4 - 1, 0.1, 0.1, 0.1]
    expected = torch.tensor([inside, body, disc], dtype=torch.float64) / 3
    torch.testing.assert_close(gradient_of(value, logits), expected)


def test_set_dice_by_hand_where_discs_are_not_annotated() -> None:
    logits = logits_of(P)
    value = set_dice_loss(logits, THREE, SETS)
    # body: all three voxels count; disc: the first does not, because it may be either
    body, disc = 2 * 0.5 + SMOOTH, 2 * 0.4 + SMOOTH
    bodies, discs = 0.3 + 0.5 + 0.1 + 1 + SMOOTH, 0.1 + 0.4 + 1 + SMOOTH
    assert value.item() == pytest.approx(1 - (body / bodies + disc / discs) / 2)
    # in the first voxel only the probability of body counts: its slope is body / bodies**2, halved by the mean
    slope = body / bodies**2 / 2
    expected = [slope * 0.3 * ((c == BODY) - p) for c, p in enumerate(P[0])]
    torch.testing.assert_close(gradient_of(value, logits)[0], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    "part",
    [marginal_cross_entropy, set_dice_loss, lambda *arguments: segmentation_loss(*arguments, 0.5)],
    ids=["ce", "dice", "both"],
)
@pytest.mark.parametrize("shift", [-0.199, -0.05, 0.05, 0.099])
def test_disc_or_background_has_the_same_loss_without_disc_annotation(part, shift: float) -> None:  # type: ignore[no-untyped-def]
    logits = logits_of(P)
    gradient = gradient_of(part(logits, THREE, SETS), logits)
    # a change of logits by 1 / p moves as much probability to the one as it takes from the other
    along = gradient[0, BACKGROUND] / P[0][BACKGROUND] - gradient[0, DISC] / P[0][DISC]
    assert along.abs().item() < 1e-15
    first = [0.2 + shift, 0.3, 0.1 - shift, 0.1, 0.2, 0.1]
    assert part(logits_of([first, *P[1:]]), THREE, SETS).item() == pytest.approx(
        part(logits, THREE, SETS).item(), abs=1e-14
    )
    # with disc annotation there is a gradient
    annotated = codes(NOTHING, A_BODY, A_DISC)
    slope = gradient_of(part(logits, annotated, SETS), logits)[0]
    assert (slope[BACKGROUND] / P[0][BACKGROUND] - slope[DISC] / P[0][DISC]).item() < -1e-3
