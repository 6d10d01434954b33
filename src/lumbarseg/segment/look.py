"""What the network sees in an exam by itself, kept whole: names for it, and everything a refinement begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.errors import SegmentError
from lumbarseg.model import Answers, Card, Heard, predict
from lumbarseg.prepare import Prepared, best_class, prepare
from lumbarseg.volume import Array, Grid, Volume

from . import discs, orientation
from .instances import Instances, split
from .levels import Level, Naming, Pin, levels, name, pins_to_body
from .paint import check, only, paint, tissues

_CT_AIR = -400.0  # no MR image has values like that; air in CT is -1000
_SMALL = 330.0  # mm2 of a body in its middle slice: a lumbar one has 600 to 1100, a cervical one 150 to 280


@dataclass(frozen=True, eq=False)
class Segmentation:
    """labels: uint8 in the table's numbers on the exam's own grid; levels: vertebrae from head to foot, or discs where
    the model knows no bodies.

    notes: warnings for a person; anchor: what the names were counted from; confidence: of the names, 0..1.
    """

    labels: Volume
    levels: tuple[Level, ...]
    notes: tuple[str, ...]
    anchor: str
    confidence: float

    @property
    def uncertain(self) -> bool:
        """Whether any name is marked uncertain."""
        return any(level.uncertain for level in self.levels)


@dataclass(frozen=True, eq=False)
class Seen:
    """An exam as it was answered without clicks. prepared: as the network read it, but for `flips`.

    array: (slices, A, S), scores: (classes, slices, A, S) and classes, the best: (slices, A, S) uint8, on `grid`, whose
    axes are turned as the anatomy shows; tissue: (I, J, K) uint8, the best class on the exam's own grid.
    """

    prepared: Prepared
    flips: orientation.Flips
    array: Array
    scores: Array
    classes: Array
    tissue: Array
    found: Instances
    naming: Naming
    answer: Segmentation
    heard: Heard = field(default_factory=Heard)

    @property
    def grid(self) -> Grid:
        """The network's grid, turned; points stay where the header says."""
        return Grid(self.prepared.grid.shape, frame(self.prepared, self.flips))


def look(volume: Volume, model: Answers, lowest: str | None = None, pins: Sequence[Pin] = ()) -> Seen:
    """Name the lumbar spine of an exam.

    lowest: the user's name of the lowest whole vertebra; pins: vertebrae that the user named. SegmentError when there
    is no lumbar spine to be seen.
    """
    refuse_ct(volume)
    prepared = prepare(volume, model.card.spec)
    spacing = np.array(prepared.grid.spacing)
    array = prepared.array
    scores = predict(model, array)
    classes = best_class(scores)
    flips = orientation.wrong_way(classes, spacing)
    if any(flips):
        array = np.ascontiguousarray(orientation.flipped(array, flips))
        scores = predict(model, array)
        classes = best_class(scores)
    found = lumbar(classes, spacing, model.card)
    place = frame(prepared, flips)
    pinned = pins_to_body(pins, found, np.linalg.inv(place), spacing)
    naming = (discs.name if found.bodyless else name)(found, scores, spacing, lowest, pinned, model.card.lowest)
    tissue = tissues(scores, prepared, flips)
    labels = paint(tissue, found, naming.names, prepared, flips)
    check(labels)
    labels = only(labels, model.card.painted)
    answer = Segmentation(
        Volume(labels, volume.affine),
        levels(found, naming, scores, place),
        notes(naming, flips),
        naming.anchor,
        round(naming.confidence, 3),
    )
    return Seen(prepared, flips, array, scores, classes, tissue, found, naming, answer)


def refuse_ct(volume: Volume) -> None:
    """SegmentError for an exam that is no MRI."""
    if float(volume.array.min()) < _CT_AIR:
        raise SegmentError("this looks like CT (values down to that of air, -1000); lumbarseg reads MRI")


def lumbar(classes: Array, spacing: Array, card: Card) -> Instances:
    """A class map (slices, A, S) taken apart, by its discs where the model knows no bodies.

    SegmentError when it shows no column, or none that can be lumbar.
    """
    if not card.taught & {Kind.BODY, Kind.DISC}:
        raise SegmentError("this model knows neither bodies nor discs, and levels are told by nothing else")
    found = (split if Kind.BODY in card.taught else discs.split)(classes, spacing)
    if found is None:
        raise SegmentError("no lumbar spine found: nothing in the exam looks like a column of vertebrae and discs")
    if found.bodyless:
        return discs.lumbar(found, spacing)
    middle = [(found.bodies == n).sum(axis=(1, 2)).max() for n in range(1, found.count + 1)]
    area = float(np.median(middle)) * spacing[1] * spacing[2]
    if area < _SMALL and len(found.bodies) > 2:
        raise SegmentError(
            f"no lumbar spine found: vertebrae of {area:.0f} mm2 in their middle slice are too small for lumbar ones"
        )
    return found


def frame(prepared: Prepared, flips: orientation.Flips) -> Array:
    """(4, 4) from voxels of the flipped network grid to RAS+ mm as the header says."""
    turn = np.eye(4)
    for axis, (flip, size) in enumerate(zip((False, *flips), prepared.grid.shape, strict=True)):
        if flip:
            turn[axis, axis], turn[axis, 3] = -1, size - 1
    return prepared.grid.affine @ turn


def notes(naming: Naming, flips: orientation.Flips) -> tuple[str, ...]:
    """What a person should look at."""
    turned = orientation.told(flips)
    return (*((turned,) if turned else ()), *naming.warnings)
