"""Training samples with clicks on the network's own errors, so that one network answers with clicks and without.

As in DeepEdit (Diaz-Pinto et al., arXiv 2305.10655, 2022): a share of the samples has no click and keeps the automatic
answer; for the others the network answers, a click is set inside its largest error (`simulate`), and so on, a few
times, before the gradient step. Names are no matter of the network: a click on L3 is a click on a body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lumbarseg.anatomy import CLASSES
from lumbarseg.clicks import Blob
from lumbarseg.volume import Array

from .simulate import place

Answer = Callable[[Tensor], Tensor]
"""A network in evaluation mode: (N, slices + classes, A, S) to logits (N, classes, A, S)."""

_AUTOMATIC = 0.35  # of the samples: without a click the network must stay as good as it was
_MORE = 0.6  # chance of one click more
_MOST = 6  # clicks in one slice
_LEAST = 8  # pixels of an error that a person would click on
_CONFIRMS = 0.12  # of the clicks: on something that is right already, and must stay
_FAINT = 0.4  # of the clicks: as set on a slice nearby, so faint and not quite in place
_NEAR = 0.05  # of a blob: about 10 mm from a click on its own slice, most of a fault that one click is set in
_HIDDEN = (
    0.3  # of the samples with clicks: a patch without signal, as about metal, where only clicks tell what is there
)
_PATCH = (5.0, 20.0)  # mm, half the width of such a patch
_FIRST = "down.0.0.weight"


@dataclass(frozen=True)
class Spot:
    """A click in a slice. at: row and column; channel: of the class; strength: 1 on its own slice, less beside it."""

    at: tuple[float, float]
    channel: int
    strength: float


def fitted(weights: Mapping[str, Tensor], inputs: int, new: float = 0.0) -> dict[str, Tensor]:
    """Weights of a planar network for `inputs` input channels in all: the answers without clicks stay as they are.

    New channels begin at `new`; channels that are left out are those of clicks.
    """
    if _FIRST not in weights:
        return dict(weights)
    first = weights[_FIRST]  # (width, 4 * inputs, 3, 3)
    missing = 4 * inputs - first.shape[1]
    return {**weights, _FIRST: functional.pad(first, (0, 0, 0, 0, 0, missing), value=new)}


def unclicked(images: Tensor, inputs: int) -> Tensor:
    """images: (N, slices, A, S) to (N, inputs, A, S) without a click."""
    return functional.pad(images, (0, 0, 0, 0, 0, inputs - images.shape[1]))


@dataclass(frozen=True, eq=False)
class Simulator:
    """Sets clicks on the errors of a network. allowed: (codes, classes) bool; pixel: mm."""

    allowed: Array
    blob: Blob
    pixel: float
    seed: int

    @torch.no_grad()
    def __call__(
        self, answer: Answer, images: Tensor, codes: Tensor, step: int, numbers: range | None = None
    ) -> Tensor:
        """images: (N, slices, A, S) float32 to (N, slices + classes, A, S) with clicks, given the codes (N, A, S).

        Which clicks they are follows from the seed, the step, the samples' numbers in the whole batch (by default
        these are all of it) and the network's answers alone.
        """
        rngs = [np.random.default_rng([self.seed, step, i, 5]) for i in numbers or range(len(images))]
        counts = [_count(rng) for rng in rngs]
        truth = codes.cpu().numpy()
        out = unclicked(images, images.shape[1] + len(CLASSES))
        for i, count in enumerate(counts):
            if count and rngs[i].random() < _HIDDEN:
                self.hide(out[i, : images.shape[1]], truth[i], rngs[i])
        for turn in range(_MOST):
            some = [i for i, count in enumerate(counts) if count > turn]
            if not some:
                break
            logits = answer(out[some].contiguous(memory_format=torch.channels_last)).float().cpu().numpy()
            for i, scores in zip(some, logits, strict=True):
                spot = self.spot(scores, truth[i], rngs[i])
                if spot is None:
                    counts[i] = 0
                    continue
                channel = out[i, images.shape[1] + spot.channel]
                torch.maximum(channel, self.drawn(spot, channel), out=channel)
        return out

    def hide(self, image: Tensor, codes: Array, rng: np.random.Generator) -> None:
        """Take the signal of a patch about a structure away, in place. image: (slices, A, S); codes: (A, S)."""
        somewhere = np.argwhere(~self.allowed[codes][..., 0])
        if not len(somewhere):
            return
        centre, radii = somewhere[rng.integers(len(somewhere))], rng.uniform(*_PATCH, 2) / self.pixel
        a, s = (
            ((torch.arange(size, device=image.device) - float(at)) / float(radius)) ** 2
            for size, at, radius in zip(codes.shape, centre, radii, strict=True)
        )
        kept = ((a[:, None] + s[None]).sqrt() * 5 - 4).clamp(0, 1)  # a soft rim of a fifth
        image.mul_(kept).add_(float(rng.uniform(0, 0.2)) * (1 - kept))

    def spot(self, scores: Array, codes: Array, rng: np.random.Generator) -> Spot | None:
        """Where a person would click next in a slice; None where nothing is wrong.

        scores: (classes, A, S) logits; codes: (A, S). The class clicked is that of the reference; "background" where
        it allows that, for then the click says that what was found is not there.
        """
        found, allowed = scores.argmax(0), self.allowed[codes]  # (A, S), (A, S, classes)
        wrong = ~np.take_along_axis(allowed, found[..., None], -1)[..., 0]
        strong = rng.random() >= _FAINT
        strength = float(rng.uniform(0.75, 1.0) if strong else rng.uniform(0.02, 0.75))
        at: tuple[int, ...] = ()
        if rng.random() < _CONFIRMS:
            sure = np.argwhere((allowed.sum(-1) == 1) & ~allowed[..., 0] & ~wrong)
            at = tuple(sure[rng.integers(len(sure))]) if len(sure) else ()
        at = at or place(wrong, codes.astype(np.int32), (self.pixel, self.pixel), rng, _LEAST)
        if not at:
            return None
        options = np.flatnonzero(allowed[at])
        channel = int(options[scores[(options, *at)].argmax()]) if options[0] else 0
        row, column = np.array(at) + (0 if strong else rng.normal(0, 3, 2))
        return Spot((float(row), float(column)), channel, strength)

    def drawn(self, spot: Spot, like: Tensor) -> Tensor:
        """The blob of a click in a slice, (A, S)."""
        width = self.blob.sigma / self.pixel
        a, s = (
            torch.exp(-0.5 * ((torch.arange(size, device=like.device) - at) / width) ** 2)
            for size, at in zip(like.shape, spot.at, strict=True)
        )
        return spot.strength * a[:, None] * s[None]


def _count(rng: np.random.Generator) -> int:
    """How many clicks a sample gets: none, or one and perhaps more."""
    return 0 if rng.random() < _AUTOMATIC else min(_MOST, int(rng.geometric(1 - _MORE)))


def about_clicks(images: Tensor, codes: Tensor) -> Tensor:
    """Codes, (N, A, S), where a click of `images`, (N, slices + classes, A, S), is near; unknown elsewhere.

    Scored beside the whole sample they teach that a click is to be followed: it covers a hundredth of the voxels.
    """
    near = images[:, -len(CLASSES) :].amax(1) > _NEAR
    return torch.where(near, codes, torch.zeros_like(codes))
