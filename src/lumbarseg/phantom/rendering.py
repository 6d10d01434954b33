"""Render a recipe to an exam: image, labels and ground-truth sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lumbarseg.components import connected_components, label_boxes
from lumbarseg.volume import Array, Volume

from . import contrast, ground_truth, scanner, soft_tissue, spine_shapes
from .canvas import Canvas
from .recipe import Recipe
from .vertebra_shapes import ShapeLibrary

_MAX_SPECK_SHARE = 0.01  # of the voxels of a structure


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic exam.

    image : int16
    labels : uint8, values of `anatomy.STRUCTURES`, posterior elements with labels of their own
    ground_truth : see `measure_ground_truth`
    """

    image: Volume
    labels: Volume
    ground_truth: dict[str, Any]
    recipe: Recipe


def render_phantom(recipe: Recipe, library: ShapeLibrary | None = None) -> Phantom:
    """Render the exam of a recipe; the same recipe always gives the same voxels.

    library: the shapes that the recipe names; needed where `recipe.shapes` is set.
    """
    streams = [np.random.default_rng([recipe.seed, n]) for n in range(4)]
    canvas = Canvas.empty(*scanner.sample_positions(recipe.scanner))
    path = spine_shapes.canal_centerline(recipe.spine, canvas.z)
    soft_tissue.paint_soft_tissue(canvas, recipe.spine, recipe.surroundings, path, streams[0])
    fields = [
        spine_shapes.shape_field(canvas, recipe.spine, index, library, recipe.shapes)
        if library and recipe.shapes
        else None
        for index in range(len(recipe.spine.bodies))
    ]
    spine_shapes.paint_spine(canvas, recipe.spine, recipe.surroundings, path, streams[1], fields)
    signal = contrast.render_signal(canvas, recipe.spine, recipe.contrast, streams[2])
    fat = scanner.average_slices(signal * contrast.fat_fractions()[canvas.tissue], recipe.scanner)
    water = scanner.average_slices(signal, recipe.scanner) - fat
    image = scanner.simulate_acquisition(water, fat, recipe.scanner, streams[3])
    labels = scanner.majority_labels(canvas.labels, recipe.scanner)
    _remove_specks(labels)
    affine = scanner.slice_affine(recipe.scanner)
    image = np.rint(image * 1000).astype(np.int16)  # integers, as scanners store them
    return Phantom(Volume(image, affine), Volume(labels, affine), ground_truth.measure_ground_truth(recipe), recipe)


def _remove_specks(labels: Array) -> None:
    """Remove, in place, the few voxels that pedicles or the edges of slices cut off from a structure."""
    for label, box in label_boxes(labels).items():
        part = labels[box]
        components = connected_components(part == label)
        is_speck = components.sizes < _MAX_SPECK_SHARE * components.sizes.sum()
        is_speck[0] = False
        part[is_speck[components.numbers]] = 0
