"""Small phantoms: the lumbar column alone, in coarse voxels, drawn in a fraction of the time of a whole exam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from tests.datasets.layouts.exam import SyntheticExam

from lumbarseg.phantom import RecipeRanges, render_phantom, sample_recipe

_PIXEL = 1.5  # mm


def exam(number: int, seed: int = 0, sequence: str = "T2", bodies: int = 5, slices: int = 9) -> SyntheticExam:
    """SyntheticExam `number` of `seed`, five lumbar vertebrae, in view from the sacrum to `bodies` above it."""
    recipe = sample_recipe(
        np.random.default_rng([seed, number]), RecipeRanges(sequences=(sequence,), lumbar_counts=(5,))
    )
    low, high = (np.array(recipe.spine.bodies[i].centre) for i in (0, bodies - 1))
    depth = abs(high[1] - low[1]) + 110
    scanner = replace(
        recipe.scanner,
        slices=slices,
        thickness=45 / slices,
        gap=0.0,
        samples=1,
        pixel=_PIXEL,
        rows=int(depth / _PIXEL),
        columns=int((high[2] - low[2] + 85) / _PIXEL),
        corner=(-22.0, float(min(high[1], low[1])) - 70, float(low[2]) - 50),
        turn=(0.02, -0.01, 0.03),
    )
    phantom = render_phantom(replace(recipe, scanner=scanner))
    return SyntheticExam(f"small-{seed}-{number}", phantom.image, phantom.labels, phantom.ground_truth["sequence"])


def exams(count: int, seed: int = 0, sequence: str = "T2", bodies: int = 5) -> Iterator[SyntheticExam]:
    """The first `count` of a seed."""
    yield from (exam(number, seed, sequence, bodies) for number in range(count))
