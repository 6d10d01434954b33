"""Losses for labels that are sets: a voxel says which classes it may be, and no more.

No class has a weight: a weight moves the boundary outwards (a factor of two on discs made them a fifth too large).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BatchSum = Callable[[Tensor], Tensor]
"""Turns a sum over the samples of this process into the sum over the whole batch."""

EXCLUDED_CLASS_LOGIT = -1e4
"""Added to the logits of a class that the network does not know."""
_DICE_SMOOTHING = 10.0  # voxels; keeps the Dice of a structure of a few voxels from jumping


@dataclass(frozen=True, eq=False)
class LabelSets:
    """What each code of a label map allows.

    allowed : (codes, classes) bool; row 0 allows everything ("unknown")
    dice_scored : (codes,) bool, the sets with a Dice: all except "unknown" and those that include the background
    comparable : (codes, codes) bool, whether voxels of the second code count for the Dice of the first: the same set,
    or a set that shares no class with it
    """

    allowed: Tensor
    dice_scored: Tensor
    comparable: Tensor

    @classmethod
    def from_allowed(cls, allowed: Tensor) -> LabelSets:
        """Return the sets of a table (codes, classes) of allowed classes; class 0 is the background."""
        overlap = (allowed.float() @ allowed.float().T) > 0
        same = (allowed[:, None] == allowed[None]).all(-1)
        return cls(allowed, ~allowed[:, 0] & ~allowed.all(1), same | ~overlap)

    def to(self, device: torch.device) -> LabelSets:
        """Return the same sets on another device."""
        return LabelSets(self.allowed.to(device), self.dice_scored.to(device), self.comparable.to(device))


def local_sum(value: Tensor) -> Tensor:
    """Return the sum over the batch where there is one process."""
    return value


def marginal_cross_entropy(
    logits: Tensor, codes: Tensor, label_sets: LabelSets, batch_sum: BatchSum = local_sum
) -> Tensor:
    """Return -log of the summed probability of the allowed classes, mean over the voxels that are not unknown.

    logits : (N, C, A, S) float32; codes : (N, A, S) integer
    """
    allowed = label_sets.allowed[codes].movedim(-1, 1)  # (N, C, A, S)
    inside = logits.masked_fill(~allowed, -torch.inf).logsumexp(1)
    has_label = codes != 0
    loss = torch.where(has_label, logits.logsumexp(1) - inside, 0.0)
    return batch_sum(loss.sum()) / batch_sum(has_label.sum()).clamp(min=1)


def set_dice_loss(logits: Tensor, codes: Tensor, label_sets: LabelSets, batch_sum: BatchSum = local_sum) -> Tensor:
    """Return 1 - soft Dice, mean over the annotated sets of the batch.

    Each set is summed over the whole batch, because one Dice per sample would reward too large segmentations where a
    structure is small. A voxel whose own set overlaps the one in question, without being it, does not count.
    """
    count, classes = len(label_sets.allowed), logits.shape[1]
    one_hot = torch.nn.functional.one_hot(codes.long().flatten(), count).to(logits.dtype)  # (voxels, codes)
    probability = logits.softmax(1).movedim(1, 0).reshape(classes, -1)  # (C, voxels)
    mass = label_sets.allowed.to(logits.dtype) @ batch_sum(probability @ one_hot)  # of a set (row) in voxels of a code
    annotated = batch_sum(one_hot.sum(0))
    overlap = mass.diagonal()
    comparable = label_sets.comparable.to(logits.dtype)
    comparable[:, 0] = 0
    dice = (2 * overlap + _DICE_SMOOTHING) / ((mass * comparable).sum(1) + annotated + _DICE_SMOOTHING)
    scored = label_sets.dice_scored & (annotated > 0)
    return torch.where(scored, 1 - dice, 0.0).sum() / scored.sum().clamp(min=1)


def distillation_loss(
    logits: Tensor, teacher_logits: Tensor, codes: Tensor, label_sets: LabelSets, batch_sum: BatchSum = local_sum
) -> Tensor:
    """Return how far predictions move from a teacher network's, only among the classes that a label leaves open.

    Kullback-Leibler divergence of the probabilities among the allowed classes, mean over the voxels that are not
    unknown. logits, teacher_logits : (N, C, A, S) float32; codes : (N, A, S) integer
    """
    allowed = label_sets.allowed[codes].movedim(-1, 1)
    has_label = codes != 0
    teacher = teacher_logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
    student = logits.masked_fill(~allowed, -torch.inf).log_softmax(1)
    divergence = torch.where(allowed, teacher.exp() * (teacher - student), 0.0).sum(1)
    return batch_sum(torch.where(has_label, divergence, 0.0).sum()) / batch_sum(has_label.sum()).clamp(min=1)


def segmentation_loss(
    logits: Tensor, codes: Tensor, label_sets: LabelSets, dice_weight: float, batch_sum: BatchSum = local_sum
) -> Tensor:
    """Return the marginal cross-entropy plus `dice_weight` times the Dice loss of the annotated sets."""
    loss = marginal_cross_entropy(logits, codes, label_sets, batch_sum)
    return loss + dice_weight * set_dice_loss(logits, codes, label_sets, batch_sum) if dice_weight else loss
