"""Labels for what annotators left open: python -m benchmarks.complete_labels DATA OUT --teachers MODEL MODEL ...

DATA holds folders of NAME_image and NAME_labels with a labels.json (benchmarks.training_sets); images without labels
count as open everywhere. A voxel whose label allows several structures gets the one on which the teachers agree: their
mean probability, over flipped slices too, is at least 0.75, and interpolation does not change the class. Small
components and all other voxels stay open. The first teacher, the model of before, decides half; for the sacrum, which
it seldom sees, the others must agree instead. OUT is for `lumbarseg import folder`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.training_sets import UNDECIDED
from lumbarseg.anatomy import CLASSES, Kind, kinds_from_names
from lumbarseg.components import connected_components
from lumbarseg.inference import Model, predict
from lumbarseg.io import read_image, read_labels, write_labels
from lumbarseg.preprocessing import PreparedImage, classes_on_source_grid, labels_on_source_grid, preprocess
from lumbarseg.volume import Array, Volume

_MIN_PROBABILITY, _MIN_SACRUM_PROBABILITY = 0.75, 0.8
_MIN_AREA = 40.0  # mm2 of a component in one slice
_FIRST_VALUE = 200  # of the values that stand for one class
_BODY, _DISC, _SACRUM = (CLASSES.index(kind) for kind in (Kind.BODY, Kind.DISC, Kind.SACRUM))


def mean_probabilities(teachers: Sequence[Model], image: PreparedImage) -> Array:
    """Return the mean of the teachers, (classes, slices, A, S) float32; the first one counts half."""
    flipped = np.ascontiguousarray(image.array[::-1])
    each = [(predict(model, image.array) + predict(model, flipped)[:, ::-1]) / 2 for model in teachers]
    first, others = each[0], np.mean(each[1:], axis=0)
    mean = (first + others) / 2
    is_other_tissue = np.maximum(first[_BODY], first[_DISC]) >= 0.35
    is_sacrum = (others[_SACRUM] > _MIN_SACRUM_PROBABILITY) & ~is_other_tissue
    mean[:, is_sacrum] *= 0.1
    mean[_SACRUM, is_sacrum] = 0.9
    return np.asarray(mean / mean.sum(axis=0), np.float32)


def complete(labels: Array, table: dict[int, list[str]], probabilities: Array, image: PreparedImage) -> Array:
    """Return labels, (I, J, K) uint8, in which open voxels have the value of the class that the teachers agree on."""
    out = labels.copy()
    for value in np.unique(labels):
        classes = sorted(CLASSES.index(kind) for kind in kinds_from_names(table[int(value)]))
        if len(classes) == 1 or Kind.BACKGROUND not in kinds_from_names(table[int(value)]):
            continue
        allowed = np.full_like(probabilities, 1e-9)
        allowed[classes] = probabilities[classes]
        allowed /= allowed.sum(axis=0)
        most_probable = classes_on_source_grid(allowed, image)
        nearest = labels_on_source_grid(allowed.argmax(axis=0).astype(np.uint8), image)
        is_sure = labels_on_source_grid(allowed.max(axis=0), image) >= _MIN_PROBABILITY
        for number in classes:
            mask = (labels == value) & (most_probable == number) & (nearest == number) & is_sure
            out[_without_specks(mask, image) if number else mask] = _FIRST_VALUE + number
    return out


def _without_specks(mask: Array, image: PreparedImage) -> Array:
    components = connected_components(mask)
    slices = np.count_nonzero(mask.any(axis=(1, 2))) or 1
    area = np.prod(image.source_grid.spacing[1:]) / slices
    return mask & (components.sizes * area >= _MIN_AREA)[components.numbers]


def complete_folder(source: Path, target: Path, teachers: Sequence[Model]) -> None:
    """Write the completed pairs of one folder, and their label table."""
    target.mkdir(parents=True, exist_ok=True)
    table_file = source / "labels.json"
    rows = (
        json.loads(table_file.read_text()) if table_file.exists() else {"0": ["unknown"], str(UNDECIDED): ["unknown"]}
    )
    table = {int(value): names for value, names in rows.items()}
    table |= {_FIRST_VALUE + number: [kind.value] for number, kind in enumerate(CLASSES)}
    (target / "labels.json").write_text(json.dumps(table, indent=1))
    for path in sorted(source.glob("*_image.nii.gz")):
        label_file = path.with_name(path.name.replace("_image.", "_labels."))
        volume = read_image(path)
        labels = np.full(volume.array.shape, UNDECIDED, np.uint8)
        if label_file.exists():
            labels = read_labels(label_file).array
        image = preprocess(volume, teachers[0].card.spec)
        completed = complete(labels, table, mean_probabilities(teachers, image), image)
        write_labels(Volume(completed, volume.affine), target / label_file.name, ())
        shutil.copy(path, target / path.name)


def main() -> None:
    """Complete each folder."""
    parser = argparse.ArgumentParser(prog="benchmarks.complete_labels", description=__doc__)
    parser.add_argument("data", type=Path, help="folders of pairs, with labels.json")
    parser.add_argument("out", type=Path)
    parser.add_argument("--teachers", type=Path, nargs="+", required=True, help="the model of before, then others")
    args = parser.parse_args()
    teachers = [Model.load(path, "cpu") for path in args.teachers]
    for folder in sorted(path for path in args.data.iterdir() if path.is_dir()):
        complete_folder(folder, args.out / folder.name, teachers)
        print(folder.name)


if __name__ == "__main__":
    main()
