"""A label table proposed for label maps that nobody explained: names guessed from position and size.

In each label map, the kind of a value is guessed from its shape: the canal is long and narrow, posterior elements lie
behind it, bodies are thick from head to foot, discs thin, a body with its posterior elements is deep, the sacrum is the
lowest and long. A value of several components stands for all levels. Over all label maps, the most frequent guess
counts, and levels are counted from below. Whoever reads the table corrects it before the import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cmp_to_key

import numpy as np

from lumbarseg.anatomy import LEVELS, Kind, arch_of_level, disc_between, kinds_from_names, levels_upward
from lumbarseg.components import connected_components
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .label_table import UNKNOWN, LabelTable, count_voxels

_MIN_AREA = 60.0  # mm2 in the sagittal plane; smaller components are specks
_MIN_CANAL_SHARE = 0.6  # of the length of all values
_MAX_CANAL_DEPTH = 26.0  # mm from front to back; a body has 30 to 40
_MIN_BODY_THICKNESS = 16.0  # mm; a lumbar body has 22 to 32, a disc 6 to 13
_MIN_BODY_RATIO = 0.5  # of thickness to width; a small thoracic body has 0.6, a disc 0.2 to 0.4
_MIN_VERTEBRA_DEPTH = 55.0  # mm from the front of a body to the tip of its spinous process; a body has at most 45
_MIN_ARCH_SHARE = 0.5  # behind the middle of the canal: all of posterior elements but the pedicles
_MIN_VERTEBRA_SHARE = 0.1  # behind the canal: of a body nothing
_MIN_SACRUM_LENGTH, _MIN_SACRUM_RATIO = 45.0, 1.3  # mm; to the usual length of vertebrae
_MAX_PARTS = 3  # components of one structure: a fracture, or body and posterior elements
_MIN_DISCS_WITH_L5_S1 = 5  # datasets of four discs annotate L1-L2 to L4-L5
_MAX_LEVELS = 17  # from L5 to T1
_MIN_WHOLE_SHARE = 1 / 3  # of all vertebrae that show posterior elements, where these belong to their label


@dataclass(frozen=True)
class _Shape:
    """The voxels of one value, in mm.

    height, anterior : of the centre; bottom, length : from foot to head; depth : mean extent of the largest component
    from front to back; reach : extent from front to back, of the largest component where there are many; thickness,
    width : of the largest component across and along its long axis in the sagittal plane; component_count : without
    specks
    """

    height: float
    anterior: float
    bottom: float
    length: float
    depth: float
    reach: float
    thickness: float
    width: float
    component_count: int


@dataclass(frozen=True)
class _Guess:
    """What a value is in one label map.

    Attributes
    ----------
    kind : None for specks
    is_single : one structure, not all of its kind
    height : of its centre, mm
    has_arch : of a vertebra: it reaches as far back as posterior elements
    """

    kind: Kind | None
    is_single: bool
    height: float
    has_arch: bool


_Meaning = tuple[Kind | None, bool]
"""Kind, and whether the value is one structure, not all of its kind."""


def propose_label_table(label_maps: Iterable[Volume]) -> LabelTable:
    """Return a label table for label maps, (I, J, K) uint8.

    Structures that no value seems to be may lie in the background: the value 0 may be any of them.
    """
    guesses = [_guess_structures(reorient(labels, "RAS")) for labels in label_maps]
    values = sorted({value for of_map in guesses for value in of_map})
    meanings = {value: _most_frequent([of_map[value] for of_map in guesses if value in of_map]) for value in values}
    names = _name_values(meanings, _order_from_below(values, guesses))
    has_arch = [g.has_arch for of_map in guesses for g in of_map.values() if g.kind is Kind.BODY]
    if sum(has_arch) > _MIN_WHOLE_SHARE * len(has_arch):
        names = {value: _with_posterior_elements(row) for value, row in names.items()}
    named_kinds = kinds_from_names(name for row in names.values() for name in row if name != UNKNOWN)
    return {0: tuple(kind.value for kind in Kind if kind is Kind.BACKGROUND or kind not in named_kinds), **names}


def _guess_structures(volume: Volume) -> dict[int, _Guess]:
    """Return what each value of a label map in RAS order is."""
    shapes = {value: _measure_shape(volume, value) for value in count_voxels(volume.array) if value}
    canal = _find_canal(shapes)
    behind = _shares_behind(volume, canal) if canal else {}
    guesses = {value: _guess_from_shape(shape, behind.get(value, 0.0)) for value, shape in shapes.items()}
    if canal:
        guesses[canal] = replace(guesses[canal], kind=Kind.CANAL)
    sacrum = _find_sacrum(shapes, guesses)
    return guesses | ({sacrum: replace(guesses[sacrum], kind=Kind.SACRUM)} if sacrum else {})


def _guess_from_shape(shape: _Shape, share_behind: float) -> _Guess:
    """Return what a value is if it is neither canal nor sacrum; share_behind: of its voxels, behind the canal."""
    is_thick = shape.thickness >= min(_MIN_BODY_THICKNESS, _MIN_BODY_RATIO * shape.width)
    kind = Kind.ARCH if share_behind > _MIN_ARCH_SHARE else Kind.BODY if is_thick else Kind.DISC
    has_arch = share_behind > _MIN_VERTEBRA_SHARE or shape.reach >= _MIN_VERTEBRA_DEPTH
    is_single = shape.component_count <= _MAX_PARTS
    return _Guess(kind if shape.component_count else None, is_single, shape.height, has_arch)


def _find_canal(shapes: Mapping[int, _Shape]) -> int:
    """Return the value that is narrow and nearly as long as all values together, 0 for none."""
    if len(shapes) < 2:
        return 0
    bottom, top = min(s.bottom for s in shapes.values()), max(s.bottom + s.length for s in shapes.values())
    is_narrow = {
        value: s.depth <= _MAX_CANAL_DEPTH and 0 < s.component_count <= _MAX_PARTS for value, s in shapes.items()
    }
    candidates = [v for v, s in shapes.items() if is_narrow[v] and s.length >= _MIN_CANAL_SHARE * (top - bottom)]
    return max(candidates, key=lambda value: shapes[value].anterior, default=0)  # posterior elements lie behind it


def _find_sacrum(shapes: Mapping[int, _Shape], guesses: Mapping[int, _Guess]) -> int:
    """Return the lowest value of the column if it is longer than vertebrae, 0 for none."""
    column = [value for value, guess in guesses.items() if guess.kind in (Kind.BODY, Kind.DISC)]
    bodies = [value for value in column if guesses[value].kind is Kind.BODY and guesses[value].is_single]
    lowest = min(column, key=lambda value: shapes[value].height, default=0)
    if lowest not in bodies:
        return 0
    usual = float(np.median([shapes[value].length for value in bodies]))
    return lowest if shapes[lowest].length >= max(_MIN_SACRUM_LENGTH, _MIN_SACRUM_RATIO * usual) else 0


def _most_frequent(guesses: Sequence[_Guess]) -> _Meaning:
    """Return the most frequent meaning; specks decide nothing where a value is larger elsewhere."""
    counter: Counter[_Meaning] = Counter((guess.kind, guess.is_single) for guess in guesses)
    return max(counter, key=lambda meaning: (meaning[0] is not None, counter[meaning]))


def _order_from_below(values: list[int], guesses: Sequence[Mapping[int, _Guess]]) -> list[int]:
    """Return values from foot to head, as most label maps that hold two of them show."""

    def compare(first: int, second: int) -> int:
        both = [of_map for of_map in guesses if first in of_map and second in of_map]
        return sum(1 if of_map[first].height > of_map[second].height else -1 for of_map in both)

    return sorted(values, key=cmp_to_key(compare))


def _with_posterior_elements(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a vertebra with its posterior elements; of another structure as they are."""
    (name,) = names
    if name == Kind.BODY.value:
        return name, Kind.ARCH.value
    return (name, arch_of_level(name).name) if name in LEVELS else names


def _name_values(meanings: Mapping[int, _Meaning], ordered: Sequence[int]) -> LabelTable:
    """Return the name of each value, each level once. ordered: from below."""
    names: LabelTable = {value: (kind.value if kind else UNKNOWN,) for value, (kind, _) in meanings.items()}
    vertebrae, discs, arches = (
        [value for value in ordered if meanings[value] == (kind, True)] for kind in (Kind.BODY, Kind.DISC, Kind.ARCH)
    )
    levels = levels_upward("L5", min(len(vertebrae), _MAX_LEVELS))
    names |= {value: (level,) for value, level in zip(vertebrae, levels, strict=False)}
    if len(arches) == len(vertebrae):
        names |= {value: (arch_of_level(level).name,) for value, level in zip(arches, levels, strict=False)}
    return names | _name_discs(discs, vertebrae, ordered)


def _name_discs(discs: Sequence[int], vertebrae: Sequence[int], ordered: Sequence[int]) -> LabelTable:
    """Return the name of each disc: from the number of vertebrae below it, or without these by their order."""
    levels = ["S1", *levels_upward("L5", min(_MAX_LEVELS, max(len(vertebrae), len(discs)) + 1))]
    position = {value: index for index, value in enumerate(ordered)}
    first = 0 if len(discs) >= _MIN_DISCS_WITH_L5_S1 else 1
    names: LabelTable = {}
    for number, disc in enumerate(discs):
        rank = sum(position[v] < position[disc] for v in vertebrae) if vertebrae else first + number
        if rank + 1 < len(levels):
            name = disc_between(levels[rank + 1], levels[rank]).name
            names[disc] = (name,) if (name,) not in names.values() else (UNKNOWN,)
    return names


def _shares_behind(volume: Volume, canal: int) -> dict[int, float]:
    """Return for each value the share of its voxels that lie behind the middle of the canal at their height."""
    is_canal = volume.array == canal
    rows = is_canal.any(axis=(0, 1))
    depth = np.arange(volume.array.shape[1])[None, :, None]
    middle = (is_canal * depth).sum(axis=(0, 1)) / np.maximum(is_canal.sum(axis=(0, 1)), 1)
    behind: Array = (depth < middle) & rows
    totals = np.bincount(volume.array[:, :, rows].ravel(), minlength=256)
    counts = np.bincount(volume.array[behind & (volume.array > 0)], minlength=256)
    return {value: counts[value] / totals[value] for value in np.flatnonzero(totals).tolist()}


def _measure_shape(volume: Volume, value: int) -> _Shape:
    """Measure one value of a label map in RAS order."""
    spacing = volume.grid.spacing
    components = connected_components(volume.array == value)
    slices = np.count_nonzero(components.numbers.any(axis=(1, 2)))
    count = int(np.count_nonzero(components.sizes * spacing[1] * spacing[2] / slices >= _MIN_AREA))
    largest = components.numbers == components.sizes.argmax()
    depth = float(np.count_nonzero(largest) / np.count_nonzero(largest.any(axis=1)) * spacing[1])
    points = np.argwhere(largest)[:, 1:] * spacing[1:]
    variances = np.linalg.eigvalsh(np.atleast_2d(np.cov(points, rowvar=False, bias=True)))
    thickness, width = np.sqrt(12 * np.maximum(0.0, variances))  # of a rectangle of these variances
    _, columns, rows = np.nonzero(components.numbers)
    reach = (np.ptp(columns) if count <= _MAX_PARTS else np.ptp(np.nonzero(largest)[1])) * spacing[1]
    return _Shape(
        height=float(rows.mean() * spacing[2]),
        anterior=float(columns.mean() * spacing[1]),
        bottom=float(rows.min() * spacing[2]),
        length=float((rows.max() - rows.min() + 1) * spacing[2]),
        depth=depth,
        reach=float(reach),
        thickness=float(thickness),
        width=float(width),
        component_count=count,
    )
