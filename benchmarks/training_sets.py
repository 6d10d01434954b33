"""Real exams that may train, with honest label sets: python -m benchmarks.training_sets REAL OUT [--limit N].

Writes OUT/spider_space, OUT/spider_t2, OUT/spider_slices, OUT/sudirman and OUT/spider_mid for `lumbarseg import folder
OUT/NAME DATA --table OUT/NAME/labels.json` (spider_mid has no labels, for `lumbarseg pseudo-label`). What a source
did not annotate is unknown there, never background. A patient of a test set stops the command.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from benchmarks.accuracy import LABEL_TABLES
from lumbarseg.anatomy import Kind, arch_of_level, structure_by_name

TEST_PATIENTS = frozenset(
    (5, 8, 25, 50, 62, 98, 106, 110, 116, 117, 133, 142, 152, 163, 177, 190, 200, 215, 220, 234, 256)
)
"""SPIDER patients that must never train, in whichever copy of SPIDER they lie."""
COMPLETE_SETS = ("spider_space", "spider_t2")
"""Sets whose labels are used as they are."""
UNDECIDED = 99
_TOP_MARGIN_MM = 5.0  # below the top of the highest annotated vertebra; whatever lies above is not annotated
_RIM_PIXELS = {"sudirman": 1}  # polygons, 0.92 Dice against exact masks: their borders are undecided
_S1 = 30
_ABOVE_T12 = 60
_LUMBAR = {1: "L1", 2: "L2", 3: "L3", 4: "L4", 5: "L5"}

Table = dict[int, tuple[str, ...]]


def label_tables() -> dict[str, Table]:
    """Return what each value of the written label maps may be, by set."""
    sudirman: Table = {value: (level,) for value, level in _LUMBAR.items()}
    sudirman |= {
        0: (Kind.BACKGROUND.value, Kind.DISC.value, Kind.CANAL.value, Kind.SACRUM.value, Kind.ARCH.value),
        _S1: (Kind.SACRUM.value,),
        UNDECIDED: ("unknown",),
    }
    levels = {**_LUMBAR, structure_by_name("T12").label: "T12"}
    spider: Table = {value: (level, arch_of_level(level).name) for value, level in levels.items()}
    spider |= {
        0: (Kind.BACKGROUND.value, Kind.DISC.value, Kind.CANAL.value, Kind.SACRUM.value),
        _ABOVE_T12: (Kind.BODY.value, Kind.ARCH.value),
        UNDECIDED: ("unknown",),
    }
    return {"sudirman": sudirman, "spider_slices": spider}


def spider_patient(path: Path) -> int:
    """Return the patient's number from the name of a SPIDER file, such as 089_04_image.nii.gz or 12_t1_image.nii.gz."""
    return int(path.name.split("_")[0])


def refuse_test_patients(files: list[Path]) -> None:
    """Raise ValueError where a SPIDER file is of a patient of a test set."""
    for path in files:
        if spider_patient(path) in TEST_PATIENTS:
            raise ValueError(f"{path}: patient {spider_patient(path)} is in a test set and must not train")


def mark_undecided(labels: np.ndarray, affine: np.ndarray, rim: int) -> np.ndarray:
    """Return a label map in which undecided voxels have the value `UNDECIDED`.

    Parameters
    ----------
    labels : (I, J, K) uint8, one slice in any order of axes
    affine : (4, 4) to RAS+ mm
    rim : pixels on either side of each border that are undecided
    """
    out = labels.copy()
    if rim:
        neighbours = tuple(2 * rim + 1 if size > 1 else 1 for size in labels.shape)
        out[ndimage.maximum_filter(labels, neighbours) != ndimage.minimum_filter(labels, neighbours)] = UNDECIDED
    indices = np.indices(labels.shape).reshape(3, -1)
    height = (affine[2, :3] @ indices + affine[2, 3]).reshape(labels.shape)
    vertebrae = (labels > 0) & (labels != _S1)
    out[(height > height[vertebrae].max() - _TOP_MARGIN_MM) & ~vertebrae] = UNDECIDED
    return out


def write_training_sets(real: Path, out: Path, limit: int | None = None) -> None:
    """Write the five sets below `out`; limit: number of exams of each."""
    tables = label_tables()
    for name in (*COMPLETE_SETS, *tables):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        if name in tables:
            (folder / "labels.json").write_text(json.dumps(tables[name], indent=1))
        else:
            shutil.copy(LABEL_TABLES / f"{name}.json", folder / "labels.json")
        for image in _training_images(real / name / "train", name)[:limit]:
            label_file = image.with_name(image.name.replace("_image.", "_labels."))
            shutil.copy(image, folder / image.name)
            if name in tables:
                labels, rim = nib.load(label_file), _RIM_PIXELS.get(name, 0)
                array = mark_undecided(np.asarray(labels.dataobj).astype(np.uint8), labels.affine, rim)
                nib.save(nib.Nifti1Image(array, labels.affine), folder / label_file.name)
            else:
                shutil.copy(label_file, folder / label_file.name)
    unlabelled = _images(real / "spider_mid")
    (out / "spider_mid").mkdir(exist_ok=True)
    for image in [path for path in unlabelled if spider_patient(path) not in TEST_PATIENTS][:limit]:
        shutil.copy(image, out / "spider_mid" / image.name)


def _images(folder: Path) -> list[Path]:
    images = sorted(folder.glob("*_image.nii.gz"))
    if not images:
        raise SystemExit(f"{folder}: holds no *_image.nii.gz; give the folder of the real exams")
    return images


def _training_images(folder: Path, name: str) -> list[Path]:
    images = _images(folder)
    if name.startswith("spider"):
        refuse_test_patients(images)
    return images


def main() -> None:
    """Write the sets and print how many exams each has."""
    parser = argparse.ArgumentParser(prog="benchmarks.training_sets", description=__doc__)
    parser.add_argument("real", type=Path, help="the folder of real exams")
    parser.add_argument("out", type=Path, help="where the sets go")
    parser.add_argument("--limit", type=int, help="only the first exams of each set")
    args = parser.parse_args()
    write_training_sets(args.real, args.out, args.limit)
    for folder in sorted(path for path in args.out.iterdir() if path.is_dir()):
        print(f"{folder}: {len(list(folder.glob('*_image.nii.gz')))} exams")


if __name__ == "__main__":
    main()
