"""What a label map says about itself: values, holes, specks, structures in two places, traces of interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import Kind
from lumbarseg.datasets.folder import Case, voxels
from lumbarseg.volume import Array, Volume

from .finding import Finding, Severity
from .pieces import Part, Piece

_SPECK = 150.0  # mm3: less of something that comes in pieces is a speck
_CRUMB = 10.0  # mm3: less is an edge that the voxels could not follow, wherever it is
_SPLIT = 0.1  # of the largest piece of a level: less is a speck, as much in another place a second structure
_HOLE = 30.0  # mm3 of holes in a body or disc that should be looked at; less is a note
_GRADED = 0.12  # of the voxels at edges that lie, in number too, between their neighbours: interpolated
_WHOLE = frozenset({Kind.BODY, Kind.ARCH})
# mm from the rest, by what is drawn: (a speck further away is a mistake, a large piece further away is another thing)
_FAR: dict[frozenset[Kind], tuple[float, float]] = {_WHOLE: (40.0, 60.0), frozenset({Kind.ARCH}): (40.0, 60.0)}
_NEAR = (8.0, 12.0)


def values(case: Case, labels: Volume) -> list[Finding]:
    """Values that the table does not explain, and maps in which nothing is drawn."""
    present = voxels(labels.array)
    strange = [value for value in present if value not in case.table]
    found = []
    if strange:
        told = ", ".join(f"{value} ({present[value]} voxels)" for value in strange[:6])
        text = f"values that the label table does not explain: {told}; put them right, or explain them in dataset.json"
        found.append(Finding(case.name, "values", "error", text))
    drawn = [
        v for v in present if v in case.table and "background" not in case.table[v] and case.table[v] != ("unknown",)
    ]
    if not drawn and not strange:
        text = "nothing is labelled: an exam without a label teaches that there is nothing; leave it out"
        found.append(Finding(case.name, "empty", "error", text))
    return found


def interpolated(case: Case, labels: Volume) -> list[Finding]:
    """Grey values rounded to labels: between two structures stand voxels with the numbers between theirs."""
    share = graded(labels.array)
    if share < _GRADED:
        return []
    text = (
        f"{share:.0%} of the voxels at edges hold a number between their neighbours': the map was resized with "
        "interpolation; make it again with nearest neighbour"
    )
    return [Finding(case.name, "interpolated", "error", text)]


def graded(array: Array) -> float:
    """Of the voxels at an edge, those whose value lies between their two neighbours' in the plane; (I, J, K) uint8."""
    between = edges = 0
    for axis in (1, 2):
        before, here, after = (np.moveaxis(array, axis, 0)[s] for s in (slice(None, -2), slice(1, -1), slice(2, None)))
        rising, falling = (before < here) & (here < after), (before > here) & (here > after)
        between += int(np.count_nonzero(rising | falling))
        edges += int(np.count_nonzero(before != here))
    return between / max(edges, 1)


def holes(case: Case, labels: Volume, parts: Sequence[Part]) -> list[Finding]:
    """Unlabelled voxels that a body or disc encloses within a sagittal slice."""
    found: dict[Severity, list[str]] = {"warning": [], "note": []}
    voxel = float(np.prod(labels.grid.spacing))
    boxes = ndimage.find_objects(labels.array)
    plane = np.zeros((3, 3, 3), bool)
    plane[1] = ndimage.generate_binary_structure(2, 1)
    for part in parts:
        if part.kinds not in ({Kind.BODY}, {Kind.DISC}):
            continue
        inside = labels.array[boxes[part.value - 1]]
        mask = inside == part.value
        empty = ndimage.binary_fill_holes(mask, plane) & (inside == 0)
        volume = float(np.count_nonzero(empty)) * voxel
        if volume:
            found["warning" if volume > _HOLE else "note"].append(f"{part.called} ({volume:.0f} mm3)")
    words: dict[Severity, str] = {"warning": "holes", "note": "small holes"}
    return [Finding(case.name, "holes", s, f"{words[s]}: {', '.join(told)}") for s, told in found.items() if told]


def places(case: Case, labels: Volume, parts: Sequence[Part]) -> list[Finding]:
    """Structures in two places, and specks that lie where nothing of their kind can be."""
    found = []
    near: dict[str, int] = {}
    for part in parts:
        far = _FAR.get(part.kinds, _NEAR)
        if part.kinds == {Kind.CANAL} and labels.array.shape[0] == 1:  # a slice beside it shows it between the arches
            far = _FAR[_WHOLE]
        single = part.level is not None and not part.kinds & {Kind.SACRUM, Kind.CANAL}  # those come in pieces
        rest = part.pieces[:1] if single else _large(parts)
        specks: list[tuple[float, float]] = []
        for piece in part.pieces[1:]:
            small = piece.volume < (_SPLIT * part.main.volume if single else _SPECK)
            if piece.cut or not (small or single):
                continue
            distance = piece.distance([other for other in rest if other is not piece])
            if small and distance > far[0] and piece.volume > _CRUMB:
                specks.append((piece.volume, distance))
            elif small:
                near[part.called] = near.get(part.called, 0) + 1
            elif distance > far[1]:
                text = f"{part.called} is in two places, {distance:.0f} mm apart; is one of them another level?"
                found.append(Finding(case.name, "split", "error", text))
        if specks:
            found.append(Finding(case.name, "specks", "warning", _specks(part, specks)))
    if near:
        told = ", ".join(f"{count} of {name}" for name, count in near.items())
        found.append(Finding(case.name, "specks", "note", f"loose crumbs beside the rest: {told}"))
    return found


def _specks(part: Part, specks: Sequence[tuple[float, float]]) -> str:
    volumes, distances = zip(*specks, strict=True)
    if len(specks) == 1:
        return f"{part.called}: a speck of {volumes[0]:.0f} mm3 lies {distances[0]:.0f} mm from the rest; remove it"
    told = f"{len(specks)} specks of up to {max(volumes):.0f} mm3 lie up to {max(distances):.0f} mm from the rest"
    return f"{part.called}: {told}; remove them"


def _large(parts: Sequence[Part]) -> list[Piece]:
    """Pieces of any value that are no specks."""
    return [piece for part in parts for piece in part.pieces if piece.volume >= _SPECK]
