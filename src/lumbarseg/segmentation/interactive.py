"""An answer refined by clicks: the network is asked again about their surroundings, and nowhere else anything changes.

A change counts where it hangs together with a click, no further than `REACH` from it. Where the network does not
follow a click, a small ball about it gets what the person said. Names: a click deep inside a body or disc says which
one it is, as a pin does; a click near a border only says where the border is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import LEVELS, Kind, structure_by_label
from lumbarseg.clicks import Click
from lumbarseg.errors import SegmentError
from lumbarseg.inference import Predictor
from lumbarseg.inference.predictor import SlicePrediction, predict_with_clicks
from lumbarseg.preprocessing import argmax_classes
from lumbarseg.volume import Array, Grid, Volume

from .click_overrides import apply_click_overrides
from .instances import Instances
from .label_map import check_level_order, classes_on_exam_grid, keep_kinds, rename_levels, render_label_map
from .levels import LevelAssignment, list_levels, lowest_name, names_upward
from .state import Segmentation, SegmentationState, collect_warnings, find_lumbar_instances

CHANGE_RADIUS = 40.0
"""mm from a click, within which it may change an answer."""
CONTACT_RADIUS = 6.0
"""mm from a click, within which a change must begin to be its doing."""
_NAMING_DEPTH = {
    Kind.BODY: 4.0,
    Kind.DISC: 2.0,
}  # mm from the border in plane, from which a click says what the whole is
_MARGIN = (0, 2, 2)  # voxels about a change, so that its border is interpolated from scores of one kind


def refine_with_clicks(state: SegmentationState, model: Predictor, clicks: Sequence[Click]) -> Segmentation:
    """The answer of `look` after clicks, all of those that were set so far; the model must be the same.

    SegmentError when the model reads no clicks, when one lies outside the exam or is of a tissue that the model does
    not know, or when clicks contradict each other.
    """
    if model.card.spec.clicks is None:
        raise SegmentError(
            "this model reads no clicks; use one that was trained with lumbarseg train --method deepedit, "
            "or name a vertebra with --pin"
        )
    _check_clicks(clicks, model, state.segmentation.labels.grid)
    told = [said for said in (_click_for_network(click, state.segmentation.labels) for click in clicks) if said]
    views = predict_with_clicks(model, state.array, told, state.grid, state.probabilities, state.click_cache)
    return _refined_segmentation(_merged_state(state, views, clicks), model, clicks)


def override_with_clicks(state: SegmentationState, model: Predictor, clicks: Sequence[Click]) -> Segmentation:
    """The same without asking the network, for a model that reads no clicks: names move, small balls are set.

    SegmentError as `refine`, but for a model that reads none.
    """
    _check_clicks(clicks, model, state.segmentation.labels.grid)
    return _refined_segmentation(state, model, clicks)


def _refined_segmentation(seen: SegmentationState, model: Predictor, clicks: Sequence[Click]) -> Segmentation:
    """The answer after clicks, with every click's voxel as it says; seen: all but names and answer as `_merged`."""
    source, grid = seen.segmentation.labels.grid, seen.grid
    spacing = np.array(seen.prepared.grid.spacing)
    found = find_lumbar_instances(seen.classes, spacing, model.card)
    naming, moved = _assign_levels_after_clicks(found, seen, clicks, spacing)
    base = seen.segmentation.labels.array
    if moved:
        base = rename_levels(base, seen.instances, seen.assignment.names, moved)
    labels = keep_kinds(
        render_label_map(seen.exam_classes, found, naming.names, seen.prepared, seen.flips), model.card.output_kinds
    )
    taken = changes_near_clicks(base != labels, _click_voxels(clicks, source), np.array(source.spacing))
    labels = np.where(taken, labels, base)
    check_level_order(labels)
    labels, remarks = apply_click_overrides(labels, base, clicks, source)
    return Segmentation(
        Volume(labels, source.affine),
        list_levels(found, naming, seen.probabilities, grid.affine),
        (*collect_warnings(naming, seen.flips), *remarks),
        naming.anchor,
        round(naming.confidence, 3),
    )


def _check_clicks(clicks: Sequence[Click], model: Predictor, source: Grid) -> None:
    for number, click in enumerate(clicks, start=1):
        place = source.to_index(np.array(click.point))
        if (place < -1).any() or (place > source.shape).any():
            raise SegmentError(f"click {number} ({click.describe()}) lies outside the exam; points are RAS+ mm")
        if click.kind is not Kind.BACKGROUND and click.kind not in model.card.output_kinds:
            raise SegmentError(f"click {number} ({click.describe()}): this model knows no {click.kind}")
    voxels = [tuple(row) for row in np.rint(_click_voxels(clicks, source)).astype(int).tolist()]
    for number, (click, voxel) in enumerate(zip(clicks, voxels, strict=True)):
        for other, at in zip(clicks[:number], voxels[:number], strict=True):
            if at == voxel and click.positive and not _are_compatible(click, other):
                raise SegmentError(f"clicks contradict each other: {other.describe()}, and {click.describe()}")


def _are_compatible(click: Click, other: Click) -> bool:
    """Whether one voxel can be what both say; `click` is positive."""
    return bool(click.labels & other.labels) if other.positive else bool(click.labels - other.labels)


def _click_voxels(clicks: Sequence[Click], grid: Grid) -> Array:
    """(clicks, 3) voxel coordinates inside a grid."""
    points = grid.to_index(np.array([click.point for click in clicks]).reshape(-1, 3))
    return np.clip(points, 0, np.array(grid.shape) - 1)


def _click_for_network(click: Click, labels: Volume) -> Click | None:
    """What a click tells the network, which knows tissues and no names; None for one that is about a name alone.

    "Not L3" means background, unless the answer says something else there already: then it means that.
    """
    here = int(labels.array[tuple(np.rint(_click_voxels([click], labels.grid)[0]).astype(int))])
    if click.positive or not here or here in click.labels:
        return click
    kind = structure_by_label(here).kind
    return None if kind is click.kind else Click(click.point, str(kind))


def changes_near_clicks(changes: Array, places: Array, spacing: Array) -> Array:
    """Of changes, (I, J, K) bool, those that hang together with a click and lie within its reach.

    places: (clicks, 3) voxel coordinates; spacing: mm.
    """
    out = np.zeros(changes.shape, bool)
    box = _box_around_clicks(changes.shape, places, spacing)
    away = np.full(out[box].shape, np.inf, np.float32)
    axes = [np.arange(side.start, side.stop, dtype=np.float32) for side in box]
    for place in places:
        i, j, k = (((axis - at) * step) ** 2 for axis, at, step in zip(axes, place, spacing, strict=True))
        np.minimum(away, i[:, None, None] + j[None, :, None] + k[None, None], out=away)
    pieces, _ = ndimage.label(changes[box] & (away <= CHANGE_RADIUS**2), np.ones((3, 3, 3)))
    near = np.unique(pieces[away <= CONTACT_RADIUS**2])
    out[box] = np.isin(pieces, near[near > 0])
    return out


def _box_around_clicks(shape: tuple[int, ...], places: Array, spacing: Array) -> tuple[slice, ...]:
    """The box that holds all within reach of clicks; places: (clicks, 3) voxel coordinates; spacing: mm."""
    low = np.maximum(0, np.floor(places.min(axis=0) - CHANGE_RADIUS / spacing)).astype(int)
    high = np.minimum(shape, np.ceil(places.max(axis=0) + CHANGE_RADIUS / spacing) + 1).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _merged_state(
    seen: SegmentationState, views: Sequence[SlicePrediction], clicks: Sequence[Click]
) -> SegmentationState:
    """The same with scores after clicks where the class changed for a click's sake; names and answer are not."""
    scores, classes = seen.probabilities.copy(), seen.classes.copy()
    for view in views:
        classes[view.region] = argmax_classes(view.probabilities)
    places, spacing = _click_voxels(clicks, seen.grid), np.array(seen.prepared.grid.spacing)
    box = _box_around_clicks(classes.shape, places, spacing)
    changes = seen.classes[box] != classes[box]
    taken = changes_near_clicks(changes, places - [side.start for side in box], spacing)
    around = ndimage.maximum_filter(taken, [2 * margin + 1 for margin in _MARGIN])
    counts = np.zeros(classes.shape, bool)
    counts[box] = around & (taken | ~changes)
    np.copyto(classes, seen.classes, where=~counts)
    for view in views:
        np.copyto(scores[(slice(None), *view.region)], view.probabilities, where=counts[view.region])
    tissue = classes_on_exam_grid(scores, seen.prepared, seen.flips, counts, seen.exam_classes)
    return replace(seen, probabilities=scores, classes=classes, exam_classes=tissue)


def _assign_levels_after_clicks(
    found: Instances, seen: SegmentationState, clicks: Sequence[Click], spacing: Array
) -> tuple[LevelAssignment, tuple[str, ...]]:
    """Names for the bodies after clicks, and new names for those before, () where they stay.

    Without a click that says otherwise each body keeps its name, however the count changed.
    """
    before = seen.assignment.names
    now, then = found.level_map, seen.instances.level_map
    both = (now > 0) & (then > 0)
    votes = np.bincount(now[both].astype(np.intp) * 256 + then[both], minlength=1)
    number, old = divmod(int(votes.argmax()), 256) if votes.any() else (1, 1)
    start = lowest_name(before[old - 1], number)
    starts = {lowest_name(level, n): click for level, n, click in _named_by_clicks(found, seen.grid, clicks, spacing)}
    if len(starts) > 1:
        first, second = (click.describe() for click in list(starts.values())[:2])
        raise SegmentError(f"clicks contradict each other about the names: {first}, and {second}")
    if starts and seen.assignment.anchor == "given by the user" and start not in starts:
        raise SegmentError(f"--lowest or --pin and the click on {next(iter(starts.values())).describe()} disagree")
    if not starts:
        return replace(seen.assignment, names=names_upward(start, found.count)), ()
    naming = LevelAssignment(
        names_upward(next(iter(starts)), found.count), "given by the user", 1.0, ("named by a click",), ()
    )
    if start in starts:
        return naming, ()
    return naming, names_upward(lowest_name(naming.names[number - 1], old), seen.instances.count)


def _named_by_clicks(
    found: Instances, grid: Grid, clicks: Sequence[Click], spacing: Array
) -> list[tuple[str, int, Click]]:
    """Clicks deep inside a body, or the disc below it: the body's name, its number, the click."""
    out = []
    for click, place in zip(clicks, np.rint(_click_voxels(clicks, grid)).astype(int), strict=True):
        level = click.structure.split("-")[0]
        if not click.positive or click.kind not in _NAMING_DEPTH or level not in LEVELS:
            continue
        numbers = found.bodies if click.kind is Kind.BODY else found.discs
        number = int(numbers[tuple(place)])
        if not number:
            continue
        inside = np.pad(numbers[place[0]] == number, 1)
        depth = ndimage.distance_transform_edt(inside, sampling=spacing[1:])[place[1] + 1, place[2] + 1]
        if depth >= _NAMING_DEPTH[click.kind]:
            out.append((level, number, click))
    return out
