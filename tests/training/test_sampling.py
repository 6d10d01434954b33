from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests import sets

from lumbarseg.errors import DatasetError
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.sampling import VolumeSampler, make_batch, stream_batches
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.training_volumes import SAMPLE_WEIGHT_KEY, PartialLabelCodec, load_volumes

SETTINGS = TrainingSettings(batch_size=3, crop_size=32, channels=(4, 6))


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> VolumeSampler:
    folder = tmp_path_factory.mktemp("sets")
    datasets = [sets.write(folder / "a"), sets.write(folder / "b", train=1, table=sets.COMPLETE_VERTEBRAE)]
    codes = PartialLabelCodec.from_tables(dataset.label_table for dataset in datasets)
    return VolumeSampler.from_volumes(load_volumes(datasets, "train", codes, PreprocessingSpec()), (0.75, 0.25))


def same(a: tuple[torch.Tensor, torch.Tensor], b: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_a_batch_is_a_function_of_seed_and_step(sampler: VolumeSampler) -> None:
    first = make_batch(sampler, SETTINGS, 7)
    assert same(first, make_batch(sampler, SETTINGS, 7))
    assert not same(first, make_batch(sampler, SETTINGS, 8))
    assert not same(first, make_batch(sampler, TrainingSettings(**SETTINGS.to_dict() | {"seed": 1}), 7))


def test_a_batch_has_the_network_shapes(sampler: VolumeSampler) -> None:
    for step in range(20):
        images, codes = make_batch(sampler, SETTINGS, step)
        assert images.shape == (3, 5, 32, 32)
        assert images.dtype == torch.float32
        assert codes.shape == (3, 32, 32)
        assert codes.dtype == torch.uint8
        assert torch.isfinite(images).all()
        assert codes.max() < 9


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_stream_is_the_same_for_any_number_of_threads(threads: int, sampler: VolumeSampler) -> None:
    settings = TrainingSettings(**SETTINGS.to_dict() | {"loader_threads": threads})
    batches = list(stream_batches(sampler, settings, 3, 14))
    assert len(batches) == 11
    assert all(same(batch, make_batch(sampler, SETTINGS, 3 + i)) for i, batch in enumerate(batches))


def test_a_stream_that_is_closed_early_ends(sampler: VolumeSampler) -> None:
    batches = stream_batches(sampler, SETTINGS, 0, 1000)
    next(batches)
    batches.close()
    assert list(batches) == []


def test_sampling_weights_are_per_dataset_not_per_exam(sampler: VolumeSampler) -> None:
    groups = np.array([volume.dataset_index for volume in sampler.volumes])
    assert sampler.probabilities[groups == 0].sum() == pytest.approx(0.75)
    assert np.ptp(sampler.probabilities[groups == 0]) < 1e-12
    with pytest.raises(DatasetError, match="sampling_weights: 3 for 2 datasets"):
        VolumeSampler.from_volumes(sampler.volumes, (1.0, 1.0, 1.0))


def test_sample_weights_count_within_a_dataset(tmp_path: Path) -> None:
    dataset = sets.write(tmp_path / "a")
    heavy = replace(dataset.all_cases[0], metadata={SAMPLE_WEIGHT_KEY: 3.0})
    dataset = replace(dataset, all_cases=(heavy, *dataset.all_cases[1:]))
    volumes = load_volumes(
        [dataset], "train", PartialLabelCodec.from_tables([dataset.label_table]), PreprocessingSpec()
    )
    np.testing.assert_allclose(VolumeSampler.from_volumes(volumes, ()).probabilities, [0.6, 0.2, 0.2])
    for wrong in (0, -1.0, "2", float("inf"), True):
        broken = replace(dataset, all_cases=(replace(heavy, metadata={SAMPLE_WEIGHT_KEY: wrong}),))
        with pytest.raises(DatasetError, match="case-0: sample_weight: must be a number above 0"):
            load_volumes([broken], "train", PartialLabelCodec.from_tables([dataset.label_table]), PreprocessingSpec())
