"""What the network sees in an exam by itself, kept whole: names for it, and everything a refinement begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.errors import SegmentError
from lumbarseg.inference import ClickCache, ModelCard, Predictor, predict
from lumbarseg.preprocessing import PreparedImage, argmax_classes, preprocess
from lumbarseg.volume import Array, Grid, Volume

from . import discs_only, orientation
from .instances import Instances, separate_instances
from .label_map import check_level_order, classes_on_exam_grid, keep_kinds, render_label_map
from .levels import Level, LevelAssignment, LevelPin, assign_levels, list_levels, pinned_body

_CT_AIR_VALUE = -400.0  # no MR image has values like that; air in CT is -1000
_MIN_LUMBAR_AREA = 330.0  # mm2 of a body in its middle slice: a lumbar one has 600 to 1100, a cervical one 150 to 280


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
class SegmentationState:
    """An exam as it was answered without clicks. prepared: as the network read it, but for `flips`.

    array: (slices, A, S), scores: (classes, slices, A, S) and classes, the best: (slices, A, S) uint8, on `grid`, whose
    axes are turned as the anatomy shows; tissue: (I, J, K) uint8, the best class on the exam's own grid.
    """

    prepared: PreparedImage
    flips: orientation.Flips
    array: Array
    probabilities: Array
    classes: Array
    exam_classes: Array
    instances: Instances
    assignment: LevelAssignment
    segmentation: Segmentation
    click_cache: ClickCache = field(default_factory=ClickCache)

    @property
    def grid(self) -> Grid:
        """The network's grid, turned; points stay where the header says."""
        return Grid(self.prepared.grid.shape, flipped_affine(self.prepared, self.flips))


def segment_with_state(
    volume: Volume, model: Predictor, lowest: str | None = None, pins: Sequence[LevelPin] = ()
) -> SegmentationState:
    """Name the lumbar spine of an exam.

    lowest: the user's name of the lowest whole vertebra; pins: vertebrae that the user named. SegmentError when there
    is no lumbar spine to be seen.
    """
    refuse_ct(volume)
    prepared = preprocess(volume, model.card.spec)
    spacing = np.array(prepared.grid.spacing)
    array = prepared.array
    scores = predict(model, array)
    classes = argmax_classes(scores)
    flips = orientation.estimate_flips(classes, spacing)
    if any(flips):
        array = np.ascontiguousarray(orientation.flip_axes(array, flips))
        scores = predict(model, array)
        classes = argmax_classes(scores)
    found = find_lumbar_instances(classes, spacing, model.card)
    place = flipped_affine(prepared, flips)
    pinned = pinned_body(pins, found, np.linalg.inv(place), spacing)
    naming = (discs_only.assign_levels_from_discs if found.discs_only else assign_levels)(
        found, scores, spacing, lowest, pinned, model.card.lowest_structure
    )
    tissue = classes_on_exam_grid(scores, prepared, flips)
    labels = render_label_map(tissue, found, naming.names, prepared, flips)
    check_level_order(labels)
    labels = keep_kinds(labels, model.card.output_kinds)
    answer = Segmentation(
        Volume(labels, volume.affine),
        list_levels(found, naming, scores, place),
        collect_warnings(naming, flips),
        naming.anchor,
        round(naming.confidence, 3),
    )
    return SegmentationState(prepared, flips, array, scores, classes, tissue, found, naming, answer)


def refuse_ct(volume: Volume) -> None:
    """SegmentError for an exam that is no MRI."""
    if float(volume.array.min()) < _CT_AIR_VALUE:
        raise SegmentError("this looks like CT (values down to that of air, -1000); lumbarseg reads MRI")


def find_lumbar_instances(classes: Array, spacing: Array, card: ModelCard) -> Instances:
    """A class map (slices, A, S) taken apart, by its discs where the model knows no bodies.

    SegmentError when it shows no column, or none that can be lumbar.
    """
    if not card.trained_kinds & {Kind.BODY, Kind.DISC}:
        raise SegmentError("this model knows neither bodies nor discs, and levels are told by nothing else")
    found = (separate_instances if Kind.BODY in card.trained_kinds else discs_only.separate_discs)(classes, spacing)
    if found is None:
        raise SegmentError("no lumbar spine found: nothing in the exam looks like a column of vertebrae and discs")
    if found.discs_only:
        return discs_only.require_lumbar_discs(found, spacing)
    middle = [(found.bodies == n).sum(axis=(1, 2)).max() for n in range(1, found.count + 1)]
    area = float(np.median(middle)) * spacing[1] * spacing[2]
    if area < _MIN_LUMBAR_AREA and len(found.bodies) > 2:
        raise SegmentError(
            f"no lumbar spine found: vertebrae of {area:.0f} mm2 in their middle slice are too small for lumbar ones"
        )
    return found


def flipped_affine(prepared: PreparedImage, flips: orientation.Flips) -> Array:
    """(4, 4) from voxels of the flipped network grid to RAS+ mm as the header says."""
    turn = np.eye(4)
    for axis, (flip, size) in enumerate(zip((False, *flips), prepared.grid.shape, strict=True)):
        if flip:
            turn[axis, axis], turn[axis, 3] = -1, size - 1
    return prepared.grid.affine @ turn


def collect_warnings(assignment: LevelAssignment, flips: orientation.Flips) -> tuple[str, ...]:
    """What a person should look at."""
    turned = orientation.describe_flips(flips)
    return (*((turned,) if turned else ()), *assignment.warnings)
