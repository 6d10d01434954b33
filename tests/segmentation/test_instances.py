"""Every body, disc and arch is one instance, in the order of the spine, whatever its shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from lumbarseg import anatomy
from lumbarseg.phantom import RecipeRanges, render_phantom, sample_recipe
from lumbarseg.segmentation.instances import Instances, separate_vertebrae

from .columns import BODY, CANAL, SACRUM, SPACING, Blocks, blocks, classes_of


@settings(max_examples=20, deadline=None)
@given(blocks())
def test_blocks_come_apart_as_they_were_stacked(column: Blocks) -> None:
    classes, numbers = column.paint()
    instances = separate_vertebrae(classes, SPACING)
    assert instances is not None
    assert instances.count == len(column.heights)
    for n in range(1, instances.count + 1):
        mine = numbers == n
        assert (instances.bodies[mine] == n).mean() > 0.8, f"body {n}"


@settings(max_examples=10, deadline=None)
@given(blocks())
def test_discs_lie_below_the_body_of_their_number(column: Blocks) -> None:
    classes, _ = column.paint()
    instances = separate_vertebrae(classes, SPACING)
    assert instances is not None
    for n in range(1, instances.count + 1):
        disc, body = np.argwhere(instances.discs == n), np.argwhere(instances.bodies == n)
        if len(disc) and column.gaps[n - 1]:
            assert disc[:, 2].mean() < body[:, 2].mean()
        if n > 1 and len(disc):
            assert disc[:, 2].mean() > np.argwhere(instances.bodies == n - 1)[:, 2].mean()


def test_the_top_of_the_sacrum_taken_for_a_body_is_not_the_lowest_vertebra() -> None:
    column = Blocks((27.0, 26.0, 25.0), (8.0, 8.0, 8.0), (0.0, 0.0, 0.0), 0.0, 0.0, True)
    classes, _ = column.paint()
    classes[:, :, 50:60] = np.where(classes[:, :, 50:60] > 0, BODY, 0)  # the upper third of S1
    instances = separate_vertebrae(classes, SPACING)
    assert instances is not None and instances.count == 3
    assert instances.sacrum[4, 70, 55]


def test_an_empty_class_map_has_no_instances() -> None:
    assert separate_vertebrae(np.zeros((5, 64, 64), np.uint8), SPACING) is None


def test_the_input_is_left_alone() -> None:
    classes, _ = Blocks((27.0, 26.0), (8.0, 8.0), (0.0, 0.0), 0.0, 0.0, True).paint()
    classes.setflags(write=False)
    assert separate_vertebrae(classes, SPACING) is not None


@pytest.mark.parametrize("seed", range(8))
def test_phantoms_come_apart_into_their_levels(seed: int) -> None:
    phantom = render_phantom(
        sample_recipe(np.random.default_rng([31, seed]), RecipeRanges(isotropic_fraction=0.0, sequences=("T2",)))
    )
    labels = phantom.labels.array
    instances = separate_vertebrae(classes_of(phantom), np.array(phantom.labels.grid.spacing))
    assert instances is not None
    column = anatomy.levels_upward(phantom.recipe.spine.bodies[0].level, 13)
    present = [level for level in column if (labels == anatomy.structure_by_name(level).label).sum() > 300]
    numbers = [_number(instances, labels == anatomy.structure_by_name(level).label) for level in present]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[0] >= 1


def _number(instances: Instances, mask: np.ndarray) -> int:
    return int(np.bincount(instances.bodies[mask], minlength=2).argmax())


def test_what_is_far_from_the_column_is_neither_sacrum_nor_canal() -> None:
    classes, _ = Blocks((27.0, 26.0, 25.0), (8.0, 8.0, 8.0), (0.0, 0.0, 0.0), 0.0, 0.0, True).paint()
    classes[3:6, 40:48, 20:140] = CANAL
    clean = separate_vertebrae(classes, SPACING)
    classes[2:7, 110:145, 5:20] = SACRUM  # a bladder in front, say
    classes[3:6, 100:110, 60:160] = CANAL  # the aorta
    instances = separate_vertebrae(classes, SPACING)
    assert clean is not None and instances is not None
    assert np.array_equal(instances.sacrum, clean.sacrum) and clean.sacrum.any()
    assert np.array_equal(instances.canal, clean.canal) and clean.canal.any()
