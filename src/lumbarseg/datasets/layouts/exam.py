"""What a layout is made from, and what it tells about the traps that it planted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumbarseg.volume import Volume


@dataclass(frozen=True, eq=False)
class Exam:
    """A synthetic exam. labels: uint8 in the package's own values, posterior elements apart; contrast: "T2", "T1"..."""

    name: str
    image: Volume
    labels: Volume
    contrast: str


@dataclass(frozen=True)
class Planted:
    """A trap in a layout. case: the name under which the importer gives it; trap: a word of the importer's list."""

    case: str
    trap: str
    detail: str = ""


Layout = Callable[[Path, Iterable[Exam], np.random.Generator, bool], list[Planted]]
"""write(folder, exams, rng, traps): the exams in the published layout, streamed; with the traps it planted."""
