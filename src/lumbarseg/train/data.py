"""What a run learns from and is measured on, read into memory once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.datasets.folder import Case, Dataset
from lumbarseg.errors import DatasetError
from lumbarseg.prepare import Spec

from .settings import Settings
from .stacks import Codes, Stack, check, load, weight
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
    def exams(self) -> str:
        """How many there are, for a person."""
        return f"{len(self.train)} exams to train on, {len(self.val)} held out"

    @property
    def known_names(self) -> tuple[str, ...]:
        """Names of the known classes; none where all are."""
        return () if self.known >= set(CLASSES) else tuple(str(kind) for kind in CLASSES if kind in self.known)

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


def remarks(data: Data) -> list[str]:
    """What a person should know of the data before the first step."""
    lines = []
    if data.left_out:
        lines.append(f"{data.left_out} exams left out: none of the targets was drawn in them")
    if not data.val:
        lines.append("no exam is held out, so there is no best moment to keep and no early end; see --fold")
    unknown = [str(kind) for kind in CLASSES if kind not in data.known]
    if unknown:
        lines.append(f"not taught, so never found: {', '.join(unknown)}")
    if not data.known & {Kind.BODY, Kind.DISC}:
        lines.append("without bodies or discs nothing is named, so `segment` will refuse; --init shipped knows them")
    elif Kind.SACRUM not in data.known:
        kind = Kind.BODY if Kind.BODY in data.known else Kind.DISC
        anchor = f"from the lowest {kind}, taken for {data.lowest[0]}" if data.lowest else "as a guess"
        lines.append(f"without the sacrum, names will be counted {anchor}")
    return lines


def _lowest(stacks: Sequence[Stack]) -> Lowest | None:
    """The body, or disc, at which nearly all exams end, and the share of them."""
    name, times = Counter(stack.lowest for stack in stacks).most_common(1)[0]
    return (name, times / len(stacks)) if name and times >= _USUAL * len(stacks) else None


def _digest(dataset: Dataset) -> str:
    """Of what a run learns from a dataset: names, checksums, tables and weights of its training cases."""
    facts = [(case.name, case.checksums, case.table, *_weighted(case)) for case in dataset.cases("train")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _weighted(case: Case) -> tuple[float, ...]:
    """The weight of a case that has one: runs without any keep the checksums that they began with."""
    return () if weight(case) == 1 else (weight(case),)
