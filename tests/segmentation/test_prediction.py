"""Swapped axes are estimated from a class map; correct ones are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from lumbarseg.anatomy import CLASSES
from lumbarseg.phantom import RecipeRanges, render_phantom, sample_recipe
from lumbarseg.preprocessing import PreparedImage, PreprocessingSpec, preprocess
from lumbarseg.resampling import reorient, resample
from lumbarseg.segmentation.prediction import describe_flips, estimate_flips, flip_axes, predict_with_flips
from lumbarseg.volume import Array, Grid, Volume

from .columns import BODY, SACRUM, SPACING, classes_of

ENOUGH = 15_000.0  # mm3 of sacrum in view
FLIPS = [(False, False), (True, False), (False, True), (True, True)]


def dark_image(classes: Array, spacing: Array) -> PreparedImage:
    """An image of a class map that shows nothing itself."""
    grid = Grid(classes.shape, np.diag([*spacing, 1.0]))
    return PreparedImage(np.zeros(classes.shape, np.float32), grid, grid, PreprocessingSpec())


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("seed", range(4))
def test_reversed_axes_are_estimated_from_the_anatomy(seed: int, flips: tuple[bool, bool]) -> None:
    phantom = render_phantom(sample_recipe(np.random.default_rng([6, seed]), RecipeRanges(isotropic_fraction=0.0)))
    classes, spacing = classes_of(phantom), np.array(phantom.labels.grid.spacing)
    sacrum_in_view = (classes == SACRUM).sum() * np.prod(spacing) > ENOUGH
    front, head = estimate_flips(flip_axes(classes, flips), dark_image(classes, spacing))
    assert front == flips[0]
    assert head == flips[1] or (
        not sacrum_in_view and not head
    )  # with a scrap of sacrum it may say nothing, but nothing wrong


def test_a_sacrum_next_to_the_smaller_bodies_turns_nothing_over() -> None:
    classes = np.zeros((9, 120, 330), np.uint8)
    for number in range(6):
        half = 25 - 2 * number  # smaller upward, as bodies are
        classes[1:8, 60 - half // 2 : 60 + half // 2, 20 + 40 * number : 50 + 40 * number] = BODY
    classes[1:8, 45:75, 270:320] = SACRUM  # the highest body, mistaken
    assert estimate_flips(classes, dark_image(classes, SPACING)) == (False, False)
    grown = classes.copy()
    grown[:, :, :260] = grown[:, :, 259::-1]
    assert estimate_flips(grown, dark_image(grown, SPACING)) == (False, True)


def test_nothing_is_claimed_of_an_empty_map() -> None:
    classes = np.zeros((4, 64, 64), np.uint8)
    assert estimate_flips(classes, dark_image(classes, SPACING)) == (False, False)


def test_a_warning_names_what_was_swapped_and_what_cannot_be_verified() -> None:
    assert describe_flips((False, False)) == ()
    assert "front and back" in describe_flips((True, False))[0]
    assert "head and feet" in describe_flips((False, True))[0]
    assert "Left and right cannot be verified" in describe_flips((True, True))[0]


def test_flipping_twice_is_nothing() -> None:
    array = np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(flip_axes(flip_axes(array, (True, True)), (True, True)), array)


@pytest.mark.parametrize("swapped", [False, True])
def test_without_a_canal_the_shape_of_the_bodies_shows_where_the_front_is(swapped: bool) -> None:
    recipe = sample_recipe(np.random.default_rng([6, 1]), RecipeRanges(isotropic_fraction=0.0, sequences=("T2",)))
    phantom = render_phantom(recipe)
    affine = np.diag([1.0, -1.0 if swapped else 1.0, 1.0, 1.0]) @ phantom.image.affine
    prepared = preprocess(Volume(phantom.image.array, affine), PreprocessingSpec())
    bodies = np.where(classes_of(phantom) == BODY, BODY, 0).astype(np.uint8)
    labels = resample(reorient(Volume(bodies, affine), "RAS"), prepared.grid, order=0).array
    one_hot = np.stack([labels == channel for channel in range(len(CLASSES))]).astype(np.float32)
    prediction = predict_with_flips(lambda flips: flip_axes(one_hot, flips), prepared)
    assert prediction.flips == (swapped, False)
