"""Rendered phantoms: labels in their order along the spine, of the sizes that the ground truth states."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lumbarseg import anatomy
from lumbarseg.anatomy import Kind
from lumbarseg.phantom import Phantom, RecipeRanges, render_phantom, sample_recipe
from lumbarseg.phantom.contrast import SEQUENCES
from lumbarseg.phantom.scanner import average_slices

SEEDS = range(6)


def exam(seed: int, **ranges: object) -> Phantom:
    return render_phantom(sample_recipe(np.random.default_rng([9, seed]), RecipeRanges(**ranges)))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", SEEDS)
def test_labels_are_of_the_table_and_rise_in_order(seed: int) -> None:
    phantom = exam(seed)
    present = [anatomy.structure_by_label(int(value)) for value in np.unique(phantom.labels.array) if value]
    column = sorted((s for s in present if s.kind in (Kind.BODY, Kind.DISC)), key=lambda s: s.order)
    heights = []
    for structure in column:
        positions = np.argwhere(phantom.labels.array == structure.label)
        heights.append(phantom.labels.grid.to_world(positions.mean(axis=0))[2])
    complete = [h for h, s in zip(heights, column, strict=True) if (phantom.labels.array == s.label).sum() > 300]
    assert len(complete) >= 3
    assert all(upper > lower for upper, lower in pairwise(complete))


@pytest.mark.parametrize("seed", SEEDS)
def test_bodies_are_as_high_as_the_ground_truth_states(seed: int) -> None:
    """Along its own axis in the midline, a body's voxels add up to its middle height, within a voxel and a half."""
    recipe = sample_recipe(np.random.default_rng([9, seed]))
    phantom = render_phantom(recipe)
    checked = 0
    for body in recipe.spine.bodies:
        label = anatomy.structure_by_name(body.level).label
        up = np.array(body.frame)[:, 2]
        positions = np.array(body.centre) + np.arange(-18, 18, 0.1)[:, None] * up
        index = np.rint(phantom.labels.grid.to_index(_in_scanner(phantom, positions))).astype(int)
        if (index < 0).any() or (index >= phantom.labels.array.shape).any() or body.nodes:
            continue
        measured = (phantom.labels.array[tuple(index.T)] == label).sum() * 0.1
        assert (
            abs(measured - phantom.ground_truth["bodies"][body.level]["middle"])
            < 1.5 * phantom.labels.grid.spacing[2] + 0.8
        )
        checked += 1
    assert checked


def _in_scanner(phantom: Phantom, points: np.ndarray) -> np.ndarray:
    """Return points of the patient in the coordinates of the exam."""
    affine = phantom.labels.affine
    turn = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return points @ turn.T


def test_lordosis_follows_from_the_tilts_of_the_ground_truth() -> None:
    phantom = exam(1)
    top_of_l1 = phantom.ground_truth["bodies"]["L1"]["tilt_top"]
    assert phantom.ground_truth["lordosis"] == pytest.approx(_tilt_of_s1(phantom) - top_of_l1, abs=0.02)


def _tilt_of_s1(phantom: Phantom) -> float:
    up = np.array(phantom.recipe.spine.segments[0].frame)[:, 2]
    return float(np.rad2deg(np.arctan2(up[1], up[2])))


def test_a_voxel_has_the_label_that_fills_most_of_it() -> None:
    """Thick slices over thin ones of the same spine: no label where the thin slices hold a minority of it."""
    from dataclasses import replace

    recipe = sample_recipe(np.random.default_rng(21), RecipeRanges(isotropic_fraction=0.0, sequences=("T2",)))
    thick = replace(recipe, scanner=replace(recipe.scanner, thickness=5.0, gap=0.0, samples=5, slices=9))
    thin = replace(recipe, scanner=replace(thick.scanner, thickness=1.0, samples=1, slices=45))
    corner = (thick.scanner.corner[0] - 2.0, *thick.scanner.corner[1:])
    thin = replace(thin, scanner=replace(thin.scanner, corner=corner))
    coarse, fine = render_phantom(thick).labels.array, render_phantom(thin).labels.array
    l3 = anatomy.structure_by_name("L3").label
    share = (fine.reshape(9, 5, *fine.shape[1:]) == l3).mean(axis=1)
    assert (share[coarse == l3] >= 0.4).all()
    assert (coarse[share > 0.5] == l3).all()


def test_every_sequence_shows_bodies_against_discs() -> None:
    for sequence in sorted(set(SEQUENCES) - {"random", "T1", "GRE"}):
        phantom = exam(2, sequences=(sequence,))
        labels, image = phantom.labels.array, phantom.image.array.astype(float)
        canal = np.isin(labels, anatomy.labels_of_kind(Kind.CANAL))
        bodies = np.isin(labels, anatomy.labels_of_kind(Kind.BODY))
        assert image[canal].mean() > image[bodies].mean(), sequence


def test_metal_removes_signal_and_no_label() -> None:
    """Screws in one body: signal is lost around them, elsewhere only the noise changes, labels stay."""
    recipe = sample_recipe(np.random.default_rng([9, 2]), RecipeRanges(sequences=("GRE",), isotropic_fraction=0))
    recipe = replace(recipe, scanner=replace(recipe.scanner, noise=0.0, gamma=1.0, ghost=(), ringing=1.0))
    bodies = [replace(body, metal=body.level == "L3") for body in recipe.spine.bodies]
    without, with_metal = (
        render_phantom(replace(recipe, spine=replace(recipe.spine, bodies=tuple(choice))))
        for choice in ([replace(body, metal=False) for body in bodies], bodies)
    )
    assert np.array_equal(without.labels.array, with_metal.labels.array)
    darker = with_metal.image.array < 0.5 * without.image.array
    inside = {
        level: darker[without.labels.array == anatomy.structure_by_name(level).label].mean() for level in ("L1", "L3")
    }
    assert inside["L3"] > 0.05
    assert inside["L1"] == 0


def test_patches_change_marrow_alone() -> None:
    recipe = sample_recipe(np.random.default_rng([9, 3]), RecipeRanges(sequences=("T1",), isotropic_fraction=0))
    plain = replace(
        recipe, scanner=replace(recipe.scanner, noise=0.0, blur=(0.1, 0.1), ringing=1.0, ghost=(), tails=0.0)
    )
    even, patchy = (
        render_phantom(replace(plain, contrast=replace(plain.contrast, patches=patches)))
        for patches in ((), (0.6, 8.0))
    )
    changed = np.abs(patchy.image.array - even.image.array) > 0.05 * even.image.array.max()
    kinds = {value: anatomy.structure_by_label(int(value)).kind for value in np.unique(even.labels.array) if value}
    of = np.vectorize(lambda value: kinds.get(value, Kind.BACKGROUND))(even.labels.array)
    assert changed[of == Kind.BODY].mean() > 0.1
    assert changed[(of == Kind.DISC) | (of == Kind.CANAL)].mean() < 0.02  # where a thick slice holds both


def test_a_slice_shows_a_little_of_its_neighbours() -> None:
    """Tails move signal between neighbours and lose none but at the ends."""
    recipe = sample_recipe(np.random.default_rng([9, 4]), RecipeRanges(sequences=("T2",), isotropic_fraction=0))
    samples = np.zeros((recipe.scanner.slices * recipe.scanner.samples, 1, 1), np.float32)
    middle = recipe.scanner.slices // 2
    samples[middle * recipe.scanner.samples : (middle + 1) * recipe.scanner.samples] = 1
    observed = average_slices(samples, replace(recipe.scanner, tails=0.1)).ravel()
    assert observed[middle - 1 : middle + 2] == pytest.approx([0.1, 0.8, 0.1])
    assert observed.sum() == pytest.approx(1)
