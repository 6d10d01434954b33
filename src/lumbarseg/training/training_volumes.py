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
from lumbarseg.datasets.dataset import Case, Dataset, read_case
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.errors import DatasetError
from lumbarseg.preprocessing import PreprocessingSpec, network_grid, preprocess
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Grid, Volume

from . import partial_annotations
from .targets import restrict_to_trained

BYTES_PER_INTENSITY = 170.0  # bytes per unit of the normalised image, whose limit of 1.5 becomes 255
UNKNOWN_CODE = 0
SAMPLE_WEIGHT_KEY = "sample_weight"
"""Where a case's `about` says how often it is drawn beside others of its dataset."""
_MAX_SPINE_PIXELS = 400  # places of a stack's spine that are remembered


@dataclass(frozen=True)
class PartialLabelCodec:
    """The distinct sets of classes that the label tables speak of; the first allows everything.

    taught: what the run learns; alive: what its network may answer, background among both. See `narrowed`.
    """

    allowed_sets: tuple[frozenset[Kind], ...]
    trained_kinds: frozenset[Kind] = frozenset(CLASSES)
    known_kinds: frozenset[Kind] = frozenset(CLASSES)

    @classmethod
    def from_tables(
        cls,
        tables: Iterable[LabelTable],
        trained_kinds: frozenset[Kind] = frozenset(CLASSES),
        known_kinds: frozenset[Kind] = frozenset(CLASSES),
    ) -> PartialLabelCodec:
        """From label tables; order and content depend on what the tables say, not on their order."""
        rows = {names for table in tables for names in table.values()}
        found = {
            restrict_to_trained(allowed, trained_kinds, known_kinds)
            for names in rows
            for allowed in partial_annotations.possible_sets(names)
        }
        found -= {frozenset(CLASSES)}
        order = sorted(found, key=lambda allowed: sorted(CLASSES.index(kind) for kind in allowed))
        return cls((frozenset(CLASSES), *order), trained_kinds, known_kinds)

    @property
    def allowed(self) -> Array:
        """(codes, classes) bool."""
        return np.array([[kind in allowed for kind in CLASSES] for allowed in self.allowed_sets])

    def code_of(self, allowed: frozenset[Kind]) -> int:
        """The code of a set of classes."""
        return self.allowed_sets.index(restrict_to_trained(allowed, self.trained_kinds, self.known_kinds))

    def lookup_table(self, table: LabelTable) -> Array:
        """(256,) uint8: voxel value to code, where no undrawn structure can lie."""
        codes = np.zeros(256, np.uint8)
        for value, names in table.items():
            codes[value] = self.code_of(partial_annotations.allowed_everywhere(names))
        return codes

    def encode(self, labels: Array, table: LabelTable) -> Array:
        """labels: (slices, A, S) uint8 to codes of the same shape."""
        out = self.lookup_table(table)[labels]
        for value, names in table.items():
            zones = partial_annotations.unannotated_zones(labels, table, value)
            here = [frozenset(kind for kind, inside in zones if inside[s]) for s in range(labels.shape[-1])]
            for extra in set(here) - {frozenset()}:
                rows = np.array([kinds == extra for kinds in here])
                out[(labels == value) & rows] = self.code_of(partial_annotations.allowed_everywhere(names) | extra)
        return out


@dataclass(frozen=True, eq=False)
class TrainingVolume:
    """One exam. image, codes: (slices, A, S) uint8; thickness: mm; group: of which dataset; focus: (n, 2) in plane.

    weight: among the stacks of its dataset; lowest: name of the lowest body in view, or disc where the run knows no
    bodies, "" where the labels do not tell.
    """

    name: str
    dataset_index: int
    image: Array
    codes: Array
    slice_thickness: float
    spine_pixels: Array
    lowest_structure: str = ""
    sample_weight: float = 1.0


def load_volumes(
    datasets: Sequence[Dataset], split: str, codec: PartialLabelCodec, spec: PreprocessingSpec
) -> list[TrainingVolume]:
    """All cases of a split, in order."""
    jobs = [(group, case) for group, dataset in enumerate(datasets) for case in dataset.cases(split)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda job: _load_volume(job[1], job[0], codec, spec), jobs))


def _load_volume(case: Case, dataset_index: int, codec: PartialLabelCodec, spec: PreprocessingSpec) -> TrainingVolume:
    image, labels = read_case(case)
    thickness = reorient(image, spec.axes).grid.spacing[0]
    thin = replace(spec, slab=min(spec.slab, thickness))  # no averaging here
    array = np.clip(np.rint(preprocess(image, thin).array * BYTES_PER_INTENSITY), 0, 255).astype(np.uint8)
    drawn = resample_labels_nearest(labels, thin)
    coded = codec.encode(drawn, case.label_table)
    lowest = partial_annotations.find_lowest_structure(
        drawn, case.label_table, Kind.BODY if Kind.BODY in codec.known_kinds else Kind.DISC
    )
    return TrainingVolume(
        case.name,
        dataset_index,
        array,
        coded,
        thickness,
        _find_spine_pixels(coded, codec),
        lowest,
        case_sample_weight(case),
    )


def case_sample_weight(case: Case) -> float:
    """How often a case is drawn beside others of its dataset, as `about["sample_weight"]` says; usually 1."""
    value = case.metadata.get(SAMPLE_WEIGHT_KEY, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
        raise DatasetError(f"case {case.name}: {SAMPLE_WEIGHT_KEY}: must be a number above 0, not {value!r}")
    return float(value)


def resample_labels_nearest(labels: Volume, spec: PreprocessingSpec) -> Array:
    """Labels on the network's grid, nearest voxel: (slices, A, S) of the same type."""
    source = reorient(labels, spec.axes)
    target = network_grid(labels.grid, spec)
    start = source.grid.to_index(target.affine[:3, 3])
    places = [
        np.clip(
            np.rint(start[a] + np.arange(target.shape[a]) * _index_step(target, source.grid, a)),
            0,
            source.array.shape[a] - 1,
        )
        for a in range(3)
    ]
    return np.ascontiguousarray(source.array[np.ix_(*(p.astype(int) for p in places))])


def _index_step(target: Grid, source: Grid, axis: int) -> float:
    return target.spacing[axis] / source.spacing[axis]


def _find_spine_pixels(coded: Array, codec: PartialLabelCodec) -> Array:
    """Places in plane where a structure is, evenly picked; the middle of the field when there is none."""
    structure = np.array([Kind.BACKGROUND not in allowed for allowed in codec.allowed_sets])
    places = np.argwhere(structure[coded].any(0))
    if not len(places):
        return np.array([[coded.shape[1] // 2, coded.shape[2] // 2]])
    return places[np.linspace(0, len(places) - 1, min(_MAX_SPINE_PIXELS, len(places))).astype(int)]


def extract_slab(volume: TrainingVolume, count: int, offset: int, index: int, kernel: Array) -> tuple[Array, Array]:
    """Slab `index` with two neighbours on either side, of `count` slices each: (5, A, S) float32 and codes (A, S).

    Beyond the first and last slab these are repeated, as in inference. kernel: (k,) weights of the slices about a
    slab's middle. A voxel's code is that of most of its slices; where two tie, the lower code, which is background.
    """
    slabs = (len(volume.image) - offset) // count
    starts = offset + count * np.clip(np.arange(index - 2, index + 3), 0, slabs - 1)
    return _average_slices(volume, starts, count, kernel), _majority_codes(volume, int(starts[2]), count)


def extract_block(
    volume: TrainingVolume, count: int, offset: int, first: int, depth: int, kernel: Array
) -> tuple[Array, Array]:
    """Slabs first .. first + depth - 1 in the same way: (depth, A, S) float32 and codes of that shape.

    Beyond the first and last slab these are repeated, and nothing is known there.
    """
    slabs = (len(volume.image) - offset) // count
    wanted = np.arange(first, first + depth)
    starts = offset + count * np.clip(wanted, 0, slabs - 1)
    codes = np.full((depth, *volume.codes.shape[1:]), UNKNOWN_CODE, np.uint8)
    for i in np.flatnonzero((wanted >= 0) & (wanted < slabs)):
        codes[i] = _majority_codes(volume, int(starts[i]), count)
    return _average_slices(volume, starts, count, kernel), codes


def _average_slices(volume: TrainingVolume, starts: Array, count: int, kernel: Array) -> Array:
    """Slabs of `count` slices that begin at `starts`: (slabs, A, S) float32."""
    if count == 1:
        return volume.image[starts].astype(np.float32)
    first = starts + (count - len(kernel)) // 2
    slices = np.clip(first[:, None] + np.arange(len(kernel)), 0, len(volume.image) - 1)  # (slabs, k)
    low, high = slices.min(), slices.max() + 1
    matrix = np.zeros((len(starts), high - low), np.float32)
    np.add.at(matrix, (np.arange(len(starts))[:, None], slices - low), kernel)
    part = volume.image[low:high].astype(np.float32).reshape(high - low, -1)
    return (matrix @ part).reshape(len(starts), *volume.image.shape[1:])


def _majority_codes(volume: TrainingVolume, start: int, count: int) -> Array:
    """Codes of the slab that begins at `start`, (A, S)."""
    return volume.codes[start] if count == 1 else majority_vote(volume.codes[start : start + count])


def majority_vote(codes: Array) -> Array:
    """codes: (slices, A, S) to the code that most slices have; (A, S)."""
    values = np.unique(codes)
    votes = np.stack([(codes == value).sum(0, dtype=np.uint8) for value in values])
    return values[votes.argmax(0)]


def check_not_empty(volumes: Sequence[TrainingVolume], datasets: Sequence[Dataset]) -> None:
    """DatasetError when a dataset brought no case to train on."""
    for group, dataset in enumerate(datasets):
        if not any(stack.dataset_index == group for stack in volumes):
            raise DatasetError(f"{dataset.folder}: holds no case of the split train")
