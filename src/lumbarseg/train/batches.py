"""Sample i of batch k is a function of the seed, k and i alone.

So a resumed run, any number of threads, and several processes that share a batch, see the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array

from .augment import cut, draw_look, draw_pose, place, recolour
from .settings import Settings
from .stacks import SCALE, Stack, block_of, slab_of

Batch = tuple[torch.Tensor, torch.Tensor]
_THIN = 2.0  # mm; thinner slices are averaged to slabs
_SLAB = (1.8, 5.0)  # mm
WHOLE = slice(None)
"""All samples of a batch."""
_AHEAD = 4  # batches
_SAMPLE = 1  # ends the seed of a sample: numpy takes trailing zeros for nothing


@dataclass(frozen=True, eq=False)
class Source:
    """Stacks to draw from. chance: (stacks,) of each to be drawn."""

    stacks: Sequence[Stack]
    chance: Array

    @classmethod
    def of(cls, stacks: Sequence[Stack], shares: tuple[float, ...]) -> Source:
        """Each dataset gets its share of the samples, each of its stacks a part of that by its weight."""
        groups = np.array([stack.group for stack in stacks])
        count = int(groups.max()) + 1
        if shares and len(shares) != count:
            raise DatasetError(f"shares: {len(shares)} given for {count} datasets; give one for each, in their order")
        share = np.array(shares or (1.0,) * count)
        weight = np.array([stack.weight for stack in stacks])
        chance = share[groups] * weight / np.bincount(groups, weight, minlength=count)[groups]
        return cls(stacks, chance / chance.sum())


def make(source: Source, settings: Settings, step: int, part: slice = WHOLE) -> Batch:
    """Batch `step`, or part of it: images (N, 5, crop, crop) float32 and codes (N, crop, crop) uint8.

    For a network that reads blocks (N, 1, depth, crop, crop) and (N, depth, crop, crop): slices that belong together
    are placed, bent and recoloured together.
    """
    picks = np.random.default_rng([settings.seed, step]).choice(len(source.stacks), settings.batch, p=source.chance)
    images, codes = [], []
    for number in range(settings.batch)[part]:
        rng = np.random.default_rng([settings.seed, step, number, _SAMPLE])
        image, code = _sample(source.stacks[picks[number]], settings, rng)
        images.append(image)
        codes.append(code)
    seen = torch.stack(images)
    return seen[:, None] if settings.depth else seen, torch.from_numpy(np.stack(codes))


def _sample(stack: Stack, settings: Settings, rng: np.random.Generator) -> tuple[torch.Tensor, Array]:
    """One sample of an exam: (5 or depth, crop, crop) float32 and its codes."""
    image, code = _block(stack, settings.depth, rng) if settings.depth else _slices(stack, rng)
    look, pose = draw_look(rng), draw_pose(rng, (code.shape[-2], code.shape[-1]), stack.focus, settings.crop)
    placed, found = cut(*place(image, code, pose, settings.crop), look.edge)
    return recolour(placed / SCALE, look, rng), found


def _slices(stack: Stack, rng: np.random.Generator) -> tuple[Array, Array]:
    """Five neighbours (5, A, S) float32 in bytes and the codes of the middle one (A, S)."""
    count, offset = _slabs(stack, rng)
    slabs = (len(stack.image) - offset) // count
    middle = int(rng.integers(slabs))
    if rng.random() < 0.6:  # the middle of an exam is where the levels are told apart
        middle = int(np.clip(rng.normal((slabs - 1) / 2, slabs / 5) + 0.5, 0, slabs - 1))
    image, codes = slab_of(stack, count, offset, middle, _kernel(count, bool(rng.random() < 0.5)))
    if rng.random() < 0.25:  # the exam ends here, or one slice further, on one side
        image = image[np.maximum(np.arange(5), 2 - int(rng.integers(2)))]
    if rng.random() < 0.5:  # left is right
        image = np.ascontiguousarray(image[::-1])
    return image, codes


def _block(stack: Stack, depth: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Slices that follow each other, (depth, A, S) float32 in bytes, and their codes; an exam of fewer lies within."""
    count, offset = _slabs(stack, rng)
    spare = (len(stack.image) - offset) // count - depth
    first = int(rng.integers(min(0, spare), max(0, spare) + 1))
    image, codes = block_of(stack, count, offset, first, depth, _kernel(count, bool(rng.random() < 0.5)))
    if rng.random() < 0.5:  # left is right
        return np.ascontiguousarray(image[::-1]), np.ascontiguousarray(codes[::-1])
    return image, codes


def _slabs(stack: Stack, rng: np.random.Generator) -> tuple[int, int]:
    """Of how many slices a slab is made, and where the first begins."""
    depth = len(stack.image)
    thick = np.exp(rng.uniform(*np.log(_SLAB)))  # as many thin ones as thick ones
    count = min(depth, round(thick / stack.thickness)) if stack.thickness < _THIN else 1
    return count, int(rng.integers(depth - count * (depth // count) + 1))


def _kernel(count: int, sharp: bool) -> Array:
    """Weights of the slices about a slab's middle: a box as a scanner's slice, or the triangle of `prepare`."""
    size = count if sharp else count + 2 * (count // 2)
    places = np.abs(np.arange(size) - (size - 1) / 2)
    weights = np.ones(size) if sharp else 1 - places / count
    return (weights / weights.sum()).astype(np.float32)


def stream(source: Source, settings: Settings, first: int, end: int, part: slice = WHOLE) -> Iterator[Batch]:
    """Batches first..end-1, or part of each, in order, prepared ahead by `settings.loaders` threads.

    Each of these computes alone: with more threads than cores those of a step sleep at every barrier, which made a step
    on two cores up to a fifth longer.
    """
    with ThreadPoolExecutor(settings.loaders, "batch", torch.set_num_threads, (1,)) as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for step in range(first, end):
                while len(waiting) < _AHEAD and step + len(waiting) < end:
                    waiting.append(pool.submit(make, source, settings, step + len(waiting), part))
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
