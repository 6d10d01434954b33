"""A recipe is plain numbers that make the same exam again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lumbarseg.phantom import Recipe, RecipeRanges, render_phantom, sample_recipe
from lumbarseg.phantom.contrast import SEQUENCES


@pytest.mark.parametrize("seed", range(5))
def test_a_recipe_survives_json(seed: int) -> None:
    recipe = sample_recipe(np.random.default_rng(seed))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_recipe_makes_the_same_exam_again() -> None:
    recipe = sample_recipe(np.random.default_rng(3))
    first, second = render_phantom(recipe), render_phantom(Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))))
    assert np.array_equal(first.image.array, second.image.array)
    assert np.array_equal(first.labels.array, second.labels.array)
    assert np.array_equal(first.image.affine, second.image.affine)
    assert first.ground_truth == second.ground_truth


def test_other_seeds_make_other_exams() -> None:
    assert sample_recipe(np.random.default_rng(1)) != sample_recipe(np.random.default_rng(2))


@pytest.mark.parametrize("sequence", sorted(SEQUENCES))
def test_every_sequence_renders(sequence: str) -> None:
    phantom = render_phantom(sample_recipe(np.random.default_rng(8), RecipeRanges(sequences=(sequence,))))
    assert phantom.ground_truth["sequence"] == sequence
    assert phantom.image.array.dtype == np.int16
    assert phantom.image.array.std() > 0
    assert phantom.image.grid.same_as(phantom.labels.grid)


@pytest.mark.parametrize("lumbar", [4, 5, 6])
def test_the_number_of_lumbar_vertebrae_comes_from_the_ranges(lumbar: int) -> None:
    recipe = sample_recipe(np.random.default_rng(4), RecipeRanges(lumbar_counts=(lumbar,)))
    assert recipe.spine.lumbar_count == lumbar
    assert recipe.spine.bodies[0].level == f"L{lumbar}"
    assert recipe.spine.discs[0].name == f"L{lumbar}-S1"
