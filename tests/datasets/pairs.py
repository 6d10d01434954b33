"""The smallest importer there can be: NAME.nii.gz beside NAME_labels.nii.gz, the patient before the first dash."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from tests import sets

from lumbarseg import files
from lumbarseg.datasets.importers.raw import Found, Importer, Raw, Read
from lumbarseg.errors import DatasetError


def write(folder: Path, names: list[str], shape: tuple[int, int, int] = (3, 16, 24)) -> Path:
    for seed, name in enumerate(names):
        image, labels = sets.exam(seed, shape=shape)
        files.write_image(image, folder / f"{name}.nii.gz")
        files.write_labels(labels, folder / f"{name}_labels.nii.gz", ())
    return folder


def find(source: Path) -> Found:
    images = sorted(path for path in source.rglob("*.nii.gz") if not path.name.endswith("_labels.nii.gz"))
    if not images:
        raise DatasetError(f"{source}: no pairs NAME.nii.gz and NAME_labels.nii.gz in it")
    raws, refused = [], []
    for image in images:
        name = image.name.removesuffix(".nii.gz")
        labels = image.with_name(f"{name}_labels.nii.gz")
        if labels.exists():
            raws.append(Raw(name, name.partition("-")[0], (image, labels), "T2", about={"age": 40}))
        else:
            refused.append((name, f"{labels}: missing"))
    return Found(tuple(raws), tuple(refused))


def read(raw: Raw, pause: float = 0.0) -> Read:
    time.sleep(pause)
    if pause:
        os.write(1, f"{os.getpid()}\n".encode())  # in one piece, whoever else writes
    image, labels = (files.read_image(raw.files[0]), files.read_labels(raw.files[1]))
    warnings = ("tilted: by 3 degrees",) if raw.name.endswith("tilted") else ()
    return Read(image, labels, warnings=warnings)


IMPORTER = Importer("pairs", sets.TABLE, "blobs", "CC BY 4.0", find, read)
SLOW = Importer("pairs", sets.TABLE, "blobs", "CC BY 4.0", find, partial(read, pause=0.2))
