"""Prepared datasets in memory, as the network sees them.

Images are kept as bytes of the normalised image; labels as codes, one per distinct set of allowed classes, so that
sources that drew different things lie side by side. Thin slices stay thin: slabs are made of them anew each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.datasets.folder import Case, Dataset, Table, read_case
from lumbarseg.errors import DatasetError
from lumbarseg.prepare import Spec, network_grid, prepare
from lumbarseg.resample import reorient
from lumbarseg.volume import Array, Grid, Volume

from . import undrawn
from .targets import narrowed

SCALE = 170.0  # bytes per unit of the normalised image, whose limit of 1.5 becomes 255
UNKNOWN = 0
WEIGHT = "sample_weight"
"""Where a case's `about` says how often it is drawn beside others of its dataset."""
_FOCUS = 400  # places of a stack's spine that are remembered


@dataclass(frozen=True)
class Codes:
    """The distinct sets of classes that the label tables speak of; the first allows everything.

    taught: what the run learns; alive: what its network may answer, background among both. See `narrowed`.
    """

    sets: tuple[frozenset[Kind], ...]
    taught: frozenset[Kind] = frozenset(CLASSES)
    alive: frozenset[Kind] = frozenset(CLASSES)

    @classmethod
    def of(
        cls,
        tables: Iterable[Table],
        taught: frozenset[Kind] = frozenset(CLASSES),
        alive: frozenset[Kind] = frozenset(CLASSES),
    ) -> Codes:
        """From label tables; order and content depend on what the tables say, not on their order."""
        rows = {names for table in tables for names in table.values()}
        found = {narrowed(allowed, taught, alive) for names in rows for allowed in undrawn.sets(names)}
        found -= {frozenset(CLASSES)}
        order = sorted(found, key=lambda allowed: sorted(CLASSES.index(kind) for kind in allowed))
        return cls((frozenset(CLASSES), *order), taught, alive)

    @property
    def allowed(self) -> Array:
        """(codes, classes) bool."""
        return np.array([[kind in allowed for kind in CLASSES] for allowed in self.sets])

    def code(self, allowed: frozenset[Kind]) -> int:
        """The code of a set of classes."""
        return self.sets.index(narrowed(allowed, self.taught, self.alive))

    def lookup(self, table: Table) -> Array:
        """(256,) uint8: voxel value to code, where no undrawn structure can lie."""
        codes = np.zeros(256, np.uint8)
        for value, names in table.items():
            codes[value] = self.code(undrawn.base(names))
        return codes

    def coded(self, labels: Array, table: Table) -> Array:
        """labels: (slices, A, S) uint8 to codes of the same shape."""
        out = self.lookup(table)[labels]
        for value, names in table.items():
            zones = undrawn.zones(labels, table, value)
            here = [frozenset(kind for kind, inside in zones if inside[s]) for s in range(labels.shape[-1])]
            for extra in set(here) - {frozenset()}:
                rows = np.array([kinds == extra for kinds in here])
                out[(labels == value) & rows] = self.code(undrawn.base(names) | extra)
        return out


@dataclass(frozen=True, eq=False)
class Stack:
    """One exam. image, codes: (slices, A, S) uint8; thickness: mm; group: of which dataset; focus: (n, 2) in plane.

    weight: among the stacks of its dataset; lowest: name of the lowest body in view, or disc where the run knows no
    bodies, "" where the labels do not tell.
    """

    name: str
    group: int
    image: Array
    codes: Array
    thickness: float
    focus: Array
    lowest: str = ""
    weight: float = 1.0


def load(datasets: Sequence[Dataset], split: str, codes: Codes, spec: Spec) -> list[Stack]:
    """All cases of a split, in order."""
    jobs = [(group, case) for group, dataset in enumerate(datasets) for case in dataset.cases(split)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda job: _stack(job[1], job[0], codes, spec), jobs))


def _stack(case: Case, group: int, codes: Codes, spec: Spec) -> Stack:
    image, labels = read_case(case)
    thickness = reorient(image, spec.axes).grid.spacing[0]
    thin = replace(spec, slab=min(spec.slab, thickness))  # no averaging here
    array = np.clip(np.rint(prepare(image, thin).array * SCALE), 0, 255).astype(np.uint8)
    drawn = nearest(labels, thin)
    coded = codes.coded(drawn, case.table)
    lowest = undrawn.lowest(drawn, case.table, Kind.BODY if Kind.BODY in codes.alive else Kind.DISC)
    return Stack(case.name, group, array, coded, thickness, _focus(coded, codes), lowest, weight(case))


def weight(case: Case) -> float:
    """How often a case is drawn beside others of its dataset, as `about["sample_weight"]` says; usually 1."""
    value = case.about.get(WEIGHT, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
        raise DatasetError(f"case {case.name}: {WEIGHT}: must be a number above 0, not {value!r}")
    return float(value)


def nearest(labels: Volume, spec: Spec) -> Array:
    """Labels on the network's grid, nearest voxel: (slices, A, S) of the same type."""
    source = reorient(labels, spec.axes)
    target = network_grid(labels.grid, spec)
    start = source.grid.to_index(target.affine[:3, 3])
    places = [
        np.clip(
            np.rint(start[a] + np.arange(target.shape[a]) * _step(target, source.grid, a)), 0, source.array.shape[a] - 1
        )
        for a in range(3)
    ]
    return np.ascontiguousarray(source.array[np.ix_(*(p.astype(int) for p in places))])


def _step(target: Grid, source: Grid, axis: int) -> float:
    return target.spacing[axis] / source.spacing[axis]


def _focus(coded: Array, codes: Codes) -> Array:
    """Places in plane where a structure is, evenly picked; the middle of the field when there is none."""
    structure = np.array([Kind.BACKGROUND not in allowed for allowed in codes.sets])
    places = np.argwhere(structure[coded].any(0))
    if not len(places):
        return np.array([[coded.shape[1] // 2, coded.shape[2] // 2]])
    return places[np.linspace(0, len(places) - 1, min(_FOCUS, len(places))).astype(int)]


def slab_of(stack: Stack, count: int, offset: int, index: int, kernel: Array) -> tuple[Array, Array]:
    """Slab `index` with two neighbours on either side, of `count` slices each: (5, A, S) float32 and codes (A, S).

    Beyond the first and last slab these are repeated, as in inference. kernel: (k,) weights of the slices about a
    slab's middle. A voxel's code is that of most of its slices; where two tie, the lower code, which is background.
    """
    slabs = (len(stack.image) - offset) // count
    starts = offset + count * np.clip(np.arange(index - 2, index + 3), 0, slabs - 1)
    return _averaged(stack, starts, count, kernel), _most(stack, int(starts[2]), count)


def block_of(stack: Stack, count: int, offset: int, first: int, depth: int, kernel: Array) -> tuple[Array, Array]:
    """Slabs first .. first + depth - 1 in the same way: (depth, A, S) float32 and codes of that shape.

    Beyond the first and last slab these are repeated, and nothing is known there.
    """
    slabs = (len(stack.image) - offset) // count
    wanted = np.arange(first, first + depth)
    starts = offset + count * np.clip(wanted, 0, slabs - 1)
    codes = np.full((depth, *stack.codes.shape[1:]), UNKNOWN, np.uint8)
    for i in np.flatnonzero((wanted >= 0) & (wanted < slabs)):
        codes[i] = _most(stack, int(starts[i]), count)
    return _averaged(stack, starts, count, kernel), codes


def _averaged(stack: Stack, starts: Array, count: int, kernel: Array) -> Array:
    """Slabs of `count` slices that begin at `starts`: (slabs, A, S) float32."""
    if count == 1:
        return stack.image[starts].astype(np.float32)
    first = starts + (count - len(kernel)) // 2
    slices = np.clip(first[:, None] + np.arange(len(kernel)), 0, len(stack.image) - 1)  # (slabs, k)
    low, high = slices.min(), slices.max() + 1
    matrix = np.zeros((len(starts), high - low), np.float32)
    np.add.at(matrix, (np.arange(len(starts))[:, None], slices - low), kernel)
    part = stack.image[low:high].astype(np.float32).reshape(high - low, -1)
    return (matrix @ part).reshape(len(starts), *stack.image.shape[1:])


def _most(stack: Stack, start: int, count: int) -> Array:
    """Codes of the slab that begins at `start`, (A, S)."""
    return stack.codes[start] if count == 1 else majority(stack.codes[start : start + count])


def majority(codes: Array) -> Array:
    """codes: (slices, A, S) to the code that most slices have; (A, S)."""
    values = np.unique(codes)
    votes = np.stack([(codes == value).sum(0, dtype=np.uint8) for value in values])
    return values[votes.argmax(0)]


def check(stacks: Sequence[Stack], datasets: Sequence[Dataset]) -> None:
    """DatasetError when a dataset brought no case to train on."""
    for group, dataset in enumerate(datasets):
        if not any(stack.group == group for stack in stacks):
            raise DatasetError(f"{dataset.folder}: holds no case of the split train")
