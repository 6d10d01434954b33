"""Training samples with clicks on the network's own errors, so that one network segments with and without clicks.

As in DeepEdit (Diaz-Pinto et al., arXiv 2305.10655, 2022): some samples get no click, which keeps the automatic
segmentation. For the others the network predicts, a click is set inside its largest error, and so on a few times,
before the gradient step. Clicks follow the rule of DeepGrow (Sakinis et al., arXiv 1903.08205, 2019): deep inside the
largest error, which is a voxel whose predicted class the reference does not allow. The network does not separate
levels: a click on L3 is a click on a vertebral body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from lumbarseg.anatomy import CLASSES
from lumbarseg.components import connected_components, label_boxes
from lumbarseg.preprocessing import ClickGaussian
from lumbarseg.volume import Array

PredictLogits = Callable[[Tensor], Tensor]
"""A network in evaluation mode: (N, slices + classes, A, S) to logits (N, classes, A, S)."""

VoxelIndex = tuple[int, ...]

_MAX_CANDIDATES = 4  # largest components by voxels, of which the deepest is taken
_MIN_RELATIVE_DEPTH = 0.7  # of the greatest depth: a click lies anywhere deeper than that
_NO_CLICK_PROBABILITY = 0.35  # without a click the network must stay as good as it was
_ANOTHER_CLICK_PROBABILITY = 0.6
_MAX_CLICKS = 6  # in one slice
_MIN_ERROR_PIXELS = 8  # errors that a user would click on
_CONFIRMATION_PROBABILITY = 0.12  # of a click on something that is right already, and must stay
_FAINT_PROBABILITY = 0.4  # of a click that was set on a nearby slice, so it is faint and not quite in place
_NEAR_CLICK_THRESHOLD = 0.05  # of a click map: about 10 mm, most of an error that one click repairs
_ERASE_PROBABILITY = 0.3  # of a patch without signal, as near metal, where only clicks show what is there
_PATCH_RADIUS_MM = (5.0, 20.0)
_FIRST_CONVOLUTION = "down.0.0.weight"


@dataclass(frozen=True)
class SliceClick:
    """A click in a slice. position: row and column; channel: of its class; strength: 1 on the clicked slice itself."""

    position: tuple[float, float]
    channel: int
    strength: float


def fit_input_channels(weights: Mapping[str, Tensor], inputs: int, fill: float = 0.0) -> dict[str, Tensor]:
    """Return the weights of a planar network that reads `inputs` channels; predictions without clicks stay the same.

    Weights of new channels are `fill`; channels that are left out are those of clicks.
    """
    if _FIRST_CONVOLUTION not in weights:
        return dict(weights)
    first = weights[_FIRST_CONVOLUTION]  # (width, 4 * inputs, 3, 3)
    missing = 4 * inputs - first.shape[1]
    return {**weights, _FIRST_CONVOLUTION: functional.pad(first, (0, 0, 0, 0, 0, missing), value=fill)}


def add_empty_click_channels(images: Tensor, inputs: int) -> Tensor:
    """Return images (N, slices, A, S) as (N, inputs, A, S) without a click."""
    return functional.pad(images, (0, 0, 0, 0, 0, inputs - images.shape[1]))


@dataclass(frozen=True, eq=False)
class ClickSimulator:
    """Sets clicks on the errors of a network.

    allowed : (codes, classes) bool; gaussian : the shape of a click; pixel_mm : pixel size
    """

    allowed: Array
    gaussian: ClickGaussian
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
        """Return images (N, slices, A, S) float32 as (N, slices + classes, A, S) with clicks.

        The clicks are a function of the seed, the step, the numbers of the samples in the whole batch (default: these
        are the whole batch) and the network's predictions alone. codes : (N, A, S)
        """
        rngs = [np.random.default_rng([self.seed, step, i, 5]) for i in sample_numbers or range(len(images))]
        counts = [_sample_click_count(rng) for rng in rngs]
        reference, slices = codes.cpu().numpy(), images.shape[1]
        out = add_empty_click_channels(images, slices + len(CLASSES))
        for i, count in enumerate(counts):
            if count and rngs[i].random() < _ERASE_PROBABILITY:
                self.erase_patch(out[i, :slices], reference[i], rngs[i])
        for turn in range(_MAX_CLICKS):
            active = [i for i, count in enumerate(counts) if count > turn]
            if not active:
                break
            logits = predict_logits(out[active].contiguous(memory_format=torch.channels_last)).float().cpu().numpy()
            for i, sample_logits in zip(active, logits, strict=True):
                click = self.next_click(sample_logits, reference[i], rngs[i])
                if click is None:
                    counts[i] = 0
                    continue
                channel = out[i, slices + click.channel]
                torch.maximum(channel, self.click_map(click, channel), out=channel)
        return out

    def erase_patch(self, image: Tensor, codes: Array, rng: np.random.Generator) -> None:
        """Remove the signal of a patch around a structure, in place. image: (slices, A, S); codes: (A, S)."""
        structure_pixels = np.argwhere(~self.allowed[codes][..., 0])
        if not len(structure_pixels):
            return
        centre = structure_pixels[rng.integers(len(structure_pixels))]
        radii = rng.uniform(*_PATCH_RADIUS_MM, 2) / self.pixel_mm
        a, s = (
            ((torch.arange(size, device=image.device) - float(middle)) / float(radius)) ** 2
            for size, middle, radius in zip(codes.shape, centre, radii, strict=True)
        )
        signal = ((a[:, None] + s[None]).sqrt() * 5 - 4).clamp(0, 1)  # a soft rim of a fifth of the radius
        image.mul_(signal).add_(float(rng.uniform(0, 0.2)) * (1 - signal))

    def next_click(self, logits: Array, codes: Array, rng: np.random.Generator) -> SliceClick | None:
        """Return where a user would click next in a slice; None where nothing is wrong.

        The class clicked is that of the reference; "background" where the reference allows it, because then the click
        says that the predicted structure is not there. logits : (classes, A, S); codes : (A, S)
        """
        predicted, allowed = logits.argmax(0), self.allowed[codes]  # (A, S), (A, S, classes)
        wrong = ~np.take_along_axis(allowed, predicted[..., None], -1)[..., 0]
        strong = rng.random() >= _FAINT_PROBABILITY
        strength = float(rng.uniform(0.75, 1.0) if strong else rng.uniform(0.02, 0.75))
        pixel: tuple[int, ...] = ()
        if rng.random() < _CONFIRMATION_PROBABILITY:
            right = np.argwhere((allowed.sum(-1) == 1) & ~allowed[..., 0] & ~wrong)
            pixel = tuple(right[rng.integers(len(right))]) if len(right) else ()
        pixel = pixel or place_click(
            wrong, codes.astype(np.int32), (self.pixel_mm, self.pixel_mm), rng, _MIN_ERROR_PIXELS
        )
        if not pixel:
            return None
        classes = np.flatnonzero(allowed[pixel])
        channel = int(classes[logits[(classes, *pixel)].argmax()]) if classes[0] else 0
        row, column = np.array(pixel) + (0 if strong else rng.normal(0, 3, 2))
        return SliceClick((float(row), float(column)), channel, strength)

    def click_map(self, click: SliceClick, like: Tensor) -> Tensor:
        """Return the Gaussian of a click in a slice, (A, S)."""
        width = self.gaussian.sigma / self.pixel_mm
        a, s = (
            torch.exp(-0.5 * ((torch.arange(size, device=like.device) - middle) / width) ** 2)
            for size, middle in zip(like.shape, click.position, strict=True)
        )
        return click.strength * a[:, None] * s[None]


def _sample_click_count(rng: np.random.Generator) -> int:
    if rng.random() < _NO_CLICK_PROBABILITY:
        return 0
    return min(_MAX_CLICKS, int(rng.geometric(1 - _ANOTHER_CLICK_PROBABILITY)))


def codes_near_clicks(images: Tensor, codes: Tensor) -> Tensor:
    """Return the codes (N, A, S) near a click of `images` (N, slices + classes, A, S); 0, unknown, elsewhere.

    Scored in addition to the whole sample they teach the network to follow clicks, which cover a hundredth of the
    voxels.
    """
    near = images[:, -len(CLASSES) :].amax(1) > _NEAR_CLICK_THRESHOLD
    return torch.where(near, codes, torch.zeros_like(codes))


def place_click(
    wrong: Array, error_labels: Array, spacing: tuple[float, ...], rng: np.random.Generator, min_voxels: int = 1
) -> VoxelIndex:
    """Return a voxel deep inside the largest error; () when none has `min_voxels` voxels.

    The size of an error is the sum of its depths, so a thin rim around everything is smaller than a missing disc.

    Parameters
    ----------
    wrong : (...) bool
    error_labels : (...) integer; errors of different labels are different errors
    spacing : mm
    """
    best: tuple[float, Array, VoxelIndex] | None = None
    for box, inside in _largest_errors(wrong, error_labels, min_voxels):
        depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=spacing)
        depth = depth[(slice(1, -1),) * inside.ndim]
        if best is None or depth.sum() > best[0]:
            best = float(depth.sum()), depth, tuple(side.start for side in box)
    if best is None:
        return ()
    _, depth, corner = best
    deep = np.argwhere(depth >= _MIN_RELATIVE_DEPTH * depth.max())
    return tuple(int(c + d) for c, d in zip(corner, deep[rng.integers(len(deep))], strict=True))


def _largest_errors(wrong: Array, error_labels: Array, min_voxels: int) -> list[tuple[tuple[slice, ...], Array]]:
    """Return the bounding boxes and masks of the largest connected errors."""
    errors = []
    volume = (1,) * (3 - wrong.ndim) + wrong.shape
    for value in np.unique(error_labels[wrong]):
        components = connected_components((wrong & (error_labels == value)).reshape(volume))
        numbers = components.numbers.reshape(wrong.shape)
        for number, box in label_boxes(components.numbers).items():
            if components.sizes[number] >= min_voxels:
                sides = box[-wrong.ndim :]
                errors.append((int(components.sizes[number]), sides, numbers[sides] == number))
    errors.sort(key=lambda error: -error[0])
    return [(box, inside) for _, box, inside in errors[:_MAX_CANDIDATES]]
