"""What a label map says about itself: values, holes, specks, structures in two places, traces of interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import Kind
from lumbarseg.volume import Array, Volume

from ..dataset import Case, count_voxels
from .components import Component, LabelRegion
from .finding import Finding, Severity

_SPECK_VOLUME = 150.0  # mm3: less of something that comes in pieces is a speck
_CRUMB_VOLUME = 10.0  # mm3: less is an edge that the voxels could not follow, wherever it is
_SPLIT_FRACTION = 0.1  # of the largest piece of a level: less is a speck, as much in another place a second structure
_HOLE_VOLUME = 30.0  # mm3 of holes in a body or disc that should be looked at; less is a note
_INTERPOLATED_FRACTION = 0.12  # of the voxels at edges that lie, in number too, between their neighbours: interpolated
_WHOLE_VERTEBRA = frozenset({Kind.BODY, Kind.ARCH})
# mm from the rest, by what is drawn: (a speck further away is a mistake, a large piece further away is another thing)
_DISTANCE_LIMITS: dict[frozenset[Kind], tuple[float, float]] = {
    _WHOLE_VERTEBRA: (40.0, 60.0),
    frozenset({Kind.ARCH}): (40.0, 60.0),
}
_DEFAULT_DISTANCE_LIMITS = (8.0, 12.0)


def check_values(case: Case, labels: Volume) -> list[Finding]:
    """Values that the table does not explain, and maps in which nothing is drawn."""
    present = count_voxels(labels.array)
    strange = [value for value in present if value not in case.label_table]
    found = []
    if strange:
        told = ", ".join(f"{value} ({present[value]} voxels)" for value in strange[:6])
        text = f"values that the label table does not explain: {told}; put them right, or explain them in dataset.json"
        found.append(Finding(case.name, "values", "error", text))
    drawn = [
        v
        for v in present
        if v in case.label_table and "background" not in case.label_table[v] and case.label_table[v] != ("unknown",)
    ]
    if not drawn and not strange:
        text = "nothing is labelled: an exam without a label teaches that there is nothing; leave it out"
        found.append(Finding(case.name, "empty", "error", text))
    return found


def check_interpolation(case: Case, labels: Volume) -> list[Finding]:
    """Grey values rounded to labels: between two structures stand voxels with the numbers between theirs."""
    share = interpolated_fraction(labels.array)
    if share < _INTERPOLATED_FRACTION:
        return []
    text = (
        f"{share:.0%} of the voxels at edges hold a number between their neighbours': the map was resized with "
        "interpolation; make it again with nearest neighbour"
    )
    return [Finding(case.name, "interpolated", "error", text)]


def interpolated_fraction(array: Array) -> float:
    """Of the voxels at an edge, those whose value lies between their two neighbours' in the plane; (I, J, K) uint8."""
    between = edges = 0
    for axis in (1, 2):
        before, here, after = (np.moveaxis(array, axis, 0)[s] for s in (slice(None, -2), slice(1, -1), slice(2, None)))
        rising, falling = (before < here) & (here < after), (before > here) & (here > after)
        between += int(np.count_nonzero(rising | falling))
        edges += int(np.count_nonzero(before != here))
    return between / max(edges, 1)


def check_holes(case: Case, labels: Volume, regions: Sequence[LabelRegion]) -> list[Finding]:
    """Unlabelled voxels that a body or disc encloses within a sagittal slice."""
    found: dict[Severity, list[str]] = {"warning": [], "note": []}
    voxel = float(np.prod(labels.grid.spacing))
    boxes = ndimage.find_objects(labels.array)
    plane = np.zeros((3, 3, 3), bool)
    plane[1] = ndimage.generate_binary_structure(2, 1)
    for part in regions:
        if part.kinds not in ({Kind.BODY}, {Kind.DISC}):
            continue
        inside = labels.array[boxes[part.value - 1]]
        mask = inside == part.value
        empty = ndimage.binary_fill_holes(mask, plane) & (inside == 0)
        volume = float(np.count_nonzero(empty)) * voxel
        if volume:
            found["warning" if volume > _HOLE_VOLUME else "note"].append(f"{part.display_name} ({volume:.0f} mm3)")
    words: dict[Severity, str] = {"warning": "holes", "note": "small holes"}
    return [Finding(case.name, "holes", s, f"{words[s]}: {', '.join(told)}") for s, told in found.items() if told]


def check_components(case: Case, labels: Volume, regions: Sequence[LabelRegion]) -> list[Finding]:
    """Structures in two places, and specks that lie where nothing of their kind can be."""
    found = []
    near: dict[str, int] = {}
    for part in regions:
        far = _DISTANCE_LIMITS.get(part.kinds, _DEFAULT_DISTANCE_LIMITS)
        if part.kinds == {Kind.CANAL} and labels.array.shape[0] == 1:  # a slice beside it shows it between the arches
            far = _DISTANCE_LIMITS[_WHOLE_VERTEBRA]
        single = part.level is not None and not part.kinds & {Kind.SACRUM, Kind.CANAL}  # those come in pieces
        rest = part.components[:1] if single else _large_components(regions)
        specks: list[tuple[float, float]] = []
        for piece in part.components[1:]:
            small = piece.volume < (_SPLIT_FRACTION * part.largest.volume if single else _SPECK_VOLUME)
            if piece.touches_edge or not (small or single):
                continue
            distance = piece.distance([other for other in rest if other is not piece])
            if small and distance > far[0] and piece.volume > _CRUMB_VOLUME:
                specks.append((piece.volume, distance))
            elif small:
                near[part.display_name] = near.get(part.display_name, 0) + 1
            elif distance > far[1]:
                text = f"{part.display_name} is in two places, {distance:.0f} mm apart; is one of them another level?"
                found.append(Finding(case.name, "split", "error", text))
        if specks:
            found.append(Finding(case.name, "specks", "warning", _describe_specks(part, specks)))
    if near:
        told = ", ".join(f"{count} of {name}" for name, count in near.items())
        found.append(Finding(case.name, "specks", "note", f"loose crumbs beside the rest: {told}"))
    return found


def _describe_specks(part: LabelRegion, specks: Sequence[tuple[float, float]]) -> str:
    volumes, distances = zip(*specks, strict=True)
    if len(specks) == 1:
        return (
            f"{part.display_name}: a speck of {volumes[0]:.0f} mm3 lies {distances[0]:.0f} mm from the rest; remove it"
        )
    told = f"{len(specks)} specks of up to {max(volumes):.0f} mm3 lie up to {max(distances):.0f} mm from the rest"
    return f"{part.display_name}: {told}; remove them"


def _large_components(parts: Sequence[LabelRegion]) -> list[Component]:
    """Pieces of any value that are no specks."""
    return [piece for part in parts for piece in part.components if piece.volume >= _SPECK_VOLUME]
