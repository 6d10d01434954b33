"""Losses for labels that are sets: a voxel says which classes it may be, and no more.

No class is weighted: a weight moves the boundary outwards (a factor of two on discs made them a fifth too large).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BatchSum = Callable[[Tensor], Tensor]
"""A sum over these samples to the sum over the whole batch."""

EXCLUDED_CLASS_LOGIT = -1e4
"""Added to the logits of a class that the network does not know."""
_DICE_SMOOTHING = 10.0  # voxels; keeps the Dice of a structure of a few voxels from jumping


@dataclass(frozen=True, eq=False)
class LabelSets:
    """What each code of a label map allows.

    allowed: (codes, classes) bool; row 0 allows everything ("unknown"). scored: (codes,) bool, the sets whose Dice is
    taken: all but "unknown" and those that hold the background. comparable: (codes, codes) bool, whether voxels of the
    second code say something about the first: the same set, or one without a common class.
    """

    allowed: Tensor
    dice_scored: Tensor
    comparable: Tensor

    @classmethod
    def of(cls, allowed: Tensor) -> LabelSets:
        """From the table of allowed classes; channel 0 is the background."""
        common = (allowed.float() @ allowed.float().T) > 0
        same = (allowed[:, None] == allowed[None]).all(-1)
        return cls(allowed, ~allowed[:, 0] & ~allowed.all(1), same | ~common)

    def to(self, device: torch.device) -> LabelSets:
        """The same on another device."""
        return LabelSets(self.allowed.to(device), self.dice_scored.to(device), self.comparable.to(device))


def local_sum(value: Tensor) -> Tensor:
    """What a sum over the samples of one process is in all, where there is no other."""
    return value


def marginal_cross_entropy(
    logits: Tensor, codes: Tensor, label_sets: LabelSets, batch_sum: BatchSum = local_sum
) -> Tensor:
    """-log of the summed probability of the allowed classes, mean over the voxels that are not unknown.

    logits: (N, C, A, S) float32; codes: (N, A, S) integer; total: makes the batch's sums of those of these samples.
    """
    allowed = label_sets.allowed[codes].movedim(-1, 1)  # (N, C, A, S)
    inside = logits.masked_fill(~allowed, -torch.inf).logsumexp(1)
    known = codes != 0
    loss = torch.where(known, logits.logsumexp(1) - inside, 0.0)
    return batch_sum(loss.sum()) / batch_sum(known.sum()).clamp(min=1)


def set_dice_loss(logits: Tensor, codes: Tensor, label_sets: LabelSets, batch_sum: BatchSum = local_sum) -> Tensor:
    """1 - soft Dice, mean over the annotated sets of the batch.

    Each set is summed over the whole batch: one Dice per picture would reward painting too much where a structure is
    small. A voxel whose own set overlaps with the one in question, without being it, does not count.
    """
    count, classes = len(label_sets.allowed), logits.shape[1]
    spots = torch.nn.functional.one_hot(codes.long().flatten(), count).to(logits.dtype)  # (voxels, codes)
    share = logits.softmax(1).movedim(1, 0).reshape(classes, -1)  # (C, voxels)
    mass = label_sets.allowed.to(logits.dtype) @ batch_sum(
        share @ spots
    )  # (codes, codes): of a set in voxels of a code
    drawn = batch_sum(spots.sum(0))
    overlap = mass.diagonal()
    comparable = label_sets.comparable.to(logits.dtype)
    comparable[:, 0] = 0
    dice = (2 * overlap + _DICE_SMOOTHING) / ((mass * comparable).sum(1) + drawn + _DICE_SMOOTHING)
    counted = label_sets.dice_scored & (drawn > 0)
    return torch.where(counted, 1 - dice, 0.0).sum() / counted.sum().clamp(min=1)


def distillation_loss(
    logits: Tensor, teacher_logits: Tensor, codes: Tensor, label_sets: LabelSets, batch_sum: BatchSum = local_sum
) -> Tensor:
    """How far the answers stray from another network's, where a label leaves a choice, and only within that choice.

    Kullback-Leibler divergence of the shares among the allowed classes, mean over the voxels that are not unknown.
    logits, taught: (N, C, A, S) float32; codes: (N, A, S) integer.
    """
    allowed = label_sets.allowed[codes].movedim(-1, 1)
    known = codes != 0
    theirs = teacher_logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
    ours = logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
    gap = torch.where(allowed, theirs.exp() * (theirs - ours), 0.0).sum(1)
    return batch_sum(torch.where(known, gap, 0.0).sum()) / batch_sum(known.sum()).clamp(min=1)


def segmentation_loss(
    logits: Tensor, codes: Tensor, label_sets: LabelSets, dice_weight: float, batch_sum: BatchSum = local_sum
) -> Tensor:
    """Marginal cross-entropy plus `dice` times the soft Dice of each annotated set."""
    value = marginal_cross_entropy(logits, codes, label_sets, batch_sum)
    return value + dice_weight * set_dice_loss(logits, codes, label_sets, batch_sum) if dice_weight else value
