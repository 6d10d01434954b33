"""One labelling against another: overlap, volume, distance of surfaces, and whether the names are right.

A reference says with a table what its values may be, as prepared datasets do: {1: ("L4", "L4 arch")} is a whole
vertebra, {9: ("unknown",)} counts neither for nor against anybody. Arrays are (I, J, K) on one grid; what is found has
the values of the table of structures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lumbarseg.anatomy import name_and_levels
from lumbarseg.volume import Array

from .structure_names import (
    AMBIGUOUS_NAMES,
    StructureNames,
    confusable_structures,
    display_name,
    is_indistinguishable,
    labels_with_names,
    name_sets,
)
from .surface import SurfaceDistances, compute_surface_distances

MIN_COVERAGE = 0.25
"""Share of a reference that a found structure must cover to count as found there."""

Box = tuple[slice, ...]


@dataclass(frozen=True)
class StructureScore:
    """One structure of a reference. truth, found: voxels of it in the reference, and under its name in what was found.

    dice, ratio: by name; None where the reference does not show the structure. found_as: which structure covers it,
    None when nothing does; overlap, overlap_ratio: against that one, whatever its name. These three stay None for
    tissues, which have no instances. distances: by name, where they were asked for and both sides show it.
    """

    name: str
    truth: int
    found: int
    dice: float | None
    ratio: float | None
    found_as: str | None = None
    overlap: float | None = None
    overlap_ratio: float | None = None
    distances: SurfaceDistances | None = None

    @property
    def is_named_right(self) -> bool:
        """Whether it was found under its own name."""
        return self.found_as == self.name

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without what does not apply."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def compute_dice(a: Array, b: Array) -> float:
    """Overlap of two masks, 0..1; 1 when both are empty."""
    size = np.count_nonzero(a) + np.count_nonzero(b)
    return 1.0 if size == 0 else 2 * np.count_nonzero(a & b) / size


def compute_volume_ratio(prediction: Array, reference: Array) -> float:
    """Volume found by volume of the reference; infinite when only the reference is empty, 1 when both are."""
    size = np.count_nonzero(reference)
    if size == 0:
        return float("inf") if np.count_nonzero(prediction) else 1.0
    return np.count_nonzero(prediction) / size


@dataclass(frozen=True, eq=False)
class LabelMapPair:
    """Two labellings on one grid, looked at where their values lie and nowhere else.

    found, truth: (I, J, K) uint8; boxes: of each value that occurs, for `found` and for `truth`.
    """

    prediction: Array
    reference: Array
    boxes: tuple[dict[int, Box], dict[int, Box]]

    @classmethod
    def from_arrays(cls, prediction: Array, reference: Array) -> LabelMapPair:
        """With the boxes of all values but 0."""
        from scipy import ndimage

        first, second = (
            {value: box for value, box in enumerate(ndimage.find_objects(array), 1) if box is not None}
            for array in (prediction, reference)
        )
        return cls(prediction, reference, (first, second))

    def crop_to_values(self, predicted_values: Iterable[int], reference_values: Iterable[int]) -> tuple[Array, Array]:
        """Both arrays in the box about some values of each; empty arrays where none of them occurs."""
        boxes = [self.boxes[0][value] for value in predicted_values if value in self.boxes[0]]
        drawn = set(reference_values)
        if 0 in drawn:
            return self.prediction, self.reference
        boxes += [self.boxes[1][value] for value in drawn if value in self.boxes[1]]
        if not boxes:
            return self.prediction[:0], self.reference[:0]
        box = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
        return self.prediction[box], self.reference[box]


def score_structures(
    prediction: Array,
    reference: Array,
    label_table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] | None = None,
    prediction_names: Iterable[StructureNames] = (),
) -> list[StructureScore]:
    """Each structure of a reference, in the order of its table.

    table: what each value of `truth` may be: names of structures or kinds, "background", "unknown"; by default the
    package's own values. A value it does not name is background. spacing: mm, asks for distances of surfaces.
    meaning: sets that values of `found` stand for where these are coarser than the table of structures; what they
    cannot tell apart has no row. A tissue beside structures of it that have names ("some vertebra" above T12) has none,
    for nobody can tell where it ends; structures that neither side shows have none either.
    """
    names, pair, prediction_names = (
        name_sets(label_table),
        LabelMapPair.from_arrays(prediction, reference),
        tuple(prediction_names),
    )
    rows = []
    for wanted in dict.fromkeys(names.values()):
        if (
            wanted & AMBIGUOUS_NAMES
            or is_indistinguishable(wanted, prediction_names)
            or _is_remainder(wanted, names.values())
        ):
            continue
        row = _score_structure(wanted, _StructureMasks(pair, names, wanted), spacing)
        if row.truth or row.found:
            rows.append(row)
    return rows


def _is_remainder(names: StructureNames, others: Iterable[StructureNames]) -> bool:
    """Whether a table has parts of a set by themselves, so that the set means the rest of them."""
    return any(not other & AMBIGUOUS_NAMES and labels_with_names(other) < labels_with_names(names) for other in others)


def find_wrong_names(rows: Iterable[StructureScore]) -> list[str]:
    """Structures that lie under another name, for example "L4 as L5"."""
    return [f"{row.name} as {row.found_as}" for row in rows if row.found_as not in (row.name, None)]


def find_missing_structures(rows: Iterable[StructureScore]) -> list[str]:
    """Structures with a name of their own that the reference shows and nothing covers."""
    return [row.name for row in rows if row.overlap is not None and row.found_as is None]


def select_marked_uncertain(wrong_names: Iterable[str], uncertain_levels: Iterable[str]) -> list[str]:
    """Those of the wrong names that were marked uncertain, "L4-L5 as L3-L4" when L3 or L4 was, or L3-L4 itself."""
    marked = frozenset(uncertain_levels)
    return [text for text in wrong_names if name_and_levels(text.rpartition(" as ")[2]) & marked]


class _StructureMasks:
    """What the comparison sees of one set of names: `found` without what lies where the reference is in doubt."""

    def __init__(self, pair: LabelMapPair, names: Mapping[int, StructureNames], wanted: StructureNames) -> None:
        self.pair, self.labels = pair, labels_with_names(wanted)
        self.values = [value for value, these in names.items() if these == wanted]
        self.ambiguous_values = [
            value for value, these in names.items() if these != wanted and labels_with_names(these) & self.labels
        ]

    def __call__(self, labels: Iterable[int]) -> tuple[Array, Array]:
        """Found labels that count, and the mask of what the reference drew, in a box about both."""
        found, truth = self.pair.crop_to_values(labels, self.values)
        counted = np.where(np.isin(truth, self.ambiguous_values), 0, found) if self.ambiguous_values else found
        return counted, np.isin(truth, self.values)


def _score_structure(
    structure_names: StructureNames, masks: _StructureMasks, spacing: tuple[float, float, float] | None
) -> StructureScore:
    found, drawn = masks(masks.labels)
    named = np.isin(found, sorted(masks.labels))
    name, size, ours = display_name(structure_names), int(np.count_nonzero(drawn)), int(np.count_nonzero(named))
    if size == 0:
        return StructureScore(name, size, ours, None, None)
    distances = compute_surface_distances(named, drawn, spacing) if spacing else None
    by_name = (name, size, ours, compute_dice(named, drawn), compute_volume_ratio(named, drawn))
    others = confusable_structures(structure_names)
    if others is None:
        return StructureScore(*by_name, distances=distances)
    votes = np.bincount(found[drawn].astype(np.intp), minlength=256)
    best = max(others, key=lambda other: votes[list(others[other])].sum())
    if votes[list(others[best])].sum() <= MIN_COVERAGE * size:
        return StructureScore(*by_name, found_as=None, overlap=0.0, overlap_ratio=0.0, distances=distances)
    found, drawn = masks(others[best])
    cover = np.isin(found, others[best])
    return StructureScore(*by_name, best, compute_dice(cover, drawn), compute_volume_ratio(cover, drawn), distances)
