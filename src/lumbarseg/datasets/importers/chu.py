"""CHU (Zenodo 22304): T2 exams with one tag for the seven vertebral bodies T11 to L5.

Their headers hold an identity and so say right, anterior, up; the voxels lie left, posterior, up. That is found from
the anatomy of each exam, not believed of the data set, so a copy that was put right is left alone.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import LEVELS, Kind, by_name, column
from lumbarseg.datasets.anatomy_axes import Judgement, facing
from lumbarseg.datasets.folder import Table
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array, Volume

from .pair import TRAPS as PAIR
from .pair import half_pairs, read_pair
from .raw import Found, Importer, Raw, Read

BODIES = tuple(column("L5", 7))
"""What the tag holds, from the lowest up."""

_ABOVE = tuple(level for level in LEVELS if level.startswith("T") and level not in BODIES)
_UNDRAWN = (Kind.BACKGROUND, Kind.DISC, Kind.CANAL, Kind.SACRUM, Kind.ARCH)
TABLE: Table = {0: (*(kind.value for kind in _UNDRAWN), *_ABOVE), **{by_name(n).label: (n,) for n in BODIES}}

TRAPS = PAIR | {
    "axis": "the header reverses axes, as the anatomy shows; corrected. Left and right cannot be verified",
    "unsure": "the anatomy does not tell which way an axis points; left as the header says",
    "touching": "neighbouring bodies were drawn as one; cut where the tag is narrow",
    "speck": "voxels of the tag apart from every body; left out",
}

_PIECE = 0.25  # of the usual body's size: less is no body
_OPENINGS = 4  # voxels by which the tag is shrunk at most until its bodies come apart
_APART = 3.0  # mm from every body: a speck, not a part of one
_NAME = re.compile(r"Img_?0*(\d+)(_Labels)?\.nii(\.gz)?", re.IGNORECASE)


def find(source: Path) -> Found:
    """The exams `Img_NN.nii` with `Img_NN_Labels.nii` beside them, compressed or not, in the folder or one below."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    doubles: dict[str, str] = {}
    for path in sorted((*source.glob("*.nii*"), *source.glob("*/*.nii*"))):
        if match := _NAME.fullmatch(path.name):
            name = f"Img_{int(match[1]):02d}"
            group = masks if match[2] else images
            if name in group:
                doubles[name] = f"{path}: there is {group[name].name} of the same number; keep one of them"
            group[name] = path
    if not images:
        raise DatasetError(f"{source}: holds no Img_NN.nii; give the folder with the files of Zenodo record 22304")
    good = sorted((images.keys() & masks.keys()) - doubles.keys())
    raws = [Raw(name, name[4:], (images[name], masks[name]), "T2", "Siemens 1.5 T") for name in good]
    return Found(tuple(raws), (*half_pairs(images, masks), *sorted(doubles.items())))


def read(raw: Raw) -> Read:
    """One exam with its bodies named and its axes put right; DatasetError when the tag does not hold seven bodies."""
    path = raw.files[1]
    image, tag, warnings = read_pair(*raw.files)
    values = np.flatnonzero(np.bincount(tag.array.ravel(order="K")))
    if len(values) != 2 or values[0] != 0:
        told = ", ".join(map(str, values[:6]))
        raise DatasetError(f"{path}: holds the values {told}; one tag on a background of 0 is expected")
    bodies, notes = _separate(tag, path)
    judged = facing(image, bodies, {0: ("background",), **dict.fromkeys(range(1, len(BODIES) + 1), ("body",))})
    affine, told_axes = _turned(image.affine, judged)
    image, bodies = Volume(image.array, affine), Volume(bodies.array, affine)
    labels, order = _named(bodies)
    warnings += [note.format(*order) for note in notes] + told_axes
    return Read(image, labels, warnings=tuple(warnings), about={"axes_judged_by": list(judged.reasons)})


def _separate(tag: Volume, path: Path) -> tuple[Volume, list[str]]:
    """The tag's bodies, numbered from 1; notes name a body as {number - 1}. No voxel of the tag near them is lost."""
    mask = tag.array > 0
    pieces, count = ndimage.label(mask)
    for width in range(_OPENINGS):
        opened = ndimage.binary_opening(mask, iterations=width) if width else mask
        cores, number = ndimage.label(opened)
        sizes = np.bincount(cores.ravel(), minlength=number + 1)[1:]
        usual = np.median(np.sort(sizes)[-len(BODIES) :]) if number else 0
        large = np.flatnonzero(sizes >= _PIECE * usual) + 1
        if len(large) >= len(BODIES):
            break
    if len(large) != len(BODIES):
        raise DatasetError(
            f"{path}: its tag shows {len(large)} bodies, {len(BODIES)} are expected; look at it, separate or "
            "complete the bodies"
        )
    numbers = np.zeros(number + 1, np.uint8)
    numbers[large] = np.arange(1, len(large) + 1)
    return _given_back(numbers[cores], pieces, count, tag)


def _given_back(cores: Array, pieces: Array, count: int, tag: Volume) -> tuple[Volume, list[str]]:
    """Voxels that opening took go to their piece's own body, or to the nearest where a piece holds several."""
    if count == cores.max() and np.array_equal(pieces > 0, cores > 0):
        return Volume(cores, tag.affine), []
    distance, nearest = ndimage.distance_transform_edt(cores == 0, sampling=tag.grid.spacing, return_indices=True)
    out = np.where(pieces > 0, cores[tuple(nearest)], 0).astype(np.uint8)
    notes, specks = [], 0
    for piece, box in enumerate(ndimage.find_objects(pieces), start=1):
        here = pieces[box] == piece
        held = np.unique(cores[box][here])
        held = held[held > 0]
        if len(held) == 1:
            out[box][here] = held[0]
        elif len(held) > 1:
            names = " and ".join(f"{{{number - 1}}}" for number in held)
            notes.append(f"touching: {names} were drawn as one piece; cut where it is narrow")
        elif distance[box][here].min() > _APART:
            out[box][here] = 0
            specks += int(here.sum())
    if specks:
        notes.append(f"speck: {specks} voxels of the tag lie apart from every body; left out")
    return Volume(out, tag.affine), notes


def _turned(affine: Array, judged: Judgement) -> tuple[Array, list[str]]:
    """The affine with what is reversed put right, keeping the exam from being a mirror image, and what to say.

    One reversed axis alone would mirror the patient, so right and left turn with it.
    """
    names = ("front and back", "head and feet")
    verdicts = (judged.front_back, judged.up_down)
    signs = np.array([1.0, *(-1.0 if verdict < 0 else 1.0 for verdict in verdicts), 1.0])
    signs[0] = signs[1] * signs[2]
    warnings = []
    wrong = [name for name, verdict in zip(names, verdicts, strict=True) if verdict < 0]
    if wrong:
        mirrored = ", and left and right with them (they cannot be verified)" if signs[0] < 0 else ""
        warnings.append(f"axis: the header reverses {' and '.join(wrong)}, as the anatomy shows; corrected{mirrored}")
    unsure = [name for name, verdict in zip(names, verdicts, strict=True) if verdict == 0]
    if unsure:
        warnings.append(f"unsure: {' and '.join(unsure)} cannot be told from the anatomy; left as the header says")
    return np.diag(signs) @ affine, warnings


def _named(bodies: Volume) -> tuple[Volume, list[str]]:
    """Numbers as label values, from the lowest body up, and the level of each number."""
    voxels = np.nonzero(bodies.array)
    of, height = bodies.array[voxels], bodies.grid.to_world(np.stack(voxels, axis=1))[:, 2]
    centres = np.bincount(of, height)[1:] / np.bincount(of)[1:]
    rank = np.argsort(np.argsort(centres))
    levels = [BODIES[place] for place in rank]
    lut = np.array([0, *(by_name(level).label for level in levels)], np.uint8)
    return Volume(lut[bodies.array], bodies.affine), levels


IMPORTER = Importer(
    name="chu",
    table=TABLE,
    citation="Chu et al., PLoS ONE 10(11):e0143327, 2015; Zenodo 22304",
    licence="Zenodo record; confirm before redistribution",
    find=find,
    read=read,
)
