"""CHU (Zenodo 22304): T2 exams with one tag for the seven vertebral bodies T11 to L5.

Their headers hold an identity and so say right, anterior, up; the voxels lie left, posterior, up. That is found from
the anatomy of each exam, not believed of the data set, so a copy that was put right is left alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from lumbarseg import io
from lumbarseg.anatomy import LUMBAR_LEVELS, Kind, levels_upward, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array, Volume

from ..dataset import LabelTable, count_voxels
from ..orientation import OrientationEstimate, estimate_orientation
from ..schemes import unannotated_names
from . import label_grid
from .file_pairs import find_pairs
from .importer import Importer, LoadedCase, SourceCase, SourceListing

BODIES = tuple(levels_upward(LUMBAR_LEVELS[-1], 7))
"""What the tag holds, from the lowest up."""

_BODY_ROWS: LabelTable = {structure_by_name(level).label: (level,) for level in BODIES}
LABEL_TABLE: LabelTable = {0: unannotated_names(_BODY_ROWS.values()), **_BODY_ROWS}

KNOWN_FAULTS = {
    **label_grid.KNOWN_FAULTS,
    "axis": "the header reverses axes, as the anatomy shows; corrected. Left and right cannot be verified",
    "unsure": "the anatomy does not tell which way an axis points; left as the header says",
    "touching": "neighbouring bodies were drawn as one; cut where the tag is narrow",
    "speck": "voxels of the tag apart from every body; left out",
}

_BODY_FRACTION = 0.25  # of the usual body's size: less is no body
_MAX_OPENINGS = 3  # voxels by which the tag is shrunk at most until its bodies come apart
_SPECK_DISTANCE = 10.0  # mm from every body: a speck, not a part of one
_STEP_RANGE = (0.55, 1.6)  # of the usual distance between neighbours
_IMAGE, _LABELS = "**/Img_{name:[0-9][0-9]}", "**/Img_{name:[0-9][0-9]}_Labels"


def list_cases(source: Path) -> SourceListing:
    """The exams `Img_NN.nii` with `Img_NN_Labels.nii` beside them, packed or not, wherever they lie in the folder."""
    try:
        pairs, refused = find_pairs(source, _IMAGE, _LABELS)
    except DatasetError as error:
        raise DatasetError(
            f"{source}: holds no Img_NN.nii with Img_NN_Labels.nii; give the folder with the files of Zenodo 22304"
        ) from error
    raws = [SourceCase(f"Img_{number}", number, paths, "T2", "Siemens 1.5 T") for number, paths in pairs.items()]
    return SourceListing(tuple(raws), tuple((f"Img_{number}", reason.replace("**/", "")) for number, reason in refused))


def load_case(raw: SourceCase) -> LoadedCase:
    """One exam with its bodies named and its axes put right; DatasetError when the tag does not hold seven bodies."""
    path = raw.files[1]
    image = io.read_image(raw.files[0])
    tag, warnings = label_grid.labels_on_image_grid(io.read_labels(path), image, path)
    values = list(count_voxels(tag.array))
    if len(values) != 2 or values[0] != 0:
        told = ", ".join(map(str, values[:6]))
        raise DatasetError(f"{path}: holds the values {told}; one tag on a background of 0 is expected")
    bodies, notes = _separate_bodies(tag, path)
    judged = estimate_orientation(image, bodies, dict.fromkeys(range(1, len(BODIES) + 1), (Kind.BODY.value,)))
    affine, told_axes = corrected_affine(image.affine, judged)
    image, bodies = Volume(image.array, affine), Volume(bodies.array, affine)
    labels, order = _name_bodies(bodies, path)
    warnings = (*warnings, *(note.format(*order) for note in notes), *told_axes)
    return LoadedCase(image, labels, warnings=warnings, metadata={"axes_judged_by": list(judged.reasons)})


def _separate_bodies(tag: Volume, path: Path) -> tuple[Volume, list[str]]:
    """The tag's bodies, numbered from 1; notes name a body as {number - 1}. No voxel of the tag near them is lost."""
    mask = tag.array > 0
    pieces, count = ndimage.label(mask)
    cores, numbers = pieces, _number_large_components(pieces, count)
    seen = width = 0
    while numbers.max() != len(BODIES):
        seen, width = seen or int(numbers.max()), width + 1
        if width > _MAX_OPENINGS or seen > len(BODIES):
            raise DatasetError(
                f"{path}: its tag shows {seen} bodies, {len(BODIES)} are expected; look at it, separate or complete "
                "the bodies"
            )
        cores, found = ndimage.label(ndimage.binary_opening(mask, iterations=width))
        numbers = _number_large_components(cores, found)
    return _restore_opened_voxels(numbers.astype(np.uint8)[cores], pieces, count, tag)


def _number_large_components(cores: Array, count: int) -> Array:
    """(count + 1,) a number from 1 for each component that is large enough for a body, 0 for the others."""
    sizes = np.bincount(cores.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = (
        sizes >= max(1.0, _BODY_FRACTION * float(np.median(np.sort(sizes[1:])[-len(BODIES) :]))) if count else sizes > 0
    )
    return np.where(large, np.cumsum(large), 0)


def _restore_opened_voxels(cores: Array, pieces: Array, count: int, tag: Volume) -> tuple[Volume, list[str]]:
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
        elif distance[box][here].min() > _SPECK_DISTANCE:
            out[box][here] = 0
            specks += int(here.sum())
    if specks:
        notes.append(f"speck: {specks} voxels of the tag lie apart from every body; left out")
    return Volume(out, tag.affine), notes


def corrected_affine(affine: Array, estimate: OrientationEstimate) -> tuple[Array, list[str]]:
    """The affine with what is reversed put right, keeping the exam from being a mirror image, and what to say.

    One reversed axis alone would mirror the patient, so right and left turn with it.
    """
    names = ("front and back", "head and feet")
    verdicts = (estimate.anterior_posterior, estimate.superior_inferior)
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


def _name_bodies(bodies: Volume, path: Path) -> tuple[Volume, list[str]]:
    """Numbers as label values, from the lowest body up, and the level of each number; DatasetError when one lacks."""
    where = np.nonzero(bodies.array)
    of, places = bodies.array[where], bodies.grid.to_world(np.stack(where, axis=1))
    centres = np.stack([np.bincount(of, axis)[1:] / np.bincount(of)[1:] for axis in places.T], axis=1)
    upward = np.argsort(centres[:, 2])
    steps = np.linalg.norm(np.diff(centres[upward], axis=0), axis=1)
    if steps.min() < _STEP_RANGE[0] * np.median(steps) or steps.max() > _STEP_RANGE[1] * np.median(steps):
        told = ", ".join(f"{step:.0f}" for step in steps)
        raise DatasetError(
            f"{path}: its {len(BODIES)} bodies lie {told} mm apart, which no spine does; is one missing or cut in two?"
        )
    levels = [BODIES[place] for place in np.argsort(upward)]
    lut = np.array([0, *(structure_by_name(level).label for level in levels)], np.uint8)
    return Volume(lut[bodies.array], bodies.affine), levels


IMPORTER = Importer(
    name="chu",
    label_table=LABEL_TABLE,
    citation="Chu et al., PLoS ONE 10(11):e0143327, 2015; Zenodo 22304",
    licence="Zenodo record; confirm before redistribution",
    list_cases=list_cases,
    load_case=load_case,
)
