"""A source made from phantoms, imported, and held against what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from tests.datasets.layouts.exam import InjectedFault, SyntheticExam

from lumbarseg.anatomy import STRUCTURES, Kind
from lumbarseg.datasets.importers.importer import Importer, LoadedCase
from lumbarseg.datasets.label_table import LabelTable
from lumbarseg.errors import LumbarsegError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume


@dataclass
class RoundTrip:
    """What came of importing a layout. met: (case, fault) pairs of warnings and refusals."""

    injected: list[InjectedFault]
    loaded: dict[str, LoadedCase] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def reported(self) -> set[tuple[str, str]]:
        warned = {(name, text.partition(":")[0]) for name, read in self.loaded.items() for text in read.warnings}
        return warned | {(name, "refused") for name in self.refused}

    @property
    def expected(self) -> set[tuple[str, str]]:
        return {(fault.case, fault.fault) for fault in self.injected}


def import_layout(
    layout: ModuleType, importer: Importer, folder: Path, exams: Sequence[SyntheticExam], with_faults: bool
) -> RoundTrip:
    """The exams written in a layout and read back, case by case."""
    out = RoundTrip(layout.write(folder, iter(exams), np.random.default_rng(5), with_faults))
    result = importer.list_cases(folder)
    out.refused = dict(result.refused)
    for raw in result.cases:
        try:
            out.loaded[raw.name] = importer.load_case(raw)
        except LumbarsegError as error:
            out.refused[raw.name] = str(error)
    return out


def disagreement(read: LoadedCase, truth: Volume, table: LabelTable) -> Array:
    """(I, J, K) bool, RAS: where a label allows nothing of what the truth, in the package's own values, is."""
    labels, true = reorient(read.labels, "RAS"), reorient(truth, "RAS").array
    out = np.zeros(true.shape, bool)
    for value in np.unique(labels.array):
        mask = labels.array == value
        names = set((read.label_table or table)[int(value)])
        fitting = [s.label for s in STRUCTURES if names & {s.name, s.kind.value}]
        fitting += [0] if Kind.BACKGROUND.value in names else []
        out[mask] = ~np.isin(true[mask], fitting)
    return out
