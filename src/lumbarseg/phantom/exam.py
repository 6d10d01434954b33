"""A recipe made into an exam: image, labels and the true sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lumbarseg.volume import Volume

from . import contrast, scanner, shape, soft, truth
from .canvas import Canvas
from .recipe import Recipe


@dataclass(frozen=True, eq=False)
class Phantom:
    """image: int16; labels: uint8 in the table's numbers, posterior elements apart; truth: see `truth.measure`."""

    image: Volume
    labels: Volume
    truth: dict[str, Any]
    recipe: Recipe


def render(recipe: Recipe) -> Phantom:
    """The exam of a recipe; the same recipe always gives the same voxels."""
    streams = [np.random.default_rng([recipe.seed, n]) for n in range(4)]
    canvas = Canvas.blank(*scanner.positions(recipe.scanner))
    path = shape.canal_path(recipe.spine, canvas.z)
    soft.paint(canvas, recipe.spine, recipe.surroundings, path, streams[0])
    shape.paint(canvas, recipe.spine, recipe.surroundings, path, streams[1])
    signal = contrast.signal(canvas, recipe.spine, recipe.contrast, streams[2])
    fat = scanner.average(signal * contrast.fat_share()[canvas.tissue], recipe.scanner)
    water = scanner.average(signal, recipe.scanner) - fat
    image = scanner.degrade(water, fat, recipe.scanner, streams[3])
    labels = scanner.majority(canvas.labels, recipe.scanner)
    affine = scanner.affine(recipe.scanner)
    image = np.rint(image * 1000).astype(np.int16)  # whole numbers, as consoles store them
    return Phantom(Volume(image, affine), Volume(labels, affine), truth.measure(recipe), recipe)
