"""A label table proposed for label maps that nobody explained: names guessed from position and size.

The kind of each value is the most frequent guess by its shape in RAS order: the canal is long and narrow, posterior
elements lie behind it, bodies are thick from head to foot, discs thin, a body with its posterior elements is deep, the
sacrum is the lowest and long. A value of several components is one name for all levels. Levels are counted from below.
Whoever reads the table corrects it before the import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key

import numpy as np

from lumbarseg.anatomy import LEVELS, Kind, arch_of_level, disc_between, kinds_from_names, levels_upward
from lumbarseg.components import connected_components
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .label_table import UNKNOWN, LabelTable

_MIN_AREA = 60.0  # mm2 in the sagittal plane; smaller components are specks
_MIN_CANAL_SHARE, _MAX_CANAL_DEPTH = (
    0.6,
    26.0,
)  # of the length of all values; mm from front to back, a body has 30 to 40
_MIN_BODY_THICKNESS = 16.0  # mm; a lumbar body has 22 to 32, a disc 6 to 13
_MIN_BODY_RATIO = 0.5  # of thickness to depth; a small thoracic body has 0.6, a disc 0.2 to 0.4
_MIN_VERTEBRA_DEPTH = 55.0  # mm from the front of a body to the tip of its spinous process; a body has at most 45
_MIN_ARCH_SHARE = 0.5  # behind the middle of the canal: all of posterior elements but the pedicles
_MIN_VERTEBRA_SHARE = 0.1  # behind the canal: of a body nothing
_MIN_SACRUM_LENGTH, _MIN_SACRUM_RATIO = 45.0, 1.3  # mm; to the usual length of vertebrae
_MAX_PARTS = 3  # components of one structure: a fracture, or body and posterior elements
_MIN_DISCS_WITH_L5_S1 = 5  # datasets of four discs annotate L1-L2 to L4-L5

_MAX_LEVELS = 17  # from L5 to T1
_MIN_WHOLE_SHARE = 1 / 3  # of all vertebrae that show posterior elements, where these belong to their label


@dataclass(frozen=True)
class _Guess:
    """What a value is: its kind, None for specks; is_single: one structure, not all of its kind."""

    kind: Kind | None
    is_single: bool = False


@dataclass(frozen=True)
class _Shape:
    """The voxels of one value, in mm.

    height, anterior : of the centre; length : from head to foot; depth : mean extent of the largest component from
    front to back; reach : extent from front to back, of the largest component where there are many; thickness, width :
    of the largest component across and along its long axis in the sagittal plane; component_count : without specks
    """

    height: float
    anterior: float
    length: float
    depth: float
    reach: float
    thickness: float
    width: float
    component_count: int

    @property
    def is_thick(self) -> bool:
        """Return whether the shape is a body or the sacrum, not a disc."""
        return self.thickness >= min(_MIN_BODY_THICKNESS, _MIN_BODY_RATIO * self.width)

    def is_canal(self, length: float) -> bool:
        """Return whether the shape is narrow and nearly as long as all values together."""
        is_long = self.length >= _MIN_CANAL_SHARE * length and self.depth <= _MAX_CANAL_DEPTH
        return is_long and 0 < self.component_count <= _MAX_PARTS


def propose_label_table(label_maps: Iterable[Volume]) -> LabelTable:
    """Return a label table for label maps, (I, J, K) uint8.

    Structures that no value seems to be may lie in the background: the value 0 may be any of them.
    """
    votes: dict[int, Counter[_Guess]] = {}
    is_whole: list[bool] = []  # of each vertebra in each label map: with its posterior elements
    heights = []
    for labels in label_maps:
        volume = reorient(labels, "RAS")
        shapes = {int(value): _measure_shape(volume, int(value)) for value in np.unique(volume.array) if value}
        canal, behind = _find_canal(volume, shapes)
        heights.append({value: shape.height for value, shape in shapes.items()})
        for value, guess in _guess_kinds(shapes, canal, behind).items():
            votes.setdefault(value, Counter())[guess] += 1
            if guess.kind is Kind.BODY:
                is_behind = behind.get(value, 0.0) > _MIN_VERTEBRA_SHARE
                is_whole.append(is_behind or shapes[value].reach >= _MIN_VERTEBRA_DEPTH)
    guesses = {value: _most_frequent(counter) for value, counter in sorted(votes.items())}
    names = _name_values(guesses, _order_from_below([*guesses], heights))
    if sum(is_whole) > _MIN_WHOLE_SHARE * len(is_whole):
        names = {value: _with_posterior_elements(row) for value, row in names.items()}
    guessed = kinds_from_names(name for row in names.values() for name in row if name != UNKNOWN)
    missing = [kind.value for kind in Kind if kind is not Kind.BACKGROUND and kind not in guessed]
    return {0: (Kind.BACKGROUND.value, *missing), **names}


def _most_frequent(counter: Counter[_Guess]) -> _Guess:
    """Return the most frequent guess; specks decide nothing where a value is larger elsewhere."""
    return max(counter, key=lambda guess: (guess.kind is not None, counter[guess]))


def _find_canal(volume: Volume, shapes: Mapping[int, _Shape]) -> tuple[int, dict[int, float]]:
    """Return the value of the canal, 0 for none, and the share of each value behind it; in RAS order."""
    length = float(np.ptp(np.nonzero(volume.array)[2]) * volume.grid.spacing[2]) if shapes else 0.0
    candidates = [value for value, shape in shapes.items() if len(shapes) > 1 and shape.is_canal(length)]
    canal = max(candidates, key=lambda value: shapes[value].anterior, default=0)  # posterior elements lie behind it
    return canal, _shares_behind(volume, canal) if canal else {}


def _guess_kinds(shapes: Mapping[int, _Shape], canal: int, behind: Mapping[int, float]) -> dict[int, _Guess]:
    """Return what each value of one label map is."""
    guesses = {}
    for value, shape in shapes.items():
        kind = Kind.BODY if shape.is_thick else Kind.DISC
        if value == canal:
            kind = Kind.CANAL
        elif behind.get(value, 0.0) > _MIN_ARCH_SHARE:
            kind = Kind.ARCH
        guesses[value] = _Guess(kind, shape.component_count <= _MAX_PARTS) if shape.component_count else _Guess(None)
    column = [value for value, guess in guesses.items() if guess.kind in (Kind.BODY, Kind.DISC)]
    lowest = min(column, key=lambda value: shapes[value].height, default=0)
    bodies = [value for value in column if guesses[value] == _Guess(Kind.BODY, True)]
    usual = float(np.median([shapes[value].length for value in bodies])) if bodies else 0.0
    if lowest in bodies and shapes[lowest].length >= max(_MIN_SACRUM_LENGTH, _MIN_SACRUM_RATIO * usual):
        guesses[lowest] = _Guess(Kind.SACRUM, True)
    return guesses


def _order_from_below(values: list[int], heights: Sequence[Mapping[int, float]]) -> list[int]:
    """Return values from foot to head, as most label maps that hold two of them show."""

    def compare(first: int, second: int) -> int:
        both = [each for each in heights if first in each and second in each]
        return sum(1 if each[first] > each[second] else -1 for each in both)

    return sorted(values, key=cmp_to_key(compare))


def _with_posterior_elements(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of a vertebra with its posterior elements; of another structure as they are."""
    (name,) = names
    if name == Kind.BODY.value:
        return name, Kind.ARCH.value
    return (name, arch_of_level(name).name) if name in LEVELS else names


def _name_values(guesses: Mapping[int, _Guess], ordered: Sequence[int]) -> LabelTable:
    """Return the name of each value, each level once. ordered: from below."""
    names: LabelTable = {value: (guess.kind.value if guess.kind else UNKNOWN,) for value, guess in guesses.items()}
    vertebrae, discs, arches = (
        [value for value in ordered if guesses[value] == _Guess(kind, True)]
        for kind in (Kind.BODY, Kind.DISC, Kind.ARCH)
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
    height, anterior = rows.mean() * spacing[2], columns.mean() * spacing[1]
    length = (rows.max() - rows.min() + 1) * spacing[2]
    reach = (np.ptp(columns) if count <= _MAX_PARTS else np.ptp(np.nonzero(largest)[1])) * spacing[1]
    return _Shape(
        float(height), float(anterior), float(length), depth, float(reach), float(thickness), float(width), count
    )
