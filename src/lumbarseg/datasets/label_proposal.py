"""A label table proposed for label maps that nobody explained: names guessed from position and size.

The values of a label map are distinguished by their shape in RAS order: the canal is long and narrow, bodies are thick
from head to foot, discs thin, the sacrum is the lowest and long. A value of several components is one name for all
levels. Levels are counted from below. Whoever reads the table corrects it before the import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lumbarseg.anatomy import Kind, disc_between, kinds_from_names, levels_upward
from lumbarseg.components import connected_components
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .label_table import UNKNOWN, LabelTable

_MIN_AREA = 60.0  # mm2 in the sagittal plane; smaller components are specks
_MIN_CANAL_SHARE, _MAX_CANAL_DEPTH = (
    0.6,
    26.0,
)  # of the length of all values; mm from front to back, a body has 30 to 40
_MIN_BODY_THICKNESS = 16.0  # mm; a lumbar body has 22 to 32, a disc 6 to 13
_MIN_SACRUM_LENGTH = 45.0  # mm
_MAX_PARTS = 2  # components of one structure: a fracture, or two slices apart
_MIN_DISCS_WITH_L5_S1 = 5  # datasets of four discs annotate L1-L2 to L4-L5
_GUESSED_KINDS = (Kind.BODY, Kind.DISC, Kind.CANAL, Kind.SACRUM, Kind.ARCH)


@dataclass(frozen=True)
class _Shape:
    """The voxels of one value, in mm.

    height : of the centre; length : from head to foot; depth : mean extent of the largest component from front to back;
    thickness : its extent across its long axis in the sagittal plane; component_count : components that are no specks
    """

    value: int
    height: float
    length: float
    depth: float
    thickness: float
    component_count: int

    @property
    def is_single(self) -> bool:
        """Return whether the value is one structure, not all of a kind."""
        return self.component_count <= _MAX_PARTS

    @property
    def is_thick(self) -> bool:
        """Return whether the shape is a body or the sacrum, not a disc."""
        return self.thickness >= _MIN_BODY_THICKNESS

    def is_canal(self, length: float) -> bool:
        """Return whether the shape is narrow and nearly as long as all values together."""
        return self.length >= _MIN_CANAL_SHARE * length and self.depth <= _MAX_CANAL_DEPTH and self.is_single


def propose_label_table(label_maps: Iterable[Volume]) -> LabelTable:
    """Return a label table for label maps, (I, J, K) uint8: the most frequent guess for each value.

    Structures that no value seems to be may lie in the background: the value 0 may be any of them.
    """
    guesses: dict[int, Counter[str]] = {}
    for labels in label_maps:
        for value, name in _guess_names(labels).items():
            guesses.setdefault(value, Counter())[name] += 1
    names = {value: counter.most_common(1)[0][0] for value, counter in sorted(guesses.items())}
    guessed = kinds_from_names(name for name in names.values() if name != UNKNOWN)
    missing = [kind.value for kind in _GUESSED_KINDS if kind not in guessed]
    return {0: (Kind.BACKGROUND.value, *missing), **{value: (name,) for value, name in names.items()}}


def _guess_names(labels: Volume) -> dict[int, str]:
    """Return the guessed name of each value of one label map."""
    volume = reorient(labels, "RAS")
    values = [int(value) for value in np.unique(volume.array) if value]
    shapes = sorted((_measure_shape(volume, value) for value in values), key=lambda shape: shape.height)
    names = dict.fromkeys(values, UNKNOWN)
    length = float(np.ptp(np.nonzero(volume.array)[2]) * volume.grid.spacing[2]) if values else 0.0
    names |= {shape.value: Kind.CANAL.value for shape in shapes if len(shapes) > 1 and shape.is_canal(length)}
    shapes = [shape for shape in shapes if shape.component_count and names[shape.value] == UNKNOWN]
    names |= {s.value: (Kind.BODY if s.is_thick else Kind.DISC).value for s in shapes if not s.is_single}
    single = [shape for shape in shapes if shape.is_single]
    if single and single[0].is_thick and single[0].length >= _MIN_SACRUM_LENGTH:
        names[single.pop(0).value] = Kind.SACRUM.value
    bodies = [shape for shape in single if shape.is_thick]
    levels = levels_upward("L5", len(bodies))
    names |= {body.value: level for body, level in zip(bodies, levels, strict=False)}
    return names | _guess_disc_names([shape for shape in single if not shape.is_thick], bodies)


def _guess_disc_names(discs: list[_Shape], bodies: list[_Shape]) -> dict[int, str]:
    """Return the name of each disc: from the number of bodies below it, or without bodies by their order."""
    levels = ["S1", *levels_upward("L5", max(len(bodies), len(discs)) + 1)]
    first = 0 if len(discs) >= _MIN_DISCS_WITH_L5_S1 else 1
    ranks = [sum(b.height < disc.height for b in bodies) if bodies else first + n for n, disc in enumerate(discs)]
    rank_of = {d.value: rank for d, rank in zip(discs, ranks, strict=True) if rank + 1 < len(levels)}
    return {value: disc_between(levels[rank + 1], levels[rank]).name for value, rank in rank_of.items()}


def _measure_shape(volume: Volume, value: int) -> _Shape:
    """Measure one value of a label map in RAS order."""
    spacing = volume.grid.spacing
    components = connected_components(volume.array == value)
    slices = np.count_nonzero(components.numbers.any(axis=(1, 2)))
    count = int(np.count_nonzero(components.sizes * spacing[1] * spacing[2] / slices >= _MIN_AREA))
    largest = components.numbers == components.sizes.argmax()
    depth = float(np.count_nonzero(largest) / np.count_nonzero(largest.any(axis=1)) * spacing[1])
    points = np.argwhere(largest)[:, 1:] * spacing[1:]
    variance = np.linalg.eigvalsh(np.atleast_2d(np.cov(points, rowvar=False, bias=True)))[0]
    thickness = float(np.sqrt(12 * max(0.0, variance)))  # of a rectangle of this variance
    rows = np.nonzero(components.numbers)[2]
    height, length = rows.mean() * spacing[2], (rows.max() - rows.min() + 1) * spacing[2]
    return _Shape(value, float(height), float(length), depth, thickness, count)
