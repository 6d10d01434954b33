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

from lumbarseg.anatomy import beside
from lumbarseg.volume import Array

from .distances import Distances, surface_distance
from .names import OPEN, Names, blurred, labels_of, rivals, sets_of, title

COVERED = 0.25
"""Share of a reference that a found structure must cover to count as found there."""

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Score:
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
    distances: Distances | None = None

    @property
    def named(self) -> bool:
        """Whether it was found under its own name."""
        return self.found_as == self.name

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without what does not apply."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def dice(a: Array, b: Array) -> float:
    """Overlap of two masks, 0..1; 1 when both are empty."""
    size = np.count_nonzero(a) + np.count_nonzero(b)
    return 1.0 if size == 0 else 2 * np.count_nonzero(a & b) / size


def volume_ratio(found: Array, truth: Array) -> float:
    """Volume found by volume of the reference; infinite when only the reference is empty, 1 when both are."""
    size = np.count_nonzero(truth)
    if size == 0:
        return float("inf") if np.count_nonzero(found) else 1.0
    return np.count_nonzero(found) / size


@dataclass(frozen=True, eq=False)
class Pair:
    """Two labellings on one grid, looked at where their values lie and nowhere else.

    found, truth: (I, J, K) uint8; boxes: of each value that occurs, for `found` and for `truth`.
    """

    found: Array
    truth: Array
    boxes: tuple[dict[int, Box], dict[int, Box]]

    @classmethod
    def of(cls, found: Array, truth: Array) -> Pair:
        """With the boxes of all values but 0."""
        from scipy import ndimage

        first, second = (
            {value: box for value, box in enumerate(ndimage.find_objects(array), 1) if box is not None}
            for array in (found, truth)
        )
        return cls(found, truth, (first, second))

    def cut(self, found: Iterable[int], truth: Iterable[int]) -> tuple[Array, Array]:
        """Both arrays in the box about some values of each; empty arrays where none of them occurs."""
        boxes = [self.boxes[0][value] for value in found if value in self.boxes[0]]
        drawn = set(truth)
        if 0 in drawn:
            return self.found, self.truth
        boxes += [self.boxes[1][value] for value in drawn if value in self.boxes[1]]
        if not boxes:
            return self.found[:0], self.truth[:0]
        box = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*boxes, strict=True))
        return self.found[box], self.truth[box]


def score(
    found: Array,
    truth: Array,
    table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] | None = None,
    meaning: Iterable[Names] = (),
) -> list[Score]:
    """Each structure of a reference, in the order of its table.

    table: what each value of `truth` may be: names of structures or kinds, "background", "unknown"; by default the
    package's own values. A value it does not name is background. spacing: mm, asks for distances of surfaces.
    meaning: sets that values of `found` stand for where these are coarser than the table of structures; what they
    cannot tell apart has no row. A tissue beside structures of it that have names ("some vertebra" above T12) has none,
    for nobody can tell where it ends; structures that neither side shows have none either.
    """
    names, pair, meaning = sets_of(table), Pair.of(found, truth), tuple(meaning)
    rows = []
    for wanted in dict.fromkeys(names.values()):
        if wanted & OPEN or blurred(wanted, meaning) or _remainder(wanted, names.values()):
            continue
        row = _row(wanted, _Sight(pair, names, wanted), spacing)
        if row.truth or row.found:
            rows.append(row)
    return rows


def _remainder(wanted: Names, others: Iterable[Names]) -> bool:
    """Whether a table has parts of a set by themselves, so that the set means the rest of them."""
    return any(not other & OPEN and labels_of(other) < labels_of(wanted) for other in others)


def wrong_names(rows: Iterable[Score]) -> list[str]:
    """Structures that lie under another name, for example "L4 as L5"."""
    return [f"{row.name} as {row.found_as}" for row in rows if row.found_as not in (row.name, None)]


def missing(rows: Iterable[Score]) -> list[str]:
    """Structures with a name of their own that the reference shows and nothing covers."""
    return [row.name for row in rows if row.overlap is not None and row.found_as is None]


def flagged(texts: Iterable[str], uncertain: Iterable[str]) -> list[str]:
    """Those of the wrong names that were marked uncertain, "L4-L5 as L3-L4" when L3 or L4 was, or L3-L4 itself."""
    marked = frozenset(uncertain)
    return [text for text in texts if beside(text.rpartition(" as ")[2]) & marked]


class _Sight:
    """What the comparison sees of one set of names: `found` without what lies where the reference is in doubt."""

    def __init__(self, pair: Pair, names: Mapping[int, Names], wanted: Names) -> None:
        self.pair, self.labels = pair, labels_of(wanted)
        self.values = [value for value, these in names.items() if these == wanted]
        self.doubtful = [value for value, these in names.items() if these != wanted and labels_of(these) & self.labels]

    def __call__(self, labels: Iterable[int]) -> tuple[Array, Array]:
        """Found labels that count, and the mask of what the reference drew, in a box about both."""
        found, truth = self.pair.cut(labels, self.values)
        counted = np.where(np.isin(truth, self.doubtful), 0, found) if self.doubtful else found
        return counted, np.isin(truth, self.values)


def _row(wanted: Names, sight: _Sight, spacing: tuple[float, float, float] | None) -> Score:
    found, drawn = sight(sight.labels)
    named = np.isin(found, sorted(sight.labels))
    name, size, ours = title(wanted), int(np.count_nonzero(drawn)), int(np.count_nonzero(named))
    if size == 0:
        return Score(name, size, ours, None, None)
    distances = surface_distance(named, drawn, spacing) if spacing else None
    by_name = (name, size, ours, dice(named, drawn), volume_ratio(named, drawn))
    others = rivals(wanted)
    if others is None:
        return Score(*by_name, distances=distances)
    votes = np.bincount(found[drawn].astype(np.intp), minlength=256)
    best = max(others, key=lambda other: votes[list(others[other])].sum())
    if votes[list(others[best])].sum() <= COVERED * size:
        return Score(*by_name, found_as=None, overlap=0.0, overlap_ratio=0.0, distances=distances)
    found, drawn = sight(others[best])
    cover = np.isin(found, others[best])
    return Score(*by_name, best, dice(cover, drawn), volume_ratio(cover, drawn), distances)
