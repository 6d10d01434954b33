"""The training and validation data of a run, loaded into memory once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.datasets.dataset import Case, Dataset
from lumbarseg.errors import DatasetError
from lumbarseg.preprocessing import PreprocessingSpec

from .settings import TrainingSettings
from .targets import Targets
from .training_volumes import PartialLabelCodec, TrainingVolume, case_sample_weight, load_volumes
from .validation import ValidationExam, load_validation_exams

LowestStructure = tuple[str, float]
"""The name of a structure, and the fraction of the exams in which it is the lowest."""
_MIN_SHARE_OF_EXAMS = 0.95  # that must end at the same body, or disc, for a model to count levels from it
_SLAB_THICKNESS_MM = 4.0  # thinner slices are averaged to slabs of about this


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and is validated on.

    codec : encodes label maps; dataset_digests : checksum of each dataset; sources : (source, licence) of each dataset;
    known_kinds : classes that the network will know; lowest_structure : as in the model card; excluded_count : cases
    without a target
    """

    codec: PartialLabelCodec
    targets: Targets
    train: list[TrainingVolume]
    val: list[ValidationExam]
    dataset_digests: dict[str, str]
    sources: dict[str, list[list[str]]]
    known_kinds: frozenset[Kind]
    lowest_structure: LowestStructure | None
    excluded_count: int

    @property
    def trained_names(self) -> tuple[str, ...]:
        """Return the names of the known classes; none when all are known."""
        names = tuple(str(kind) for kind in CLASSES if kind in self.known_kinds)
        return () if len(names) == len(CLASSES) else names

    @property
    def slice_count(self) -> int:
        """Return the number of training slices; exams with thin slices count one slice per slab."""
        return sum(max(1, round(len(v.image) * min(1.0, v.slice_thickness / _SLAB_THICKNESS_MM))) for v in self.train)


def load_training_data(
    settings: TrainingSettings,
    datasets: Sequence[Dataset],
    spec: PreprocessingSpec,
    known_before: frozenset[Kind] | None = None,
) -> TrainingData:
    """Load the datasets into memory; raise DatasetError if one of them has no training case.

    known_before : classes that the initial weights know, None for a run from scratch
    """
    if not datasets:
        raise DatasetError("no dataset to train on; give at least one folder")
    targets = Targets.parse(settings.targets)
    selected = targets.select_datasets(datasets)
    empty = [dataset.folder for dataset in selected if not dataset.cases("train")]
    if empty:
        raise DatasetError(f"{empty[0]}: has no case in the split train")
    tables = [case.label_table for dataset in selected for case in dataset.cases()]
    trained_kinds = targets.trained_kinds(case.label_table for d in selected for case in d.cases("train"))
    known_kinds = trained_kinds | {Kind.BACKGROUND} | (known_before or frozenset())
    codec = PartialLabelCodec.from_tables(tables, trained_kinds, known_kinds)
    volumes = load_volumes(selected, "train", codec, spec)
    names = [f"{i} {dataset.name}" for i, dataset in enumerate(selected)]
    return TrainingData(
        codec,
        targets.with_annotated_arches(tables),
        volumes,
        load_validation_exams(selected, settings.validation_cases),
        {name: _dataset_digest(dataset) for name, dataset in zip(names, selected, strict=True)},
        {name: _sources(dataset) for name, dataset in zip(names, selected, strict=True)},
        known_kinds,
        _common_lowest_structure(volumes) if Kind.SACRUM not in known_kinds else None,
        sum(len(d.all_cases) for d in datasets) - sum(len(d.all_cases) for d in selected),
    )


def describe_limits(data: TrainingData) -> list[str]:
    """Return what the user should know of the data before the first step, one line each."""
    lines = []
    if data.excluded_count:
        lines.append(f"{data.excluded_count} exams are not used: they annotate none of the targets")
    if not data.val:
        lines.append("no validation exams, so no best weights are kept and the run does not stop early; see --fold")
    unknown = [str(kind) for kind in CLASSES if kind not in data.known_kinds]
    if unknown:
        lines.append(f"not trained, so never predicted: {', '.join(unknown)}")
    if not data.known_kinds & {Kind.BODY, Kind.DISC}:
        lines.append(
            "without bodies or discs there are no level names, so `segment` will refuse; --init shipped has them"
        )
    elif Kind.SACRUM not in data.known_kinds:
        kind = Kind.BODY if Kind.BODY in data.known_kinds else Kind.DISC
        lowest = data.lowest_structure
        anchor = f"from the lowest {kind}, assumed to be {lowest[0]}" if lowest else "from a guess"
        lines.append(f"without the sacrum, levels will be counted {anchor}")
    return lines


def _common_lowest_structure(volumes: Sequence[TrainingVolume]) -> LowestStructure | None:
    """Return the body, or disc, at which nearly all exams end."""
    name, count = Counter(volume.lowest_structure for volume in volumes).most_common(1)[0]
    return (name, count / len(volumes)) if name and count >= _MIN_SHARE_OF_EXAMS * len(volumes) else None


def _sources(dataset: Dataset) -> list[list[str]]:
    return [list(pair) for pair in sorted({(case.source, case.licence) for case in dataset.cases("train")})]


def _dataset_digest(dataset: Dataset) -> str:
    """Return a checksum of the names, files, label tables and sample weights of the training cases."""
    facts = [
        (case.name, case.checksums, case.label_table, *_custom_sample_weight(case)) for case in dataset.cases("train")
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _custom_sample_weight(case: Case) -> tuple[float, ...]:
    """Return the sample weight of a case that has one, so digests of runs without any stay what they were."""
    return () if case_sample_weight(case) == 1 else (case_sample_weight(case),)
