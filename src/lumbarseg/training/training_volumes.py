"""Prepared datasets in memory, as the network reads them.

Images are kept as bytes of the normalised image, labels as codes, one per distinct set of allowed classes, so datasets
with different annotations can be trained on together. Thin slices stay thin: slabs are averaged anew for each sample.
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
from lumbarseg.volume import Array, Volume

from . import partial_annotations
from .targets import restrict_to_trained

BYTES_PER_INTENSITY = 170.0  # so the normalised image's limit of 1.5 becomes 255
UNKNOWN_CODE = 0
SAMPLE_WEIGHT_KEY = "sample_weight"
"""Key of a case's metadata: how often it is sampled, relative to others of its dataset."""
_ALL_CLASSES = frozenset(CLASSES)
_MAX_SPINE_PIXELS = 400


@dataclass(frozen=True)
class PartialLabelCodec:
    """Encodes label maps as codes: indices into the distinct sets of classes that voxels may have.

    allowed_sets : the first allows everything; trained_kinds : what the run trains; known_kinds : what the network may
    predict. The background is one of both; see `restrict_to_trained`.
    """

    allowed_sets: tuple[frozenset[Kind], ...]
    trained_kinds: frozenset[Kind] = _ALL_CLASSES
    known_kinds: frozenset[Kind] = _ALL_CLASSES

    @classmethod
    def from_tables(
        cls,
        tables: Iterable[LabelTable],
        trained_kinds: frozenset[Kind] = _ALL_CLASSES,
        known_kinds: frozenset[Kind] = _ALL_CLASSES,
    ) -> PartialLabelCodec:
        """Return the codec of label tables; it does not depend on their order."""
        rows = {names for table in tables for names in table.values()}
        sets = {
            restrict_to_trained(allowed, trained_kinds, known_kinds)
            for names in rows
            for allowed in partial_annotations.possible_sets(names)
        }
        order = sorted(sets - {_ALL_CLASSES}, key=lambda allowed: sorted(CLASSES.index(kind) for kind in allowed))
        return cls((_ALL_CLASSES, *order), trained_kinds, known_kinds)

    @property
    def allowed(self) -> Array:
        """Return the classes that each code allows, (codes, classes) bool."""
        return np.array([[kind in allowed for kind in CLASSES] for allowed in self.allowed_sets])

    def code_of(self, allowed: frozenset[Kind]) -> int:
        """Return the code of a set of classes."""
        return self.allowed_sets.index(restrict_to_trained(allowed, self.trained_kinds, self.known_kinds))

    def lookup_table(self, table: LabelTable) -> Array:
        """Return the code of each voxel value, (256,) uint8, without structures that `table` does not annotate."""
        codes = np.zeros(256, np.uint8)
        for value, names in table.items():
            codes[value] = self.code_of(partial_annotations.allowed_everywhere(names))
        return codes

    def encode(self, labels: Array, table: LabelTable) -> Array:
        """Return the codes of labels (slices, A, S) uint8."""
        explicit, rows = partial_annotations.make_zones_explicit(labels, table)
        return self.lookup_table(rows)[explicit]


@dataclass(frozen=True, eq=False)
class TrainingVolume:
    """One training exam.

    dataset_index : of its dataset in the run; image, codes : (slices, A, S) uint8; slice_thickness : mm; spine_pixels :
    (n, 2) in plane, where crops are centred; lowest_structure : name of the lowest body in view, or disc where the run
    knows no bodies, "" where the labels do not show it; sample_weight : relative to others of its dataset
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
    """Load all cases of a split, in order."""
    jobs = [(index, case) for index, dataset in enumerate(datasets) for case in dataset.cases(split)]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda job: _load_volume(job[1], job[0], codec, spec), jobs))


def _load_volume(case: Case, dataset_index: int, codec: PartialLabelCodec, spec: PreprocessingSpec) -> TrainingVolume:
    image, label_map = read_case(case)
    thickness = reorient(image, spec.axes).grid.spacing[0]
    thin_spec = replace(spec, slab=min(spec.slab, thickness))  # no averaging here
    normalised = preprocess(image, thin_spec).array
    labels = resample_labels_nearest(label_map, thin_spec)
    codes = codec.encode(labels, case.label_table)
    level_kind = Kind.BODY if Kind.BODY in codec.known_kinds else Kind.DISC
    return TrainingVolume(
        case.name,
        dataset_index,
        np.clip(np.rint(normalised * BYTES_PER_INTENSITY), 0, 255).astype(np.uint8),
        codes,
        thickness,
        _find_spine_pixels(codes, codec),
        partial_annotations.find_lowest_structure(labels, case.label_table, level_kind),
        case_sample_weight(case),
    )


def case_sample_weight(case: Case) -> float:
    """Return how often a case is sampled, relative to others of its dataset: its metadata's "sample_weight", or 1."""
    value = case.metadata.get(SAMPLE_WEIGHT_KEY, 1.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
        raise DatasetError(f"case {case.name}: {SAMPLE_WEIGHT_KEY}: must be a number above 0, not {value!r}")
    return float(value)


def resample_labels_nearest(labels: Volume, spec: PreprocessingSpec) -> Array:
    """Return labels on the network's grid by nearest neighbour: (slices, A, S) of the same type."""
    source = reorient(labels, spec.axes)
    target = network_grid(labels.grid, spec)
    start = source.grid.to_index(target.affine[:3, 3])
    steps = np.divide(target.spacing, source.grid.spacing)
    indices = [
        np.clip(np.rint(start[a] + np.arange(target.shape[a]) * steps[a]), 0, source.array.shape[a] - 1).astype(int)
        for a in range(3)
    ]
    return np.ascontiguousarray(source.array[np.ix_(*indices)])


def _find_spine_pixels(codes: Array, codec: PartialLabelCodec) -> Array:
    """Return evenly picked pixels in plane that show a structure; the centre of the plane when there is none."""
    is_structure = np.array([Kind.BACKGROUND not in allowed for allowed in codec.allowed_sets])
    pixels = np.argwhere(is_structure[codes].any(0))
    if not len(pixels):
        return np.array([[codes.shape[1] // 2, codes.shape[2] // 2]])
    return pixels[np.linspace(0, len(pixels) - 1, min(_MAX_SPINE_PIXELS, len(pixels))).astype(int)]


def extract_slabs(volume: TrainingVolume, count: int, offset: int, numbers: Array, kernel: Array) -> Array:
    """Return slabs of an exam, (slabs, A, S) float32; the first and last are repeated beyond the ends, as in inference.

    Parameters
    ----------
    count : slices per slab
    offset : slice at which the first slab begins
    numbers : (slabs,) integers, which slabs
    kernel : (k,) weights of the slices around the middle of a slab
    """
    starts = offset + count * np.clip(numbers, 0, _count_slabs(volume, count, offset) - 1)
    if count == 1:
        return volume.image[starts].astype(np.float32)
    first = starts + (count - len(kernel)) // 2
    slices = np.clip(first[:, None] + np.arange(len(kernel)), 0, len(volume.image) - 1)  # (slabs, k)
    low, high = slices.min(), slices.max() + 1
    matrix = np.zeros((len(starts), high - low), np.float32)
    np.add.at(matrix, (np.arange(len(starts))[:, None], slices - low), kernel)
    flat = volume.image[low:high].astype(np.float32).reshape(high - low, -1)
    return (matrix @ flat).reshape(len(starts), *volume.image.shape[1:])


def extract_slab_codes(volume: TrainingVolume, count: int, offset: int, number: int) -> Array:
    """Return the codes of a slab, (A, S), each that of most of its slices; unknown beyond the ends."""
    if not 0 <= number < _count_slabs(volume, count, offset):
        return np.full_like(volume.codes[0], UNKNOWN_CODE)
    start = offset + count * number
    return volume.codes[start] if count == 1 else majority_vote(volume.codes[start : start + count])


def _count_slabs(volume: TrainingVolume, count: int, offset: int) -> int:
    return (len(volume.image) - offset) // count


def majority_vote(codes: Array) -> Array:
    """Return the code that most of the slices (slices, A, S) have, (A, S); of equals the lower one (background)."""
    values = np.unique(codes)
    votes = np.stack([(codes == value).sum(0, dtype=np.uint8) for value in values])
    return values[votes.argmax(0)]
