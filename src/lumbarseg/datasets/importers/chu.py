"""CHU (Zenodo 22304): T2 exams with one tag for the seven vertebral bodies T11 to L5.

Their headers hold an identity matrix and so mean right, anterior, superior; the voxels lie left, posterior, superior.
This is estimated from the anatomy of each exam, so a corrected copy is left unchanged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import LUMBAR_LEVELS, Kind, levels_upward, structure_by_name
from lumbarseg.components import Components, connected_components, label_boxes
from lumbarseg.errors import DatasetError
from lumbarseg.volume import Array, Volume

from .. import orientation
from ..label_table import LabelTable
from ..schemes import unannotated_names
from . import source_labels
from .file_pairs import find_pairs
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .source_labels import instance_centers, load_single_tag

BODIES = tuple(levels_upward(LUMBAR_LEVELS[-1], 7))
"""The bodies in the tag, from the lowest upward."""

_BODY_ROWS: LabelTable = {structure_by_name(level).label: (level,) for level in BODIES}
LABEL_TABLE: LabelTable = {0: unannotated_names(_BODY_ROWS.values()), **_BODY_ROWS}

CITATION = "Chu et al., PLoS ONE 10(11):e0143327, 2015; Zenodo 22304"
LICENCE = "Zenodo record; confirm before redistribution"
KNOWN_FAULTS = {
    **source_labels.KNOWN_FAULTS,
    **orientation.KNOWN_FAULTS,
    "touching": "neighbouring bodies were annotated as one; separated where the tag is narrow",
    "speck": "voxels of the tag away from every body; left out",
}

_BODY_FRACTION = 0.25  # of the usual body's size: less is no body
_MAX_OPENINGS = 3  # voxels by which the tag is eroded at most until its bodies separate
_SPECK_DISTANCE = 10.0  # mm from every body: a speck, not a part of one
_STEP_RANGE = (0.55, 1.6)  # of the usual distance between neighbours
_IMAGES, _LABELS = "**/Img_{name:[0-9][0-9]}", "**/Img_{name:[0-9][0-9]}_Labels"


def list_cases(source: Path) -> SourceListing:
    """List the exams `Img_NN.nii` with `Img_NN_Labels.nii` beside them, compressed or not, in any subfolder."""
    not_found = "holds no Img_NN.nii with Img_NN_Labels.nii; give the folder with the files of Zenodo 22304"
    pairs, refused = find_pairs(source, _IMAGES, _LABELS, not_found)
    cases = [SourceCase(f"Img_{number}", number, paths, "T2", "Siemens 1.5 T") for number, paths in pairs.items()]
    return SourceListing(tuple(cases), tuple((f"Img_{number}", reason) for number, reason in refused))


def load_case(case: SourceCase) -> LoadedCase:
    """Load one exam with named bodies and corrected axes; DatasetError if the mask does not hold seven."""
    return load_single_tag(case, Kind.BODY, BODIES, _separate_bodies)


def _separate_bodies(tag: Volume, path: Path) -> tuple[Volume, list[str]]:
    """Return the tag's bodies numbered from 1, and warnings, in which {n} stands for the level of body n + 1.

    Where bodies touch, the tag is opened until they separate; the removed voxels are given back.
    """
    mask = tag.array > 0
    components = connected_components(mask)
    cores, numbers = components, _number_large_components(components)
    first_count = width = 0
    while numbers.max() != len(BODIES):
        first_count, width = first_count or int(numbers.max()), width + 1
        if width > _MAX_OPENINGS or first_count > len(BODIES):
            raise DatasetError(
                f"{path}: its tag shows {first_count} bodies, {len(BODIES)} are expected; "
                "check it, and separate or complete the bodies"
            )
        cores = connected_components(ndimage.binary_opening(mask, iterations=width))
        numbers = _number_large_components(cores)
    bodies, warnings = _restore_opened_voxels(numbers.astype(np.uint8)[cores.numbers], components, tag)
    _check_distances(bodies, path)
    return bodies, warnings


def _number_large_components(components: Components) -> Array:
    """Return a number from 1 for each component large enough for a body, 0 for the others, (count + 1,)."""
    sizes = components.sizes
    usual = float(np.median(np.sort(sizes[1:])[-len(BODIES) :])) if components.count else 0.0
    is_large = sizes >= max(1.0, _BODY_FRACTION * usual)
    return np.where(is_large, np.cumsum(is_large), 0)


def _restore_opened_voxels(bodies: Array, components: Components, tag: Volume) -> tuple[Volume, list[str]]:
    """Give removed voxels back to the body of their component, or to the nearest where it holds several bodies."""
    if components.count == bodies.max() and np.array_equal(components.numbers > 0, bodies > 0):
        return Volume(bodies, tag.affine), []
    distance, nearest = ndimage.distance_transform_edt(bodies == 0, sampling=tag.grid.spacing, return_indices=True)
    restored = np.where(components.numbers > 0, bodies[tuple(nearest)], 0).astype(np.uint8)
    warnings, specks = [], 0
    for component, box in label_boxes(components.numbers).items():
        mask = components.numbers[box] == component
        members = np.unique(bodies[box][mask])
        members = members[members > 0]
        if len(members) == 1:
            restored[box][mask] = members[0]
        elif len(members) > 1:
            names = " and ".join(f"{{{number - 1}}}" for number in members)
            warnings.append(f"touching: {names} were annotated as one; separated where the tag is narrow")
        elif distance[box][mask].min() > _SPECK_DISTANCE:
            restored[box][mask] = 0
            specks += int(mask.sum())
    if specks:
        warnings.append(f"speck: {specks} voxels of the tag lie away from every body; left out")
    return Volume(restored, tag.affine), warnings


def _check_distances(bodies: Volume, path: Path) -> None:
    """Raise DatasetError when the bodies are not as evenly spaced as in a spine."""
    centers = instance_centers(bodies)
    steps = np.linalg.norm(np.diff(centers[np.argsort(centers[:, 2])], axis=0), axis=1)
    usual = np.median(steps)
    if steps.min() < _STEP_RANGE[0] * usual or steps.max() > _STEP_RANGE[1] * usual:
        distances = ", ".join(f"{step:.0f}" for step in steps)
        raise DatasetError(
            f"{path}: its {len(BODIES)} bodies lie {distances} mm apart, impossible in a spine; "
            "is one missing or cut in two?"
        )


IMPORTER = Importer("chu", LABEL_TABLE, CITATION, LICENCE, list_cases, load_case, KNOWN_FAULTS)
