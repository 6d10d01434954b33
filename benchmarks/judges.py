"""How each set of real exams is judged: found labels against a reference on the exam's own grid, whole volume.

found, truth: (I, J, K) uint8 arrays, found in the package's default label values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from lumbarseg.anatomy import STRUCTURES, Kind, Structure, labels_of

Array = np.ndarray
Row = dict[str, Any]

BODIES = labels_of(Kind.BODY)
DISCS = labels_of(Kind.DISC)
CANAL = labels_of(Kind.CANAL)
VERTEBRAE = BODIES + labels_of(Kind.ARCH)

COVERED = 0.25
"""Share of a reference that a found structure must cover to count as found there."""


def dice(found: Array, truth: Array) -> float:
    """Overlap of two masks, 0..1; 1 when both are empty."""
    size = np.count_nonzero(found) + np.count_nonzero(truth)
    return 1.0 if size == 0 else 2 * np.count_nonzero(found & truth) / size


def ratio(found: Array, truth: Array) -> float:
    """Volume found by volume in the reference, which is not empty."""
    return np.count_nonzero(found) / np.count_nonzero(truth)


def bodies(found: Array, truth: Array) -> Row:
    """Each body of the reference: by its name, and by the found body that covers most of it."""
    return {"structures": {s.name: _one(found, truth, s, BODIES) for s in _present(truth, Kind.BODY)}}


def discs(found: Array, truth: Array) -> Row:
    """Each disc of the reference, likewise."""
    return {"structures": {s.name: _one(found, truth, s, DISCS) for s in _present(truth, Kind.DISC)}}


def spider_space(found: Array, truth: Array) -> Row:
    """Whole vertebrae, discs and canal, each as one mask; the reference has 1, 2 and 3 for them."""
    return _tissues(found, truth, {"vertebra": (1,), "disc": (2,), "canal": (3,)})


def spider_t2(found: Array, truth: Array) -> Row:
    """The same on one slice whose reference has levels: 60 and 61 are vertebrae above and partly in view, 62 a disc."""
    reference = {"vertebra": (1, 2, 3, 4, 5, 13, 60, 61), "disc": (6, 7, 8, 9, 10, 14, 62), "canal": (12,)}
    return _tissues(found, truth, reference)


def _tissues(found: Array, truth: Array, reference: dict[str, Collection[int]]) -> Row:
    """A structure that the reference does not show in this exam has no Dice; `false_voxels` counts what was found."""
    ours = {"vertebra": VERTEBRAE, "disc": DISCS, "canal": CANAL}
    rows = {}
    for name, values in reference.items():
        mask, wanted = np.isin(found, ours[name]), np.isin(truth, list(values))
        if wanted.any():
            rows[name] = {"dice": dice(mask, wanted), "ratio": ratio(mask, wanted)}
        else:
            rows[name] = {"false_voxels": int(mask.sum())}
    return {"structures": rows}


def _one(found: Array, truth: Array, structure: Structure, kind: tuple[int, ...]) -> Row:
    wanted, named = truth == structure.label, found == structure.label
    inside = found[wanted]
    votes = {label: int(np.count_nonzero(inside == label)) for label in kind}
    best = max(votes, key=lambda label: votes[label])
    hit = votes[best] > COVERED * np.count_nonzero(wanted)
    covered = found == best if hit else np.zeros_like(wanted)
    return {
        "dice": dice(named, wanted),
        "ratio": ratio(named, wanted),
        "overlap": dice(covered, wanted),
        "overlap_ratio": ratio(covered, wanted),
        "found_as": next(s.name for s in STRUCTURES if s.label == best) if hit else None,
    }


def _present(truth: Array, kind: Kind) -> list[Structure]:
    values = set(np.unique(truth).tolist())
    return [s for s in STRUCTURES if s.kind is kind and s.label in values]


def wrong_names(row: Row) -> list[str]:
    """Structures that lie under another name, for example "L4 as L5"."""
    return [f"{name} as {v['found_as']}" for name, v in row["structures"].items() if v["found_as"] not in (name, None)]


def missing(row: Row) -> list[str]:
    """Structures of the reference that nothing covers."""
    return [name for name, v in row["structures"].items() if v["found_as"] is None]


def mean(values: Collection[float]) -> float:
    """The mean, 0 of nothing."""
    return float(np.mean(list(values))) if values else 0.0


Judge = Callable[[Array, Array], Row]
