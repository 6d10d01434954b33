"""Small prepared datasets of squares, to test everything about training but its result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lumbarseg.datasets import Dataset, create_dataset, write_case
from lumbarseg.volume import Volume

TABLE: dict[int, tuple[str, ...]] = {
    0: ("background",),
    1: ("body",),
    2: ("disc",),
    3: ("canal",),
    4: ("sacrum",),
    5: ("arch",),
}
COMPLETE_VERTEBRAE: dict[int, tuple[str, ...]] = {
    0: ("background", "sacrum"),
    1: ("body", "arch"),
    2: ("disc",),
    3: ("canal",),
    9: ("unknown",),
}


def exam(seed: int, values: int = 6, shape: tuple[int, int, int] = (6, 48, 56)) -> tuple[Volume, Volume]:
    """Return an image and its labels 0..values-1 in squares; the brightness of a square depends on its label."""
    rng = np.random.default_rng(seed)
    squares = rng.integers(0, values, (1, shape[1] // 8, shape[2] // 8)).repeat(8, 1).repeat(8, 2)
    labels = np.broadcast_to(squares, shape).astype(np.uint8)
    image = (100 + 150 * labels + rng.normal(0, 10, shape)).astype(np.float32)
    affine = np.diag([4.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -10, -20, 30
    return Volume(image, affine), Volume(labels, affine)


def write(
    folder: Path, train: int = 3, val: int = 1, table: Mapping[int, tuple[str, ...]] = TABLE, seed: int = 0
) -> Dataset:
    """Write a dataset with `train` and `val` cases."""
    create_dataset(folder, folder.name, table)
    values = min(set(range(256)) - set(table))
    for i in range(train + val):
        split = "train" if i < train else "val"
        facts = {"patient": f"p{i}", "split": split, "licence": "CC BY 4.0", "source": "blobs"}
        write_case(folder, f"case-{i}", *exam(seed + i, values), facts)
    return Dataset.open(folder)
