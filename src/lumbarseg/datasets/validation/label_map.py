"""Label maps: their values, holes, specks, structures in two places, and traces of interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from lumbarseg.anatomy import Kind
from lumbarseg.components import label_boxes
from lumbarseg.volume import Array, Volume

from ..dataset import Case
from ..label_table import UNKNOWN, count_voxels
from . import Finding, Severity
from .components import LabelRegion

_SPECK_VOLUME = 150.0  # mm3: less, of a structure that may have several components, is a speck
_TINY_VOLUME = 10.0  # mm3: less is an edge that the voxels could not follow, wherever it is
_SPLIT_FRACTION = 0.1  # of the largest component of a level: less is a speck, more a second structure
_HOLE_VOLUME = 30.0  # mm3 of holes in a body or disc that should be looked at; less is a note
_INTERPOLATED_FRACTION = 0.12  # of the voxels at edges, with a value between those of their neighbours
_WHOLE_VERTEBRA = frozenset({Kind.BODY, Kind.ARCH})
# mm from the rest, by kinds: (a speck further away is a mistake, a large component further away is another structure)
_DISTANCE_LIMITS: dict[frozenset[Kind], tuple[float, float]] = {
    _WHOLE_VERTEBRA: (40.0, 60.0),
    frozenset({Kind.ARCH}): (40.0, 60.0),
}
_DEFAULT_DISTANCE_LIMITS = (8.0, 12.0)
_MAX_VALUES = 6  # values listed in a message


def check_values(case: Case, labels: Volume) -> list[Finding]:
    """Report values that the label table does not explain, and label maps without any structure."""
    present = count_voxels(labels.array)
    unexplained = [value for value in present if value not in case.label_table]
    if unexplained:
        listed = ", ".join(f"{value} ({present[value]} voxels)" for value in unexplained[:_MAX_VALUES])
        text = f"the label table does not explain the values {listed}; correct them, or explain them in dataset.json"
        return [Finding(case.name, "values", "error", text)]
    rows = [case.label_table[value] for value in present]
    if all("background" in row or row == (UNKNOWN,) for row in rows):
        text = "nothing is labelled: training would learn that there is no spine in it; leave the exam out"
        return [Finding(case.name, "empty", "error", text)]
    return []


def check_interpolation(case: Case, labels: Volume) -> list[Finding]:
    """Report a map that was resized as grey values: voxels between two structures have values between theirs."""
    fraction = interpolated_fraction(labels.array)
    if fraction < _INTERPOLATED_FRACTION:
        return []
    text = (
        f"{fraction:.0%} of the voxels at edges have a value between those of their neighbours: the map was resized "
        "with interpolation; make it again with nearest neighbour"
    )
    return [Finding(case.name, "interpolated", "error", text)]


def interpolated_fraction(array: Array) -> float:
    """Return the fraction of in-plane edge voxels whose value lies between their two neighbours'; (I, J, K) uint8."""
    between = edges = 0
    for axis in (1, 2):
        planes = np.moveaxis(array, axis, 0)
        before, center, after = planes[:-2], planes[1:-1], planes[2:]
        rising, falling = (before < center) & (center < after), (before > center) & (center > after)
        between += int(np.count_nonzero(rising | falling))
        edges += int(np.count_nonzero(before != center))
    return between / max(edges, 1)


def check_holes(case: Case, labels: Volume, regions: Sequence[LabelRegion]) -> list[Finding]:
    """Report unlabelled voxels that a body or disc encloses within a sagittal slice."""
    holes: dict[Severity, list[str]] = {"warning": [], "note": []}
    voxel_volume = float(np.prod(labels.grid.spacing))
    boxes = label_boxes(labels.array)
    in_plane = np.zeros((3, 3, 3), bool)
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    for region in regions:
        if region.kinds not in ({Kind.BODY}, {Kind.DISC}):
            continue
        cropped = labels.array[boxes[region.value]]
        enclosed = ndimage.binary_fill_holes(cropped == region.value, in_plane) & (cropped == 0)
        volume = float(np.count_nonzero(enclosed)) * voxel_volume
        if volume:
            severity: Severity = "warning" if volume > _HOLE_VOLUME else "note"
            holes[severity].append(f"{region.display_name} ({volume:.0f} mm3)")
    titles: dict[Severity, str] = {"warning": "holes", "note": "small holes"}
    return [Finding(case.name, "holes", s, f"{titles[s]}: {', '.join(texts)}") for s, texts in holes.items() if texts]


def check_components(case: Case, labels: Volume, regions: Sequence[LabelRegion]) -> list[Finding]:
    """Report structures in two places, and specks where nothing of their kind can be."""
    findings = []
    tiny_specks: dict[str, int] = {}
    large = [c for region in regions for c in region.components if c.volume >= _SPECK_VOLUME]
    for region in regions:
        speck_limit, split_limit = _DISTANCE_LIMITS.get(region.kinds, _DEFAULT_DISTANCE_LIMITS)
        if region.kinds == {Kind.CANAL} and labels.array.shape[0] == 1:  # beside it a slice shows it between the arches
            speck_limit, split_limit = _DISTANCE_LIMITS[_WHOLE_VERTEBRA]
        # sacrum and canal may have several components
        is_single = region.level is not None and not region.kinds & {Kind.SACRUM, Kind.CANAL}
        rest = list(region.components[:1]) if is_single else large
        specks: list[tuple[float, float]] = []
        for component in region.components[1:]:
            is_small = component.volume < (_SPLIT_FRACTION * region.largest.volume if is_single else _SPECK_VOLUME)
            if component.touches_edge or not (is_small or is_single):
                continue
            distance = component.distance([other for other in rest if other is not component])
            if is_small and distance > speck_limit and component.volume > _TINY_VOLUME:
                specks.append((component.volume, distance))
            elif is_small:
                tiny_specks[region.display_name] = tiny_specks.get(region.display_name, 0) + 1
            elif distance > split_limit:
                text = f"{region.display_name} is in two places, {distance:.0f} mm apart; is one of them another level?"
                findings.append(Finding(case.name, "split", "error", text))
        if specks:
            findings.append(Finding(case.name, "specks", "warning", _describe_specks(region, specks)))
    if tiny_specks:
        listed = ", ".join(f"{count} of {name}" for name, count in tiny_specks.items())
        findings.append(Finding(case.name, "specks", "note", f"specks beside the rest: {listed}"))
    return findings


def _describe_specks(region: LabelRegion, specks: Sequence[tuple[float, float]]) -> str:
    volumes, distances = zip(*specks, strict=True)
    name = region.display_name
    if len(specks) == 1:
        return f"{name}: a speck of {volumes[0]:.0f} mm3 lies {distances[0]:.0f} mm from the rest; remove it"
    sizes = f"up to {max(volumes):.0f} mm3 lie up to {max(distances):.0f} mm from the rest"
    return f"{name}: {len(specks)} specks of {sizes}; remove them"
