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

from lumbarseg.anatomy import LEVELS, Kind, by_label
from lumbarseg.clicks import Click
from lumbarseg.errors import SegmentError
from lumbarseg.model import Answers
from lumbarseg.model.window import View, again
from lumbarseg.prepare import best_class
from lumbarseg.volume import Array, Grid, Volume

from .force import forced
from .instances import Instances
from .levels import Naming, levels, lowest_name, names_upward
from .look import Seen, Segmentation, lumbar, notes
from .paint import check, only, paint, renamed, tissues

REACH = 40.0
"""mm from a click, within which it may change an answer."""
NEAR = 6.0
"""mm from a click, within which a change must begin to be its doing."""
_DEEP = {Kind.BODY: 4.0, Kind.DISC: 2.0}  # mm from the border in plane, from which a click says what the whole is
_MARGIN = (0, 2, 2)  # voxels about a change, so that its border is interpolated from scores of one kind


def refine(seen: Seen, model: Answers, clicks: Sequence[Click]) -> Segmentation:
    """The answer of `look` after clicks, all of those that were set so far; the model must be the same.

    SegmentError when the model reads no clicks, when one lies outside the exam or is of a tissue that the model does
    not know, or when clicks contradict each other.
    """
    if model.card.spec.clicks is None:
        raise SegmentError(
            "this model reads no clicks; use one that was trained with lumbarseg train --method deepedit, "
            "or name a vertebra with --pin"
        )
    _usable(clicks, model, seen.answer.labels.grid)
    told = [said for said in (_said(click, seen.answer.labels) for click in clicks) if said]
    views = again(model, seen.array, told, seen.grid, seen.scores, seen.heard)
    return _answered(_merged(seen, views, clicks), model, clicks)


def by_hand(seen: Seen, model: Answers, clicks: Sequence[Click]) -> Segmentation:
    """The same without asking the network, for a model that reads no clicks: names move, small balls are set.

    SegmentError as `refine`, but for a model that reads none.
    """
    _usable(clicks, model, seen.answer.labels.grid)
    return _answered(seen, model, clicks)


def _answered(seen: Seen, model: Answers, clicks: Sequence[Click]) -> Segmentation:
    """The answer after clicks, with every click's voxel as it says; seen: all but names and answer as `_merged`."""
    source, grid = seen.answer.labels.grid, seen.grid
    spacing = np.array(seen.prepared.grid.spacing)
    found = lumbar(seen.classes, spacing, model.card)
    naming, moved = _named(found, seen, clicks, spacing)
    base = seen.answer.labels.array
    if moved:
        base = renamed(base, seen.found, seen.naming.names, moved)
    labels = only(paint(seen.tissue, found, naming.names, seen.prepared, seen.flips), model.card.painted)
    taken = touched(base != labels, _places(clicks, source), np.array(source.spacing))
    labels = np.where(taken, labels, base)
    check(labels)
    labels, remarks = forced(labels, base, clicks, source)
    return Segmentation(
        Volume(labels, source.affine),
        levels(found, naming, seen.scores, grid.affine),
        (*notes(naming, seen.flips), *remarks),
        naming.anchor,
        round(naming.confidence, 3),
    )


def _usable(clicks: Sequence[Click], model: Answers, source: Grid) -> None:
    for number, click in enumerate(clicks, start=1):
        place = source.to_index(np.array(click.point))
        if (place < -1).any() or (place > source.shape).any():
            raise SegmentError(f"click {number} ({click.told()}) lies outside the exam; points are RAS+ mm")
        if click.kind is not Kind.BACKGROUND and click.kind not in model.card.painted:
            raise SegmentError(f"click {number} ({click.told()}): this model knows no {click.kind}")
    voxels = [tuple(row) for row in np.rint(_places(clicks, source)).astype(int).tolist()]
    for number, (click, voxel) in enumerate(zip(clicks, voxels, strict=True)):
        for other, at in zip(clicks[:number], voxels[:number], strict=True):
            if at == voxel and click.positive and not _agree(click, other):
                raise SegmentError(f"clicks contradict each other: {other.told()}, and {click.told()}")


def _agree(click: Click, other: Click) -> bool:
    """Whether one voxel can be what both say; `click` is positive."""
    return bool(click.labels & other.labels) if other.positive else bool(click.labels - other.labels)


def _places(clicks: Sequence[Click], grid: Grid) -> Array:
    """(clicks, 3) voxel coordinates inside a grid."""
    points = grid.to_index(np.array([click.point for click in clicks]).reshape(-1, 3))
    return np.clip(points, 0, np.array(grid.shape) - 1)


def _said(click: Click, labels: Volume) -> Click | None:
    """What a click tells the network, which knows tissues and no names; None for one that is about a name alone.

    "Not L3" means background, unless the answer says something else there already: then it means that.
    """
    here = int(labels.array[tuple(np.rint(_places([click], labels.grid)[0]).astype(int))])
    if click.positive or not here or here in click.labels:
        return click
    kind = by_label(here).kind
    return None if kind is click.kind else Click(click.point, str(kind))


def touched(changes: Array, places: Array, spacing: Array) -> Array:
    """Of changes, (I, J, K) bool, those that hang together with a click and lie within its reach.

    places: (clicks, 3) voxel coordinates; spacing: mm.
    """
    out = np.zeros(changes.shape, bool)
    box = _surroundings(changes.shape, places, spacing)
    away = np.full(out[box].shape, np.inf, np.float32)
    axes = [np.arange(side.start, side.stop, dtype=np.float32) for side in box]
    for place in places:
        i, j, k = (((axis - at) * step) ** 2 for axis, at, step in zip(axes, place, spacing, strict=True))
        np.minimum(away, i[:, None, None] + j[None, :, None] + k[None, None], out=away)
    pieces, _ = ndimage.label(changes[box] & (away <= REACH**2), np.ones((3, 3, 3)))
    near = np.unique(pieces[away <= NEAR**2])
    out[box] = np.isin(pieces, near[near > 0])
    return out


def _surroundings(shape: tuple[int, ...], places: Array, spacing: Array) -> tuple[slice, ...]:
    """The box that holds all within reach of clicks; places: (clicks, 3) voxel coordinates; spacing: mm."""
    low = np.maximum(0, np.floor(places.min(axis=0) - REACH / spacing)).astype(int)
    high = np.minimum(shape, np.ceil(places.max(axis=0) + REACH / spacing) + 1).astype(int)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _merged(seen: Seen, views: Sequence[View], clicks: Sequence[Click]) -> Seen:
    """The same with scores after clicks where the class changed for a click's sake; names and answer are not."""
    scores, classes = seen.scores.copy(), seen.classes.copy()
    for view in views:
        classes[view.place] = best_class(view.scores)
    places, spacing = _places(clicks, seen.grid), np.array(seen.prepared.grid.spacing)
    box = _surroundings(classes.shape, places, spacing)
    changes = seen.classes[box] != classes[box]
    taken = touched(changes, places - [side.start for side in box], spacing)
    around = ndimage.maximum_filter(taken, [2 * margin + 1 for margin in _MARGIN])
    counts = np.zeros(classes.shape, bool)
    counts[box] = around & (taken | ~changes)
    np.copyto(classes, seen.classes, where=~counts)
    for view in views:
        np.copyto(scores[(slice(None), *view.place)], view.scores, where=counts[view.place])
    tissue = tissues(scores, seen.prepared, seen.flips, counts, seen.tissue)
    return replace(seen, scores=scores, classes=classes, tissue=tissue)


def _named(found: Instances, seen: Seen, clicks: Sequence[Click], spacing: Array) -> tuple[Naming, tuple[str, ...]]:
    """Names for the bodies after clicks, and new names for those before, () where they stay.

    Without a click that says otherwise each body keeps its name, however the count changed.
    """
    before = seen.naming.names
    now, then = found.counted, seen.found.counted
    both = (now > 0) & (then > 0)
    votes = np.bincount(now[both].astype(np.intp) * 256 + then[both], minlength=1)
    number, old = divmod(int(votes.argmax()), 256) if votes.any() else (1, 1)
    start = lowest_name(before[old - 1], number)
    starts = {lowest_name(level, n): click for level, n, click in _statements(found, seen.grid, clicks, spacing)}
    if len(starts) > 1:
        first, second = (click.told() for click in list(starts.values())[:2])
        raise SegmentError(f"clicks contradict each other about the names: {first}, and {second}")
    if starts and seen.naming.anchor == "given by the user" and start not in starts:
        raise SegmentError(f"--lowest or --pin and the click on {next(iter(starts.values())).told()} disagree")
    if not starts:
        return replace(seen.naming, names=names_upward(start, found.count)), ()
    naming = Naming(names_upward(next(iter(starts)), found.count), "given by the user", 1.0, ("named by a click",), ())
    if start in starts:
        return naming, ()
    return naming, names_upward(lowest_name(naming.names[number - 1], old), seen.found.count)


def _statements(found: Instances, grid: Grid, clicks: Sequence[Click], spacing: Array) -> list[tuple[str, int, Click]]:
    """Clicks deep inside a body, or the disc below it: the body's name, its number, the click."""
    out = []
    for click, place in zip(clicks, np.rint(_places(clicks, grid)).astype(int), strict=True):
        level = click.structure.split("-")[0]
        if not click.positive or click.kind not in _DEEP or level not in LEVELS:
            continue
        numbers = found.bodies if click.kind is Kind.BODY else found.discs
        number = int(numbers[tuple(place)])
        if not number:
            continue
        inside = np.pad(numbers[place[0]] == number, 1)
        depth = ndimage.distance_transform_edt(inside, sampling=spacing[1:])[place[1] + 1, place[2] + 1]
        if depth >= _DEEP[click.kind]:
            out.append((level, number, click))
    return out
