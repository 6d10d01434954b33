"""The smallest importer there can be: NAME.nii.gz beside NAME_labels.nii.gz, the patient before the first dash."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from tests import sets

from lumbarseg import io
from lumbarseg.datasets.importers.importer import Importer, LoadedCase, SourceCase, SourceListing
from lumbarseg.errors import DatasetError


def write(folder: Path, names: list[str], shape: tuple[int, int, int] = (3, 16, 24)) -> Path:
    for seed, name in enumerate(names):
        image, labels = sets.exam(seed, shape=shape)
        io.write_image(image, folder / f"{name}.nii.gz")
        io.write_labels(labels, folder / f"{name}_labels.nii.gz", ())
    return folder


def find(source: Path) -> SourceListing:
    images = sorted(path for path in source.rglob("*.nii.gz") if not path.name.endswith("_labels.nii.gz"))
    if not images:
        raise DatasetError(f"{source}: no pairs NAME.nii.gz and NAME_labels.nii.gz in it")
    raws, refused = [], []
    for image in images:
        name = image.name.removesuffix(".nii.gz")
        labels = image.with_name(f"{name}_labels.nii.gz")
        if labels.exists():
            raws.append(SourceCase(name, name.partition("-")[0], (image, labels), "T2", metadata={"age": 40}))
        else:
            refused.append((name, f"{labels}: missing"))
    return SourceListing(tuple(raws), tuple(refused))


def read(raw: SourceCase, pause: float = 0.0) -> LoadedCase:
    time.sleep(pause)
    if pause:
        os.write(1, f"{os.getpid()}\n".encode())  # in one piece, whoever else writes
    image, labels = (io.read_image(raw.files[0]), io.read_labels(raw.files[1]))
    warnings = ("tilted: by 3 degrees",) if raw.name.endswith("tilted") else ()
    return LoadedCase(image, labels, warnings=warnings)


IMPORTER = Importer("pairs", sets.TABLE, "blobs", "CC BY 4.0", find, read)
SLOW = Importer("pairs", sets.TABLE, "blobs", "CC BY 4.0", find, partial(read, pause=0.2))
