"""Named instances as a label map on the exam's own grid, and the checks that every such map must pass."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lumbarseg import anatomy
from lumbarseg.anatomy import Kind
from lumbarseg.errors import SegmentError
from lumbarseg.preprocessing import PreparedImage, classes_on_source_grid, nearest_network_voxels
from lumbarseg.volume import Array

from .centerline import ARCH, BODY, CANAL, DISC, SACRUM
from .instances import Instances
from .levels import disc_names
from .orientation import Flips, flip_axes


def classes_on_exam_grid(
    probabilities: Array,
    prepared: PreparedImage,
    flips: Flips,
    changed: Array | None = None,
    previous: Array | None = None,
) -> Array:
    """(I, J, K) uint8, the class of each voxel on the exam's own grid, from probabilities interpolated to it.

    where, before: after a change of the scores, (slices, A, S) bool where they changed and the classes before.
    """
    return classes_on_source_grid(
        flip_axes(probabilities, flips), prepared, None if changed is None else flip_axes(changed, flips), previous
    )


def render_label_map(
    exam_classes: Array, instances: Instances, names: tuple[str, ...], prepared: PreparedImage, flips: Flips
) -> Array:
    """(I, J, K) uint8 labels on the exam's own grid; tissue: its classes there, which get the name of the nearest
    instance.
    """
    named = np.zeros((len(anatomy.CLASSES), *prepared.grid.shape), np.uint8)
    for kind, label in labels_on_network_grid(instances, names).items():
        named[kind] = flip_axes(_dilate_labels(label), flips)
    out = np.zeros(exam_classes.shape, np.uint8)
    inside = np.nonzero(exam_classes)
    out[inside] = named[(exam_classes[inside], *nearest_network_voxels(inside, prepared))]
    return out


def labels_on_network_grid(instances: Instances, names: tuple[str, ...]) -> dict[int, Array]:
    """Per tissue class, (slices, A, S) uint8 labels of structures on the network's grid, as `paint` spreads them."""
    return {kind: values[numbers] for kind, numbers, values in _label_tables(instances, names)}


def _label_tables(found: Instances, names: tuple[str, ...]) -> list[tuple[int, Array, Array]]:
    """Per tissue: the class, a map of instance numbers, and the label of each number."""
    bodies = [anatomy.structure_by_name(level).label for level in names]
    arches = [anatomy.arch_of_level(level).label for level in names]
    discs = [anatomy.structure_by_name(disc).label if disc else 0 for disc in disc_names(found, names)]
    sacrum, canal = anatomy.labels_of_kind(Kind.SACRUM)[0], anatomy.labels_of_kind(Kind.CANAL)[0]
    # what was taken for the top of a sacral body keeps its place as sacrum; background inside a structure stays
    stray = ((found.bodies == 0) & found.sacrum).astype(np.uint8)
    return [
        (BODY, np.where(stray > 0, len(names) + 1, found.bodies), np.array([0, *bodies, sacrum], np.uint8)),
        (DISC, found.discs, np.array([0, *discs], np.uint8)),
        (ARCH, found.arches, np.array([0, *arches], np.uint8)),
        (SACRUM, found.sacrum.astype(np.uint8), np.array([0, sacrum], np.uint8)),
        (CANAL, found.canal.astype(np.uint8), np.array([0, canal], np.uint8)),
    ]


def _dilate_labels(labels: Array) -> Array:
    """Labels grown by two pixels in plane and into the next slices: the exam's finer grid reaches a little further."""
    out: Array = labels.astype(np.uint8)
    (box,) = ndimage.find_objects((labels > 0).astype(np.uint8)) or (None,)
    if box is None:
        return out
    inside = out[tuple(slice(max(0, side.start - 2), side.stop + 2) for side in box)]  # a view
    grown = ndimage.grey_dilation(inside, size=(3 if len(labels) > 1 else 1, 5, 5))
    np.copyto(inside, grown, where=inside == 0)
    return out


def keep_kinds(labels: Array, kinds: frozenset[Kind]) -> Array:
    """labels: (I, J, K) uint8, with background for structures of any other kind."""
    keep = np.zeros(256, np.uint8)
    for structure in anatomy.STRUCTURES:
        keep[structure.label] = structure.label if structure.kind in kinds else 0
    return labels if kinds >= set(anatomy.CLASSES[1:]) else keep[labels]


def rename_levels(labels: Array, instances: Instances, names: tuple[str, ...], new_names: tuple[str, ...]) -> Array:
    """labels: (I, J, K) uint8 painted with `names`, as if painted with `others`; a disc that had no name stays away."""
    table = np.arange(256, dtype=np.uint8)
    for (_, _, old), (_, _, new) in zip(
        _label_tables(instances, names), _label_tables(instances, new_names), strict=True
    ):
        table[old[old > 0]] = new[old > 0]
    return table[labels]


def check_level_order(labels: Array) -> None:
    """Every vertebra between two named ones is there, and above the next one; SegmentError names what is not.

    labels: (I, J, K) uint8. A structure has one name because a label map has one value per voxel; this looks at order.
    """
    present = [s for s in anatomy.STRUCTURES if s.kind is Kind.BODY and (labels == s.label).any()]
    ranks = [anatomy.LEVELS.index(s.name) for s in present]
    if ranks and ranks[-1] - ranks[0] + 1 != len(ranks):
        have = ", ".join(s.name for s in present)
        raise SegmentError(f"the answer would have a gap in its order ({have}); please report this exam")
