"""Write phantoms into a prepared dataset, with several processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from lumbarseg.datasets import Case, Dataset, add_cases, create_dataset, write_case_files
from lumbarseg.datasets.schemes import SCHEMES
from lumbarseg.errors import DatasetError
from lumbarseg.executors import local_executor
from lumbarseg.io import atomic_write

from .recipe import sample_recipe
from .rendering import render_phantom
from .shape_sources import read_shapes

_SAVE_INTERVAL_S = 20.0  # between two updates of dataset.json


def write_phantoms(
    folder: Path,
    seed: int,
    numbers: Iterable[int],
    jobs: int | None = None,
    report: Callable[[str, int], None] | None = None,
    shapes: Path | None = None,
) -> tuple[int, int]:
    """Write the phantoms that a dataset does not have yet; an interrupted call keeps those that are finished.

    Parameters
    ----------
    folder : of the dataset, created if it does not exist
    seed, numbers : which phantoms; number K of seed S is always the same exam
    jobs : processes, by default one per core
    report : is called after each case with its name and the number of cases to write
    shapes : folder of real vertebrae that replace the procedural ones, see `read_shapes`

    Returns
    -------
    number of new cases, number of cases in the dataset
    """
    existing = {case.name for case in _open_or_create_dataset(folder).cases()}
    missing = [number for number in numbers if case_name(seed, number) not in existing]
    unsaved: list[Case] = []
    saved_at = time.monotonic()
    try:
        task = partial(write_phantom, folder, seed, shapes)
        for case in local_executor(jobs, len(missing)).map(task, missing):
            unsaved.append(case)
            if time.monotonic() - saved_at > _SAVE_INTERVAL_S:
                add_cases(folder, unsaved)
                unsaved, saved_at = [], time.monotonic()
            if report:
                report(case.name, len(missing))
    finally:
        if unsaved:
            add_cases(folder, unsaved)
    return len(missing), len(Dataset.open(folder).cases())


def write_phantom(folder: Path, seed: int, shapes: Path | None, number: int) -> Case:
    """Write the files of one phantom, without adding it to `dataset.json`."""
    name = case_name(seed, number)
    library = read_shapes(shapes) if shapes else None
    recipe = sample_recipe(np.random.default_rng([seed, number]), shape_sources=library.sources if library else ())
    phantom = render_phantom(recipe, library)
    with atomic_write(folder / "recipes" / f"{name}.json") as file:
        file.write(json.dumps(recipe.to_dict()).encode())
    metadata = {
        "patient": name,
        "contrast": phantom.ground_truth["sequence"],
        "source": "lumbarseg phantom",
        "licence": "none needed: synthetic",
        "recipe": f"recipes/{name}.json",
        "truth": phantom.ground_truth,
    }
    return write_case_files(Dataset.open(folder), name, phantom.image, phantom.labels, metadata)


def case_name(seed: int, number: int) -> str:
    """Return the name of a phantom."""
    return f"phantom-{seed}-{number:05d}"


def _open_or_create_dataset(folder: Path) -> Dataset:
    if not (folder / "dataset.json").exists():
        return create_dataset(folder, folder.name or "phantoms", SCHEMES["default"])
    dataset = Dataset.open(folder)
    if dataset.label_table != SCHEMES["default"]:
        raise DatasetError(f"{folder}: a dataset with another label table; choose another folder for phantoms")
    return dataset
