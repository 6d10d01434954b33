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

from .augmentation import (
    apply_intensity_transform,
    apply_spatial_transform,
    draw_intensity_transform,
    draw_spatial_transform,
    truncate_field_of_view,
)
from .settings import TrainingSettings
from .training_volumes import BYTES_PER_INTENSITY, TrainingVolume, extract_block, extract_slab

Batch = tuple[torch.Tensor, torch.Tensor]
_THIN_SLICE_MM = 2.0  # mm; thinner slices are averaged to slabs
_SLAB_THICKNESS_MM = (1.8, 5.0)  # mm
ALL_SAMPLES = slice(None)
"""All samples of a batch."""
_PREFETCHED_BATCHES = 4  # batches
_SAMPLE_SEED_SUFFIX = 1  # ends the seed of a sample: numpy takes trailing zeros for nothing


@dataclass(frozen=True, eq=False)
class VolumeSampler:
    """Stacks to draw from. chance: (stacks,) of each to be drawn."""

    volumes: Sequence[TrainingVolume]
    probabilities: Array

    @classmethod
    def from_volumes(cls, volumes: Sequence[TrainingVolume], sampling_weights: tuple[float, ...]) -> VolumeSampler:
        """Each dataset gets its share of the samples, each of its stacks a part of that by its weight."""
        groups = np.array([stack.dataset_index for stack in volumes])
        count = int(groups.max()) + 1
        if sampling_weights and len(sampling_weights) != count:
            raise DatasetError(
                f"shares: {len(sampling_weights)} given for {count} datasets; give one for each, in their order"
            )
        share = np.array(sampling_weights or (1.0,) * count)
        weight = np.array([stack.sample_weight for stack in volumes])
        chance = share[groups] * weight / np.bincount(groups, weight, minlength=count)[groups]
        return cls(volumes, chance / chance.sum())


def make_batch(
    sampler: VolumeSampler, settings: TrainingSettings, step: int, sample_slice: slice = ALL_SAMPLES
) -> Batch:
    """Batch `step`, or part of it: images (N, 5, crop, crop) float32 and codes (N, crop, crop) uint8.

    For a network that reads blocks (N, 1, depth, crop, crop) and (N, depth, crop, crop): slices that belong together
    are placed, bent and recoloured together.
    """
    picks = np.random.default_rng([settings.seed, step]).choice(
        len(sampler.volumes), settings.batch_size, p=sampler.probabilities
    )
    images, codes = [], []
    for number in range(settings.batch_size)[sample_slice]:
        rng = np.random.default_rng([settings.seed, step, number, _SAMPLE_SEED_SUFFIX])
        image, code = _make_sample(sampler.volumes[picks[number]], settings, rng)
        images.append(image)
        codes.append(code)
    seen = torch.stack(images)
    return seen[:, None] if settings.depth else seen, torch.from_numpy(np.stack(codes))


def _make_sample(
    volume: TrainingVolume, settings: TrainingSettings, rng: np.random.Generator
) -> tuple[torch.Tensor, Array]:
    """One sample of an exam: (5 or depth, crop, crop) float32 and its codes."""
    image, code = _draw_block(volume, settings.depth, rng) if settings.depth else _draw_slices(volume, rng)
    look, pose = (
        draw_intensity_transform(rng),
        draw_spatial_transform(rng, (code.shape[-2], code.shape[-1]), volume.spine_pixels, settings.crop_size),
    )
    placed, found = truncate_field_of_view(
        *apply_spatial_transform(image, code, pose, settings.crop_size), look.truncated_side
    )
    return apply_intensity_transform(placed / BYTES_PER_INTENSITY, look, rng), found


def _draw_slices(volume: TrainingVolume, rng: np.random.Generator) -> tuple[Array, Array]:
    """Five neighbours (5, A, S) float32 in bytes and the codes of the middle one (A, S)."""
    count, offset = _draw_slab_size(volume, rng)
    slabs = (len(volume.image) - offset) // count
    middle = int(rng.integers(slabs))
    if rng.random() < 0.6:  # the middle of an exam is where the levels are told apart
        middle = int(np.clip(rng.normal((slabs - 1) / 2, slabs / 5) + 0.5, 0, slabs - 1))
    image, codes = extract_slab(volume, count, offset, middle, _slab_kernel(count, bool(rng.random() < 0.5)))
    if rng.random() < 0.25:  # the exam ends here, or one slice further, on one side
        image = image[np.maximum(np.arange(5), 2 - int(rng.integers(2)))]
    if rng.random() < 0.5:  # left is right
        image = np.ascontiguousarray(image[::-1])
    return image, codes


def _draw_block(volume: TrainingVolume, depth: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Slices that follow each other, (depth, A, S) float32 in bytes, and their codes; an exam of fewer lies within."""
    count, offset = _draw_slab_size(volume, rng)
    spare = (len(volume.image) - offset) // count - depth
    first = int(rng.integers(min(0, spare), max(0, spare) + 1))
    image, codes = extract_block(volume, count, offset, first, depth, _slab_kernel(count, bool(rng.random() < 0.5)))
    if rng.random() < 0.5:  # left is right
        return np.ascontiguousarray(image[::-1]), np.ascontiguousarray(codes[::-1])
    return image, codes


def _draw_slab_size(volume: TrainingVolume, rng: np.random.Generator) -> tuple[int, int]:
    """Of how many slices a slab is made, and where the first begins."""
    depth = len(volume.image)
    thick = np.exp(rng.uniform(*np.log(_SLAB_THICKNESS_MM)))  # as many thin ones as thick ones
    count = min(depth, round(thick / volume.slice_thickness)) if volume.slice_thickness < _THIN_SLICE_MM else 1
    return count, int(rng.integers(depth - count * (depth // count) + 1))


def _slab_kernel(count: int, sharp: bool) -> Array:
    """Weights of the slices about a slab's middle: a box as a scanner's slice, or the triangle of `prepare`."""
    size = count if sharp else count + 2 * (count // 2)
    places = np.abs(np.arange(size) - (size - 1) / 2)
    weights = np.ones(size) if sharp else 1 - places / count
    return (weights / weights.sum()).astype(np.float32)


def stream_batches(
    sampler: VolumeSampler, settings: TrainingSettings, first: int, end: int, sample_slice: slice = ALL_SAMPLES
) -> Iterator[Batch]:
    """Batches first..end-1, or part of each, in order, prepared ahead by `settings.loaders` threads.

    Each of these computes alone: with more threads than cores those of a step sleep at every barrier, which made a step
    on two cores up to a fifth longer.
    """
    with ThreadPoolExecutor(settings.loader_threads, "batch", torch.set_num_threads, (1,)) as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for step in range(first, end):
                while len(waiting) < _PREFETCHED_BATCHES and step + len(waiting) < end:
                    waiting.append(pool.submit(make_batch, sampler, settings, step + len(waiting), sample_slice))
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
