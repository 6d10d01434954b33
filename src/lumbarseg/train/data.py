"""What a run learns from and is measured on, read into memory once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lumbarseg.anatomy import Kind
from lumbarseg.datasets.folder import Dataset
from lumbarseg.errors import DatasetError
from lumbarseg.prepare import Spec

from .settings import Settings
from .stacks import Codes, Stack, check, load
from .targets import Targets
from .validate import Exam, read

Lowest = tuple[str, float]
_USUAL = 0.95  # of the exams must end at the same body, or disc, for a model to count from it
_SLAB = 4.0  # mm; thinner slices are seen as slabs of about this


@dataclass(frozen=True)
class Data:
    """codes: what labels mean in this run; names: checksum per dataset; sources: (source, licence) of each.

    known: classes that the network will know; lowest: see the model's card; left_out: cases without a target.
    """

    codes: Codes
    targets: Targets
    train: list[Stack]
    val: list[Exam]
    names: dict[str, str]
    sources: dict[str, list[list[str]]]
    known: frozenset[Kind]
    lowest: Lowest | None
    left_out: int

    @property
    def slices(self) -> int:
        """Of all training exams, thin ones counted as slabs."""
        return sum(max(1, round(len(s.image) * min(1.0, s.thickness / _SLAB))) for s in self.train)


def gather(settings: Settings, datasets: Sequence[Dataset], spec: Spec, before: frozenset[Kind] | None = None) -> Data:
    """Read the datasets into memory; DatasetError when one has nothing to train on.

    before: classes that the network knows already, None for one that begins from nothing.
    """
    if not datasets:
        raise DatasetError("no dataset to train on; give at least one folder")
    targets = Targets.of(settings.targets)
    chosen = targets.chosen(datasets)
    tables = [case.table for dataset in chosen for case in dataset.cases()]
    taught = targets.taught(case.table for dataset in chosen for case in dataset.cases("train"))
    known = taught | {Kind.BACKGROUND} | (before or frozenset())
    targets = targets.resolved(tables)
    codes = Codes.of(tables, taught, known)
    stacks = load(chosen, "train", codes, spec)
    check(stacks, chosen)
    names = {f"{i} {dataset.name}": _digest(dataset) for i, dataset in enumerate(chosen)}
    pairs = [{(case.source, case.licence) for case in dataset.cases("train")} for dataset in chosen]
    sources = {name: [list(pair) for pair in sorted(found)] for name, found in zip(names, pairs, strict=True)}
    lowest = _lowest(stacks) if Kind.SACRUM not in known else None
    left_out = sum(len(d.everything) for d in datasets) - sum(len(d.everything) for d in chosen)
    return Data(codes, targets, stacks, read(chosen, settings.validate_cases), names, sources, known, lowest, left_out)


def _lowest(stacks: Sequence[Stack]) -> Lowest | None:
    """The body, or disc, at which nearly all exams end, and the share of them."""
    name, times = Counter(stack.lowest for stack in stacks).most_common(1)[0]
    return (name, times / len(stacks)) if name and times >= _USUAL * len(stacks) else None


def _digest(dataset: Dataset) -> str:
    """Of what a run learns from a dataset: names, checksums and tables of its training cases."""
    facts = [(case.name, case.checksums, case.table) for case in dataset.cases("train")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
