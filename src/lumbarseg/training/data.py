"""What a run learns from and is measured on, read into memory once."""

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
from .training_volumes import PartialLabelCodec, TrainingVolume, case_sample_weight, check_not_empty, load_volumes
from .validation import ValidationExam, load_validation_exams

LowestStructure = tuple[str, float]
_MIN_SHARE_OF_EXAMS = 0.95  # of the exams must end at the same body, or disc, for a model to count from it
_SLAB_THICKNESS_MM = 4.0  # mm; thinner slices are seen as slabs of about this


@dataclass(frozen=True)
class TrainingData:
    """codes: what labels mean in this run; names: checksum per dataset; sources: (source, licence) of each.

    known: classes that the network will know; lowest: see the model's card; left_out: cases without a target.
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
    def exam_counts(self) -> str:
        """How many there are, for a person."""
        return f"{len(self.train)} exams to train on, {len(self.val)} held out"

    @property
    def trained_names(self) -> tuple[str, ...]:
        """Names of the known classes; none where all are."""
        return (
            () if self.known_kinds >= set(CLASSES) else tuple(str(kind) for kind in CLASSES if kind in self.known_kinds)
        )

    @property
    def slice_count(self) -> int:
        """Of all training exams, thin ones counted as slabs."""
        return sum(max(1, round(len(s.image) * min(1.0, s.slice_thickness / _SLAB_THICKNESS_MM))) for s in self.train)


def load_training_data(
    settings: TrainingSettings,
    datasets: Sequence[Dataset],
    spec: PreprocessingSpec,
    known_before: frozenset[Kind] | None = None,
) -> TrainingData:
    """Read the datasets into memory; DatasetError when one has nothing to train on.

    before: classes that the network knows already, None for one that begins from nothing.
    """
    if not datasets:
        raise DatasetError("no dataset to train on; give at least one folder")
    targets = Targets.parse(settings.targets)
    chosen = targets.select_datasets(datasets)
    tables = [case.label_table for dataset in chosen for case in dataset.cases()]
    taught = targets.trained_kinds(case.label_table for dataset in chosen for case in dataset.cases("train"))
    known = taught | {Kind.BACKGROUND} | (known_before or frozenset())
    targets = targets.with_annotated_arches(tables)
    codes = PartialLabelCodec.from_tables(tables, taught, known)
    stacks = load_volumes(chosen, "train", codes, spec)
    check_not_empty(stacks, chosen)
    names = {f"{i} {dataset.name}": _dataset_digest(dataset) for i, dataset in enumerate(chosen)}
    pairs = [{(case.source, case.licence) for case in dataset.cases("train")} for dataset in chosen]
    sources = {name: [list(pair) for pair in sorted(found)] for name, found in zip(names, pairs, strict=True)}
    lowest = _common_lowest_structure(stacks) if Kind.SACRUM not in known else None
    left_out = sum(len(d.all_cases) for d in datasets) - sum(len(d.all_cases) for d in chosen)
    return TrainingData(
        codes,
        targets,
        stacks,
        load_validation_exams(chosen, settings.validation_cases),
        names,
        sources,
        known,
        lowest,
        left_out,
    )


def describe_limits(data: TrainingData) -> list[str]:
    """What a person should know of the data before the first step."""
    lines = []
    if data.excluded_count:
        lines.append(f"{data.excluded_count} exams left out: none of the targets was drawn in them")
    if not data.val:
        lines.append("no exam is held out, so there is no best moment to keep and no early end; see --fold")
    unknown = [str(kind) for kind in CLASSES if kind not in data.known_kinds]
    if unknown:
        lines.append(f"not taught, so never found: {', '.join(unknown)}")
    if not data.known_kinds & {Kind.BODY, Kind.DISC}:
        lines.append("without bodies or discs nothing is named, so `segment` will refuse; --init shipped knows them")
    elif Kind.SACRUM not in data.known_kinds:
        kind = Kind.BODY if Kind.BODY in data.known_kinds else Kind.DISC
        anchor = (
            f"from the lowest {kind}, taken for {data.lowest_structure[0]}" if data.lowest_structure else "as a guess"
        )
        lines.append(f"without the sacrum, names will be counted {anchor}")
    return lines


def _common_lowest_structure(volumes: Sequence[TrainingVolume]) -> LowestStructure | None:
    """The body, or disc, at which nearly all exams end, and the share of them."""
    name, times = Counter(stack.lowest_structure for stack in volumes).most_common(1)[0]
    return (name, times / len(volumes)) if name and times >= _MIN_SHARE_OF_EXAMS * len(volumes) else None


def _dataset_digest(dataset: Dataset) -> str:
    """Of what a run learns from a dataset: names, checksums, tables and weights of its training cases."""
    facts = [
        (case.name, case.checksums, case.label_table, *_custom_sample_weight(case)) for case in dataset.cases("train")
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _custom_sample_weight(case: Case) -> tuple[float, ...]:
    """The weight of a case that has one: runs without any keep the checksums that they began with."""
    return () if case_sample_weight(case) == 1 else (case_sample_weight(case),)
