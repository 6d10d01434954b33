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

from .anatomy import LEVELS, STRUCTURES, Kind, Structure
from .volume import Array

COVERED = 0.25
"""Share of a reference that a found structure must cover to count as found there."""

Names = frozenset[str]
_TISSUES = {frozenset({"body", "arch"}): "vertebra"}


@dataclass(frozen=True)
class Distances:
    """Between two surfaces, both ways, mm: the mean, the 95th percentile and the largest."""

    mean: float
    p95: float
    largest: float


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


def surface_distance(a: Array, b: Array, spacing: tuple[float, float, float]) -> Distances | None:
    """How far the surfaces of two masks lie apart; spacing: mm. None when one of them is empty."""
    from scipy import ndimage

    if not (a.any() and b.any()):
        return None
    box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in ndimage.find_objects((a | b).astype(np.uint8))[0])
    edges = [mask[box] & ~ndimage.binary_erosion(mask[box]) for mask in (a, b)]
    far = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    gaps = np.concatenate([far[1][edges[0]], far[0][edges[1]]])
    return Distances(float(gaps.mean()), float(np.percentile(gaps, 95)), float(gaps.max()))


def every_name(kinds: Iterable[Kind] = tuple(Kind)) -> dict[int, tuple[str, ...]]:
    """The table of a reference that has this package's own values, of some kinds or of all."""
    wanted = tuple(kinds)
    return {s.label: (s.name,) for s in STRUCTURES if s.kind in wanted}


def score(
    found: Array,
    truth: Array,
    table: Mapping[int, Iterable[str]] | None = None,
    spacing: tuple[float, float, float] | None = None,
) -> list[Score]:
    """Each structure of a reference, in the order of its table.

    table: what each value of `truth` may be: names of structures or kinds, "background", "unknown"; by default the
    package's own values. A value it does not name is background. spacing: mm, asks for distances of surfaces.
    Structures that neither side shows have no row.
    """
    names = {value: frozenset(these) for value, these in (table or every_name()).items()}
    rows = []
    for wanted in dict.fromkeys(names.values()):
        if wanted & {"background", "unknown"}:
            continue
        labels = _labels(wanted)
        drawn = np.isin(truth, [value for value, these in names.items() if these == wanted])
        doubtful = [value for value, these in names.items() if these != wanted and _labels(these) & labels]
        counted = ~np.isin(truth, doubtful) if doubtful else np.ones_like(drawn)
        row = _row(wanted, np.where(counted, found, 0), drawn, spacing)
        if row.truth or row.found:
            rows.append(row)
    return rows


def wrong_names(rows: Iterable[Score]) -> list[str]:
    """Structures that lie under another name, for example "L4 as L5"."""
    return [f"{row.name} as {row.found_as}" for row in rows if row.found_as not in (row.name, None)]


def missing(rows: Iterable[Score]) -> list[str]:
    """Structures with a name of their own that the reference shows and nothing covers."""
    return [row.name for row in rows if row.overlap is not None and row.found_as is None]


def _row(wanted: Names, found: Array, drawn: Array, spacing: tuple[float, float, float] | None) -> Score:
    named = np.isin(found, sorted(_labels(wanted)))
    size, ours = int(np.count_nonzero(drawn)), int(np.count_nonzero(named))
    name = _title(wanted)
    if size == 0:
        return Score(name, size, ours, None, None)
    distances = surface_distance(named, drawn, spacing) if spacing else None
    by_name = (name, size, ours, dice(named, drawn), volume_ratio(named, drawn))
    rivals = _rivals(wanted)
    if rivals is None:
        return Score(*by_name, distances=distances)
    votes = np.bincount(found[drawn].astype(np.intp), minlength=256)
    best = max(rivals, key=lambda rival: votes[list(rivals[rival])].sum())
    if votes[list(rivals[best])].sum() <= COVERED * size:
        return Score(*by_name, found_as=None, overlap=0.0, overlap_ratio=0.0, distances=distances)
    cover = np.isin(found, rivals[best])
    return Score(*by_name, best, dice(cover, drawn), volume_ratio(cover, drawn), distances)


def _labels(names: Names) -> frozenset[int]:
    """Label values that a set of names allows."""
    return frozenset(s.label for s in STRUCTURES if s.name in names or s.kind in names or "unknown" in names)


def _parts(names: Names) -> list[Structure]:
    return [s for s in STRUCTURES if s.name in names]


def _title(names: Names) -> str:
    """A set of names in a word: "L4" for a body, "L4 vertebra" for a body with its arch, "vertebra" for the tissue."""
    levels = {name.removesuffix(" arch") for name in names}
    if len(names) == 2 and len(levels) == 1 and levels <= set(LEVELS):
        return f"{levels.pop()} vertebra"
    return _TISSUES.get(names, "/".join(sorted(names)))


def _rivals(names: Names) -> dict[str, tuple[int, ...]] | None:
    """What could lie where a structure lies: title to label values; None for tissues, sacrum and canal."""
    parts = _parts(names)
    kinds = {part.kind for part in parts}
    if len(parts) != len(names) or not parts or kinds & {Kind.SACRUM, Kind.CANAL}:
        return None
    if kinds == {Kind.BODY, Kind.ARCH}:
        if not _title(names).endswith(" vertebra"):
            return None
        by_name = {s.name: s.label for s in STRUCTURES}
        return {f"{level} vertebra": (by_name[level], by_name[f"{level} arch"]) for level in LEVELS}
    if len(names) > 1:
        return None
    return {s.name: (s.label,) for s in STRUCTURES if s.kind in kinds}
