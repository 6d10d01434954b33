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
from lumbarseg.preprocessing import ClickGaussian
from lumbarseg.volume import Array

from .click_simulation import place_click

PredictLogits = Callable[[Tensor], Tensor]
"""A network in evaluation mode: (N, slices + classes, A, S) to logits (N, classes, A, S)."""

_NO_CLICK_PROBABILITY = 0.35  # of the samples: without a click the network must stay as good as it was
_ANOTHER_CLICK_PROBABILITY = 0.6  # chance of one click more
_MAX_CLICKS = 6  # clicks in one slice
_MIN_ERROR_PIXELS = 8  # pixels of an error that a person would click on
_CONFIRMATION_PROBABILITY = 0.12  # of the clicks: on something that is right already, and must stay
_FAINT_PROBABILITY = 0.4  # of the clicks: as set on a slice nearby, so faint and not quite in place
_NEAR_CLICK_THRESHOLD = (
    0.05  # of a blob: about 10 mm from a click on its own slice, most of a fault that one click is set in
)
_ERASE_PROBABILITY = (
    0.3  # of the samples with clicks: a patch without signal, as about metal, where only clicks tell what is there
)
_PATCH_RADIUS_MM = (5.0, 20.0)  # mm, half the width of such a patch
_FIRST_CONVOLUTION = "down.0.0.weight"


@dataclass(frozen=True)
class SliceClick:
    """A click in a slice. at: row and column; channel: of the class; strength: 1 on its own slice, less beside it."""

    position: tuple[float, float]
    channel: int
    strength: float


def fit_input_channels(weights: Mapping[str, Tensor], inputs: int, fill: float = 0.0) -> dict[str, Tensor]:
    """Weights of a planar network for `inputs` input channels in all: the answers without clicks stay as they are.

    New channels begin at `new`; channels that are left out are those of clicks.
    """
    if _FIRST_CONVOLUTION not in weights:
        return dict(weights)
    first = weights[_FIRST_CONVOLUTION]  # (width, 4 * inputs, 3, 3)
    missing = 4 * inputs - first.shape[1]
    return {**weights, _FIRST_CONVOLUTION: functional.pad(first, (0, 0, 0, 0, 0, missing), value=fill)}


def add_empty_click_channels(images: Tensor, inputs: int) -> Tensor:
    """images: (N, slices, A, S) to (N, inputs, A, S) without a click."""
    return functional.pad(images, (0, 0, 0, 0, 0, inputs - images.shape[1]))


@dataclass(frozen=True, eq=False)
class ClickSimulator:
    """Sets clicks on the errors of a network. allowed: (codes, classes) bool; pixel: mm."""

    allowed: Array
    blob: ClickGaussian
    pixel_mm: float
    seed: int

    @torch.no_grad()
    def __call__(
        self,
        predict_logits: PredictLogits,
        images: Tensor,
        codes: Tensor,
        step: int,
        sample_numbers: range | None = None,
    ) -> Tensor:
        """images: (N, slices, A, S) float32 to (N, slices + classes, A, S) with clicks, given the codes (N, A, S).

        Which clicks they are follows from the seed, the step, the samples' numbers in the whole batch (by default
        these are all of it) and the network's answers alone.
        """
        rngs = [np.random.default_rng([self.seed, step, i, 5]) for i in sample_numbers or range(len(images))]
        counts = [_draw_click_count(rng) for rng in rngs]
        truth = codes.cpu().numpy()
        out = add_empty_click_channels(images, images.shape[1] + len(CLASSES))
        for i, count in enumerate(counts):
            if count and rngs[i].random() < _ERASE_PROBABILITY:
                self.erase_patch(out[i, : images.shape[1]], truth[i], rngs[i])
        for turn in range(_MAX_CLICKS):
            some = [i for i, count in enumerate(counts) if count > turn]
            if not some:
                break
            logits = predict_logits(out[some].contiguous(memory_format=torch.channels_last)).float().cpu().numpy()
            for i, scores in zip(some, logits, strict=True):
                spot = self.next_click(scores, truth[i], rngs[i])
                if spot is None:
                    counts[i] = 0
                    continue
                channel = out[i, images.shape[1] + spot.channel]
                torch.maximum(channel, self.click_map(spot, channel), out=channel)
        return out

    def erase_patch(self, image: Tensor, codes: Array, rng: np.random.Generator) -> None:
        """Take the signal of a patch about a structure away, in place. image: (slices, A, S); codes: (A, S)."""
        somewhere = np.argwhere(~self.allowed[codes][..., 0])
        if not len(somewhere):
            return
        centre, radii = somewhere[rng.integers(len(somewhere))], rng.uniform(*_PATCH_RADIUS_MM, 2) / self.pixel_mm
        a, s = (
            ((torch.arange(size, device=image.device) - float(at)) / float(radius)) ** 2
            for size, at, radius in zip(codes.shape, centre, radii, strict=True)
        )
        kept = ((a[:, None] + s[None]).sqrt() * 5 - 4).clamp(0, 1)  # a soft rim of a fifth
        image.mul_(kept).add_(float(rng.uniform(0, 0.2)) * (1 - kept))

    def next_click(self, scores: Array, codes: Array, rng: np.random.Generator) -> SliceClick | None:
        """Where a person would click next in a slice; None where nothing is wrong.

        scores: (classes, A, S) logits; codes: (A, S). The class clicked is that of the reference; "background" where
        it allows that, for then the click says that what was found is not there.
        """
        found, allowed = scores.argmax(0), self.allowed[codes]  # (A, S), (A, S, classes)
        wrong = ~np.take_along_axis(allowed, found[..., None], -1)[..., 0]
        strong = rng.random() >= _FAINT_PROBABILITY
        strength = float(rng.uniform(0.75, 1.0) if strong else rng.uniform(0.02, 0.75))
        at: tuple[int, ...] = ()
        if rng.random() < _CONFIRMATION_PROBABILITY:
            sure = np.argwhere((allowed.sum(-1) == 1) & ~allowed[..., 0] & ~wrong)
            at = tuple(sure[rng.integers(len(sure))]) if len(sure) else ()
        at = at or place_click(wrong, codes.astype(np.int32), (self.pixel_mm, self.pixel_mm), rng, _MIN_ERROR_PIXELS)
        if not at:
            return None
        options = np.flatnonzero(allowed[at])
        channel = int(options[scores[(options, *at)].argmax()]) if options[0] else 0
        row, column = np.array(at) + (0 if strong else rng.normal(0, 3, 2))
        return SliceClick((float(row), float(column)), channel, strength)

    def click_map(self, click: SliceClick, like: Tensor) -> Tensor:
        """The blob of a click in a slice, (A, S)."""
        width = self.blob.sigma / self.pixel_mm
        a, s = (
            torch.exp(-0.5 * ((torch.arange(size, device=like.device) - at) / width) ** 2)
            for size, at in zip(like.shape, click.position, strict=True)
        )
        return click.strength * a[:, None] * s[None]


def _draw_click_count(rng: np.random.Generator) -> int:
    """How many clicks a sample gets: none, or one and perhaps more."""
    return (
        0
        if rng.random() < _NO_CLICK_PROBABILITY
        else min(_MAX_CLICKS, int(rng.geometric(1 - _ANOTHER_CLICK_PROBABILITY)))
    )


def codes_near_clicks(images: Tensor, codes: Tensor) -> Tensor:
    """Codes, (N, A, S), where a click of `images`, (N, slices + classes, A, S), is near; unknown elsewhere.

    Scored beside the whole sample they teach that a click is to be followed: it covers a hundredth of the voxels.
    """
    near = images[:, -len(CLASSES) :].amax(1) > _NEAR_CLICK_THRESHOLD
    return torch.where(near, codes, torch.zeros_like(codes))
