"""Refinement of a segmentation by clicks: only the surroundings of a click are predicted again and may change.

A change counts where it is connected to a click, no further than `CHANGE_RADIUS` from it. Where the network does not
follow a click, a small ball about it gets the label that the user set. Level names: a click deep inside a body or disc
names it, as a pin does; a click near a border only shows where the border is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy

from lumbarseg.anatomy import LEVELS, Kind, structure_by_label
from lumbarseg.clicks import Click, click_positions
from lumbarseg.components import connected_components
from lumbarseg.errors import SegmentError
from lumbarseg.inference import Predictor
from lumbarseg.inference.predictor import SlicePrediction, predict_with_clicks
from lumbarseg.preprocessing import argmax_classes
from lumbarseg.volume import Array, Grid, Volume

from .click_overrides import apply_click_overrides
from .instances import Instances
from .label_map import check_level_order, classes_on_exam_grid, keep_kinds, rename_levels, render_label_map
from .levels import LevelAssignment, UserLevels, list_levels, lowest_name, names_upward, override_names
from .pipeline import segment, separate_lumbar_spine
from .prediction import Prediction, describe_flips, flip_axes
from .results import Segmentation, SegmentationState

CHANGE_RADIUS = 40.0
"""mm from a click within which it may change a segmentation."""
CONTACT_RADIUS = 6.0
"""mm from a click within which a change must begin to be caused by it."""
_NAMING_DEPTH = {Kind.BODY: 4.0, Kind.DISC: 2.0}  # mm from the border in plane from which a click names the structure
_MARGIN = (0, 2, 2)  # voxels about a change, so that its border is interpolated from probabilities of one prediction


def segment_with_clicks(
    volume: Volume,
    model: Predictor,
    clicks: Sequence[Click],
    user_levels: UserLevels | None = None,
    modality: str | None = None,
) -> Segmentation:
    """Segment an exam and refine the result by clicks; raise SegmentError as `segment` and `refine_with_clicks`."""
    automatic = segment(volume, model, user_levels, keep_state=True, modality=modality)
    return refine_with_clicks(automatic, model, clicks)


def refine_with_clicks(segmentation: Segmentation, model: Predictor, clicks: Sequence[Click]) -> Segmentation:
    """Refine a segmentation by clicks.

    Parameters
    ----------
    segmentation : without clicks, with its state
    model : the model that made it
    clicks : all clicks that were set so far

    Raises
    ------
    SegmentError
        When the model does not accept clicks, when a click lies outside the exam or is of a kind that the model does
        not segment, or when clicks contradict each other.
    """
    if model.card.spec.clicks is None:
        raise SegmentError(
            "this model does not accept clicks; use one that was trained with lumbarseg train --method deepedit, "
            "or name a vertebra with --pin"
        )
    _check_clicks(clicks, model, segmentation.labels.grid)
    state = _require_state(segmentation)
    prediction = state.prediction
    for_network = [c for c in (_click_for_network(click, segmentation.labels) for click in clicks) if c]
    slices = predict_with_clicks(
        model,
        flip_axes(prediction.prepared.array, prediction.flips),
        for_network,
        prediction.grid,
        prediction.probabilities,
        state.click_cache,
    )
    return _refined_segmentation(segmentation, _merged_state(state, slices, clicks), model, clicks)


def override_with_clicks(segmentation: Segmentation, model: Predictor, clicks: Sequence[Click]) -> Segmentation:
    """Refine a segmentation without the network, for a model that does not accept clicks.

    Clicks name levels and override the label in a small ball. SegmentError as `refine_with_clicks`.
    """
    _check_clicks(clicks, model, segmentation.labels.grid)
    return _refined_segmentation(segmentation, _require_state(segmentation), model, clicks)


def _require_state(segmentation: Segmentation) -> SegmentationState:
    if segmentation.state is None:
        raise ValueError("the segmentation has no state; make it with keep_state=True")
    return segmentation.state


def _refined_segmentation(
    segmentation: Segmentation, state: SegmentationState, model: Predictor, clicks: Sequence[Click]
) -> Segmentation:
    """Return the segmentation after clicks. state: with the prediction after clicks, instances and names before."""
    source, prediction = segmentation.labels.grid, state.prediction
    instances = separate_lumbar_spine(prediction, model.card)
    assignment, new_names = _assign_levels_after_clicks(instances, state, clicks)
    base = segmentation.labels.array
    if new_names:
        base = rename_levels(base, state.instances, state.assignment.names, new_names)
    positions, spacing = click_positions(clicks, source), np.array(source.spacing)
    box = _box_around_clicks(base.shape, positions, spacing)
    rendered = render_label_map(state.exam_classes, instances, assignment.names, prediction, box)
    rendered = keep_kinds(rendered, model.card.output_kinds)
    changed = changes_near_clicks(base[box] != rendered, positions - [side.start for side in box], spacing)
    labels = base.copy()
    np.copyto(labels[box], rendered, where=changed)
    check_level_order(labels)
    labels, notes = apply_click_overrides(labels, base, clicks, source)
    return Segmentation(
        Volume(labels, source.affine),
        list_levels(instances, assignment, prediction),
        (*describe_flips(prediction.flips), *assignment.warnings, *notes),
        assignment.anchor,
        round(assignment.confidence, 3),
        prediction.flips,
    )


def _check_clicks(clicks: Sequence[Click], model: Predictor, grid: Grid) -> None:
    """Raise SegmentError for clicks outside the grid, of unknown kinds, or that contradict each other."""
    for number, click in enumerate(clicks, start=1):
        position = grid.to_index(np.array(click.point))
        if (position < -1).any() or (position > grid.shape).any():
            raise SegmentError(f"click {number} ({click.describe()}) lies outside the exam; points are RAS+ mm")
        if click.kind is not Kind.BACKGROUND and click.kind not in model.card.output_kinds:
            raise SegmentError(f"click {number} ({click.describe()}): this model does not segment any {click.kind}")
    voxels = [tuple(row) for row in np.rint(click_positions(clicks, grid)).astype(int).tolist()]
    for number, (click, voxel) in enumerate(zip(clicks, voxels, strict=True)):
        for other, other_voxel in zip(clicks[:number], voxels[:number], strict=True):
            if other_voxel == voxel and click.positive and not _are_compatible(click, other):
                raise SegmentError(f"clicks contradict each other: {other.describe()}, and {click.describe()}")


def _are_compatible(click: Click, other: Click) -> bool:
    """Return whether one voxel can satisfy a positive click and another one."""
    return bool(click.labels & other.labels) if other.positive else bool(click.labels - other.labels)


def _click_for_network(click: Click, labels: Volume) -> Click | None:
    """Translate a click for the network, which knows kinds and no levels; None for one that is about a level alone.

    "Not L3" means background, unless the segmentation shows another structure there: then it means that one.
    """
    label = int(labels.array[tuple(np.rint(click_positions([click], labels.grid)[0]).astype(int))])
    if click.positive or not label or label in click.labels:
        return click
    kind = structure_by_label(label).kind
    return None if kind is click.kind else Click(click.point, str(kind))


def changes_near_clicks(changes: Array, positions: Array, spacing: Array) -> Array:
    """Select the changes that are connected to a click and lie within `CHANGE_RADIUS` of it.

    Parameters
    ----------
    changes : (I, J, K) bool
    positions : (clicks, 3) voxel coordinates
    spacing : (3,) mm
    """
    out = np.zeros(changes.shape, bool)
    box = _box_around_clicks(changes.shape, positions, spacing)
    squared = np.full(out[box].shape, np.inf, np.float32)
    axes = [np.arange(side.start, side.stop, dtype=np.float32) for side in box]
    for position in positions:
        i, j, k = (((axis - at) * step) ** 2 for axis, at, step in zip(axes, position, spacing, strict=True))
        np.minimum(squared, i[:, None, None] + j[None, :, None] + k[None, None], out=squared)
    components = connected_components(changes[box] & (squared <= CHANGE_RADIUS**2), "corners").numbers
    near = np.unique(components[squared <= CONTACT_RADIUS**2])
    out[box] = np.isin(components, near[near > 0])
    return out


def _box_around_clicks(shape: tuple[int, ...], positions: Array, spacing: Array) -> tuple[slice, slice, slice]:
    """Return the box that holds everything within `CHANGE_RADIUS` of clicks."""
    low = np.maximum(0, np.floor(positions.min(axis=0) - CHANGE_RADIUS / spacing)).astype(int)
    high = np.minimum(shape, np.ceil(positions.max(axis=0) + CHANGE_RADIUS / spacing) + 1).astype(int)
    first, second, third = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return first, second, third


def _merged_state(
    state: SegmentationState, slices: Sequence[SlicePrediction], clicks: Sequence[Click]
) -> SegmentationState:
    """Return the state with new probabilities where the class changed because of a click."""
    before = state.prediction
    probabilities, classes = before.probabilities.copy(), before.classes.copy()
    for part in slices:
        classes[part.region] = argmax_classes(part.probabilities)
    positions = click_positions(clicks, before.grid)
    box = _box_around_clicks(classes.shape, positions, before.spacing)
    changes = before.classes[box] != classes[box]
    caused = changes_near_clicks(changes, positions - [side.start for side in box], before.spacing)
    around = scipy.ndimage.maximum_filter(caused, [2 * margin + 1 for margin in _MARGIN])
    replaced = np.zeros(classes.shape, bool)
    replaced[box] = around & (caused | ~changes)
    np.copyto(classes, before.classes, where=~replaced)
    for part in slices:
        np.copyto(probabilities[(slice(None), *part.region)], part.probabilities, where=replaced[part.region])
    prediction = Prediction(before.prepared, before.flips, probabilities, classes)
    exam_classes = classes_on_exam_grid(prediction, replaced, state.exam_classes)
    return replace(state, prediction=prediction, exam_classes=exam_classes)


def _assign_levels_after_clicks(
    instances: Instances, state: SegmentationState, clicks: Sequence[Click]
) -> tuple[LevelAssignment, tuple[str, ...]]:
    """Return names for the bodies after clicks, and new names for those before, () where they keep their names.

    Without a click that names another level each body keeps its name, however the count changed.
    """
    before = state.assignment.names
    number, old_number = _largest_overlap(instances.level_map, state.instances.level_map)
    lowest_before = lowest_name(before[old_number - 1], number)
    clicks_by_lowest = {
        lowest_name(level, n): click for level, n, click in _named_by_clicks(instances, state.prediction, clicks)
    }
    if len(clicks_by_lowest) > 1:
        first, second = (click.describe() for click in list(clicks_by_lowest.values())[:2])
        raise SegmentError(f"clicks contradict each other about the names: {first}, and {second}")
    if not clicks_by_lowest:
        return replace(state.assignment, names=names_upward(lowest_before, instances.count)), ()
    lowest, click = next(iter(clicks_by_lowest.items()))
    if state.assignment.anchor == "given by the user" and lowest != lowest_before:
        raise SegmentError(f"--lowest or --pin and the click on {click.describe()} disagree")
    names = names_upward(lowest, instances.count)
    default = replace(state.assignment, names=names_upward(lowest_before, instances.count))
    assignment = override_names(names, default, "named by a click")
    if lowest == lowest_before:
        return assignment, ()
    return assignment, names_upward(lowest_name(names[number - 1], old_number), state.instances.count)


def _largest_overlap(numbers: Array, old_numbers: Array) -> tuple[int, int]:
    """Return the pair of instance numbers that share most voxels; (1, 1) when none share any."""
    both = (numbers > 0) & (old_numbers > 0)
    votes = np.bincount(numbers[both].astype(np.intp) * 256 + old_numbers[both], minlength=1)
    number, old_number = divmod(int(votes.argmax()), 256) if votes.any() else (1, 1)
    return number, old_number


def _named_by_clicks(
    instances: Instances, prediction: Prediction, clicks: Sequence[Click]
) -> list[tuple[str, int, Click]]:
    """List the clicks deep inside a body, or the disc below it: the body's name, its number, the click."""
    out = []
    for click, voxel in zip(clicks, np.rint(click_positions(clicks, prediction.grid)).astype(int), strict=True):
        level = click.structure.split("-")[0]
        if not click.positive or click.kind not in _NAMING_DEPTH or level not in LEVELS:
            continue
        numbers = instances.bodies if click.kind is Kind.BODY else instances.discs
        number = int(numbers[tuple(voxel)])
        if not number:
            continue
        inside = np.pad(numbers[voxel[0]] == number, 1)
        depth = scipy.ndimage.distance_transform_edt(inside, sampling=prediction.spacing[1:])[
            voxel[1] + 1, voxel[2] + 1
        ]
        if depth >= _NAMING_DEPTH[click.kind]:
            out.append((level, number, click))
    return out
