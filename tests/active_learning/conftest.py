"""A folder of exams with final labels, as MONAI Label writes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tests.datasets.layouts import monailabel as layout
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam

from lumbarseg.volume import Volume

Studies = Callable[[Path, int], Path]


@cache
def _phantoms() -> tuple[SyntheticExam, ...]:
    return tuple(exam(number, seed=5) for number in range(2))


def _new_patient(phantom: SyntheticExam, number: int) -> SyntheticExam:
    """The same exam a little brighter, as the exam of another patient."""
    image = Volume(phantom.image.array + np.float32(number), phantom.image.affine)
    return replace(phantom, name=f"exam{number}", image=image)


@pytest.fixture(scope="session")
def studies() -> Studies:
    """Write this many finished exams, each of another patient, and unfinished ones between them."""

    def write(folder: Path, finished: int) -> Path:
        numbers = [n for n in range(2 * finished + layout.UNFINISHED_EVERY) if not layout.is_unfinished(n)][:finished]
        exams = [_new_patient(_phantoms()[n % 2], n) for n in range(max(numbers) + 1)]
        layout.write(folder, exams, np.random.default_rng(3), False)
        return folder

    return write
