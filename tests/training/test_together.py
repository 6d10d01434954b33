"""Datasets with different annotations train one network together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import ROOT
from tests.datasets import small_phantoms
from tests.datasets.layouts import chu as layout

from lumbarseg import io
from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind
from lumbarseg.datasets import Dataset, create_dataset, write_case
from lumbarseg.datasets.importers import chu, paired_files
from lumbarseg.datasets.importing import import_source
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.checkpoint import Checkpoint
from lumbarseg.training.data import load_training_data
from lumbarseg.training.losses import LabelSets, segmentation_loss
from lumbarseg.training.presets import PRESETS
from lumbarseg.training.sampling import VolumeSampler, make_batch
from lumbarseg.training.trainer import train
from lumbarseg.volume import Volume

QUICK = replace(PRESETS["quick"].settings, steps=2, batch_size=9, threads=1, validation_interval=2, precision="float32")
SPACE = {Kind.BODY: 1, Kind.ARCH: 1, Kind.DISC: 2, Kind.CANAL: 3}
CHU = ("Img_02", "Img_05")
SPIDER_TABLE = ROOT / "benchmarks" / "label_tables" / "spider_space.json"


def replicas(root: Path) -> tuple[Path, Path]:
    """Pairs as those of spider_space, and Chu's layout, of small phantoms."""
    values = np.zeros(256, np.uint8)
    values[[s.label for s in STRUCTURES]] = [SPACE.get(s.kind, 0) for s in STRUCTURES]
    for number in range(2):
        exam = small_phantoms.exam(number, seed=1, slices=15)
        labels = Volume(values[exam.labels.array], exam.labels.affine)
        io.write_image(exam.image, root / "space" / f"{number}_image.nii.gz")
        io.write_labels(labels, root / "space" / f"{number}_labels.nii.gz", ())
    complete = filter(layout.is_usable, (small_phantoms.exam(number, seed=2, bodies=8) for number in count()))
    layout.write(root / "chu", islice(complete, 2), np.random.default_rng(0), False)
    return root / "space", root / "chu"


def copies(root: Path, real: Path) -> tuple[Path, Path]:
    """Two exams of each."""
    paths = sorted((real / "spider_space" / "train").glob("*.nii.gz"))[:4]
    paths += [path for path in sorted((real / "chu").glob("*.nii.gz")) if path.name.startswith(CHU)]
    for path in paths:
        target = root / path.relative_to(real).parts[0] / path.name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    return root / "spider_space", root / "chu"


@pytest.fixture(scope="module", params=["replicas", pytest.param("real", marks=pytest.mark.slow)])
def datasets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """Whole vertebrae, discs and canal; bodies alone; and everything."""
    root = tmp_path_factory.mktemp(request.param)
    real = request.param == "real"
    space, bodies = copies(root, request.getfixturevalue("real")) if real else replicas(root)
    imported = [
        import_source(paired_files.make_importer(SPIDER_TABLE), space, root / "a", jobs=1, val_fraction=0.0),
        import_source(chu.IMPORTER, bodies, root / "b", jobs=1, val_fraction=0.0),
    ]
    assert [(len(done.added), done.refused) for done in imported] == [(2, {}), (2, {})]
    create_dataset(root / "c", "phantoms", {0: ("background",), **{s.label: (s.name,) for s in STRUCTURES}})
    for exam in small_phantoms.exams(2, seed=3):
        write_case(root / "c", exam.name, exam.image, exam.labels, {"patient": exam.name})
    return [*(done.dataset for done in imported), Dataset.open(root / "c")]


def test_they_train_one_network(datasets: list[Dataset], tmp_path: Path) -> None:
    path = train(QUICK, datasets, tmp_path / "run")
    assert Checkpoint.load(path).step == QUICK.steps


def test_without_disc_annotation_disc_or_background_has_no_gradient(datasets: list[Dataset]) -> None:
    data = load_training_data(QUICK, datasets, PreprocessingSpec())
    sets = LabelSets.from_allowed(torch.from_numpy(data.codec.allowed))
    _, codes = make_batch(VolumeSampler.from_volumes(data.train, ()), QUICK, 0)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(len(codes), len(CLASSES), *codes.shape[1:], generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(segmentation_loss(logits, codes.long(), sets, QUICK.dice_weight), logits)
    share = logits.detach().softmax(1)
    ground, disc = CLASSES.index(Kind.BACKGROUND), CLASSES.index(Kind.DISC)
    slope = (gradient[:, ground] / share[:, ground] - gradient[:, disc] / share[:, disc]).abs()
    allowed = sets.allowed[codes.long()]
    either = allowed[..., ground] & allowed[..., disc] & (codes != 0)
    neither = allowed[..., ground] & ~allowed[..., disc]
    assert either.any() and slope[either].max() < 1e-12
    assert neither.any() and slope[neither].min() > 1e-9
    code = data.codec.lookup_table(datasets[1].cases()[0].label_table)[0]
    assert {Kind.BACKGROUND, Kind.DISC} <= data.codec.allowed_sets[code]
    assert (codes == int(code)).any()
