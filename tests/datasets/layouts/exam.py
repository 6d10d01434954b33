"""What a layout is written from, and the record of the faults injected into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumbarseg.volume import Volume


@dataclass(frozen=True, eq=False)
class SyntheticExam:
    """A synthetic exam. labels: uint8 in the package's own values, posterior elements apart; contrast: "T2", "T1"..."""

    name: str
    image: Volume
    labels: Volume
    contrast: str


@dataclass(frozen=True)
class InjectedFault:
    """A fault in a layout. case: the importer's name of the case; fault: a key of its `KNOWN_FAULTS`, or "refused"."""

    case: str
    fault: str
    detail: str = ""


Layout = Callable[[Path, Iterable[SyntheticExam], np.random.Generator, bool], list[InjectedFault]]
"""write(folder, exams, rng, with_faults): write the exams in the published layout and return the injected faults."""
