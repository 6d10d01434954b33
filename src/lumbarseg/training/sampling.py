"""Random batches. Sample i of batch k is a function of the seed, k and i alone.

So a resumed run, any number of loader threads, and several processes that share a batch get the same samples.
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

from . import augmentation
from .settings import TrainingSettings
from .training_volumes import BYTES_PER_INTENSITY, TrainingVolume, extract_slab_codes, extract_slabs

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images and label codes."""
ALL_SAMPLES = slice(None)
_THIN_SLICE_MM = 2.0  # thinner slices are averaged to slabs
_SLAB_THICKNESS_MM = (1.8, 5.0)
_PREFETCHED_BATCHES = 4
_SAMPLE_SEED_SUFFIX = 1  # ends the seed of a sample, because numpy ignores trailing zeros


@dataclass(frozen=True, eq=False)
class VolumeSampler:
    """Training volumes and the probability of each to be sampled, (volumes,)."""

    volumes: Sequence[TrainingVolume]
    probabilities: Array

    @classmethod
    def from_volumes(cls, volumes: Sequence[TrainingVolume], sampling_weights: tuple[float, ...]) -> VolumeSampler:
        """Divide the samples between datasets by `sampling_weights`, and within each by its volumes' sample weights."""
        datasets = np.array([volume.dataset_index for volume in volumes])
        count = int(datasets.max()) + 1
        if sampling_weights and len(sampling_weights) != count:
            raise DatasetError(
                f"sampling_weights: {len(sampling_weights)} for {count} datasets; give one for each, in their order"
            )
        dataset_weights = np.array(sampling_weights or (1.0,) * count)
        weights = np.array([volume.sample_weight for volume in volumes])
        probabilities = dataset_weights[datasets] * weights / np.bincount(datasets, weights, count)[datasets]
        return cls(volumes, probabilities / probabilities.sum())


def make_batch(
    sampler: VolumeSampler, settings: TrainingSettings, step: int, sample_slice: slice = ALL_SAMPLES
) -> Batch:
    """Return batch `step`, or some of its samples.

    images : (N, 5, crop, crop) float32 and codes : (N, crop, crop) uint8; for a network that reads blocks
    (N, 1, depth, crop, crop) and (N, depth, crop, crop), all slices of a block augmented alike.
    """
    rng = np.random.default_rng([settings.seed, step])
    picks = rng.choice(len(sampler.volumes), settings.batch_size, p=sampler.probabilities)
    images, codes = [], []
    for number in range(settings.batch_size)[sample_slice]:
        rng = np.random.default_rng([settings.seed, step, number, _SAMPLE_SEED_SUFFIX])
        image, sample_codes = _make_sample(sampler.volumes[picks[number]], settings, rng)
        images.append(image)
        codes.append(sample_codes)
    stacked = torch.stack(images)
    return stacked[:, None] if settings.depth else stacked, torch.from_numpy(np.stack(codes))


def _make_sample(
    volume: TrainingVolume, settings: TrainingSettings, rng: np.random.Generator
) -> tuple[torch.Tensor, Array]:
    """Return one sample of an exam: (5 or depth, crop, crop) float32 and its codes."""
    image, codes = _sample_block(volume, settings.depth, rng) if settings.depth else _sample_slices(volume, rng)
    intensity, plane = augmentation.sample_intensity_transform(rng), (codes.shape[-2], codes.shape[-1])
    spatial = augmentation.sample_spatial_transform(rng, plane, volume.spine_pixels, settings.crop_size)
    crop, codes = augmentation.apply_spatial_transform(image, codes, spatial, settings.crop_size)
    crop, codes = augmentation.truncate_field_of_view(crop, codes, intensity.truncated_side)
    return augmentation.apply_intensity_transform(crop / BYTES_PER_INTENSITY, intensity, rng), codes


def _sample_slices(volume: TrainingVolume, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sample five neighbouring slices (5, A, S) float32 in bytes, and the codes of the middle one (A, S)."""
    count, offset = _sample_slab_count_and_offset(volume, rng)
    slabs = (len(volume.image) - offset) // count
    middle = int(rng.integers(slabs))
    if rng.random() < 0.6:  # more often near the middle of the exam, where levels can be separated
        middle = int(np.clip(rng.normal((slabs - 1) / 2, slabs / 5) + 0.5, 0, slabs - 1))
    kernel = _slab_kernel(count, bool(rng.random() < 0.5))
    image = extract_slabs(volume, count, offset, np.arange(middle - 2, middle + 3), kernel)
    codes = extract_slab_codes(volume, count, offset, middle)
    if rng.random() < 0.25:  # the exam ends here, or one slice further, on one side
        image = image[np.maximum(np.arange(5), 2 - int(rng.integers(2)))]
    if rng.random() < 0.5:  # mirror left to right
        image = np.ascontiguousarray(image[::-1])
    return image, codes


def _sample_block(volume: TrainingVolume, depth: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Sample `depth` successive slices (depth, A, S) float32 in bytes, and their codes; shorter exams are padded."""
    count, offset = _sample_slab_count_and_offset(volume, rng)
    spare = (len(volume.image) - offset) // count - depth
    first = int(rng.integers(min(0, spare), max(0, spare) + 1))
    numbers, kernel = range(first, first + depth), _slab_kernel(count, bool(rng.random() < 0.5))
    image = extract_slabs(volume, count, offset, np.array(numbers), kernel)
    codes = np.stack([extract_slab_codes(volume, count, offset, number) for number in numbers])
    if rng.random() < 0.5:  # mirror left to right
        return np.ascontiguousarray(image[::-1]), np.ascontiguousarray(codes[::-1])
    return image, codes


def _sample_slab_count_and_offset(volume: TrainingVolume, rng: np.random.Generator) -> tuple[int, int]:
    """Sample the number of slices per slab, and the slice at which the first slab begins."""
    slices = len(volume.image)
    thickness = np.exp(rng.uniform(*np.log(_SLAB_THICKNESS_MM)))  # uniform in the logarithm
    thin = volume.slice_thickness < _THIN_SLICE_MM
    count = min(slices, round(thickness / volume.slice_thickness)) if thin else 1
    return count, int(rng.integers(slices - count * (slices // count) + 1))


def _slab_kernel(count: int, box: bool) -> Array:
    """Return the weights of the slices of a slab: a box, as of a scanner's slice, or preprocessing's triangle."""
    size = count if box else count + 2 * (count // 2)
    distances = np.abs(np.arange(size) - (size - 1) / 2)
    weights = np.ones(size) if box else 1 - distances / count
    return (weights / weights.sum()).astype(np.float32)


def stream_batches(
    sampler: VolumeSampler, settings: TrainingSettings, first: int, end: int, sample_slice: slice = ALL_SAMPLES
) -> Iterator[Batch]:
    """Yield batches first..end-1, or some samples of each, in order, prepared ahead by `loader_threads` threads.

    Each loader thread computes on a single core: otherwise the threads of the training step wait for them, which made
    a step on two cores up to a fifth longer.
    """
    with ThreadPoolExecutor(settings.loader_threads, "batch", torch.set_num_threads, (1,)) as pool:
        pending: deque[Future[Batch]] = deque()
        try:
            for step in range(first, end):
                while len(pending) < _PREFETCHED_BATCHES and step + len(pending) < end:
                    pending.append(pool.submit(make_batch, sampler, settings, step + len(pending), sample_slice))
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
