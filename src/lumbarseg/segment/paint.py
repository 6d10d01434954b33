"""Named instances as a label map on the exam's own grid, and the checks that every such map must pass."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from lumbarseg import anatomy
from lumbarseg.anatomy import Kind
from lumbarseg.errors import SegmentError
from lumbarseg.prepare import Prepared, nearest, restore_classes
from lumbarseg.volume import Array

from .column import ARCH, BODY, CANAL, DISC, SACRUM
from .instances import Instances
from .levels import disc_names
from .orientation import Flips, flipped


def tissues(
    scores: Array, prepared: Prepared, flips: Flips, where: Array | None = None, before: Array | None = None
) -> Array:
    """(I, J, K) uint8, the class of each voxel on the exam's own grid, from probabilities interpolated to it.

    where, before: after a change of the scores, (slices, A, S) bool where they changed and the classes before.
    """
    return restore_classes(flipped(scores, flips), prepared, None if where is None else flipped(where, flips), before)


def paint(tissue: Array, found: Instances, names: tuple[str, ...], prepared: Prepared, flips: Flips) -> Array:
    """(I, J, K) uint8 labels on the exam's own grid; tissue: its classes there, which get the name of the nearest
    instance.
    """
    named = np.zeros((len(anatomy.CLASSES), *prepared.grid.shape), np.uint8)
    for kind, label in placed(found, names).items():
        named[kind] = flipped(_spread(label), flips)
    out = np.zeros(tissue.shape, np.uint8)
    inside = np.nonzero(tissue)
    out[inside] = named[(tissue[inside], *nearest(inside, prepared))]
    return out


def placed(found: Instances, names: tuple[str, ...]) -> dict[int, Array]:
    """Per tissue class, (slices, A, S) uint8 labels of structures on the network's grid, as `paint` spreads them."""
    return {kind: values[numbers] for kind, numbers, values in _tables(found, names)}


def _tables(found: Instances, names: tuple[str, ...]) -> list[tuple[int, Array, Array]]:
    """Per tissue: the class, a map of instance numbers, and the label of each number."""
    bodies = [anatomy.by_name(level).label for level in names]
    arches = [anatomy.arch_of(level).label for level in names]
    discs = [anatomy.by_name(disc).label if disc else 0 for disc in disc_names(found, names)]
    sacrum, canal = anatomy.labels_of(Kind.SACRUM)[0], anatomy.labels_of(Kind.CANAL)[0]
    # what was taken for the top of a sacral body keeps its place as sacrum; background inside a structure stays
    stray = ((found.bodies == 0) & found.sacrum).astype(np.uint8)
    return [
        (BODY, np.where(stray > 0, len(names) + 1, found.bodies), np.array([0, *bodies, sacrum], np.uint8)),
        (DISC, found.discs, np.array([0, *discs], np.uint8)),
        (ARCH, found.arches, np.array([0, *arches], np.uint8)),
        (SACRUM, found.sacrum.astype(np.uint8), np.array([0, sacrum], np.uint8)),
        (CANAL, found.canal.astype(np.uint8), np.array([0, canal], np.uint8)),
    ]


def _spread(labels: Array) -> Array:
    """Labels grown by two pixels in plane and into the next slices: the exam's finer grid reaches a little further."""
    out: Array = labels.astype(np.uint8)
    (box,) = ndimage.find_objects((labels > 0).astype(np.uint8)) or (None,)
    if box is None:
        return out
    inside = out[tuple(slice(max(0, side.start - 2), side.stop + 2) for side in box)]  # a view
    grown = ndimage.grey_dilation(inside, size=(3 if len(labels) > 1 else 1, 5, 5))
    np.copyto(inside, grown, where=inside == 0)
    return out


def only(labels: Array, kinds: frozenset[Kind]) -> Array:
    """labels: (I, J, K) uint8, with background for structures of any other kind."""
    keep = np.zeros(256, np.uint8)
    for structure in anatomy.STRUCTURES:
        keep[structure.label] = structure.label if structure.kind in kinds else 0
    return labels if kinds >= set(anatomy.CLASSES[1:]) else keep[labels]


def renamed(labels: Array, found: Instances, names: tuple[str, ...], others: tuple[str, ...]) -> Array:
    """labels: (I, J, K) uint8 painted with `names`, as if painted with `others`; a disc that had no name stays away."""
    table = np.arange(256, dtype=np.uint8)
    for (_, _, old), (_, _, new) in zip(_tables(found, names), _tables(found, others), strict=True):
        table[old[old > 0]] = new[old > 0]
    return table[labels]


def check(labels: Array) -> None:
    """Every vertebra between two named ones is there, and above the next one; SegmentError names what is not.

    labels: (I, J, K) uint8. A structure has one name because a label map has one value per voxel; this looks at order.
    """
    present = [s for s in anatomy.STRUCTURES if s.kind is Kind.BODY and (labels == s.label).any()]
    ranks = [anatomy.LEVELS.index(s.name) for s in present]
    if ranks and ranks[-1] - ranks[0] + 1 != len(ranks):
        have = ", ".join(s.name for s in present)
        raise SegmentError(f"the answer would have a gap in its order ({have}); please report this exam")
