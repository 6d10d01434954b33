"""Recipes: everything about one synthetic exam as plain numbers.

`sample_recipe` makes all random choices; rendering makes none (textures come from generators seeded with
`Recipe.seed`), so a recipe read from JSON gives the same exam again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.random import Generator

from . import contrast, scanner, spine, surroundings, vertebra_shapes


@dataclass(frozen=True)
class RecipeRanges:
    """What `sample_recipe` chooses from.

    sequences : names in `contrast.SEQUENCES`, each with equal chance; repeated names are more frequent
    lumbar_counts : numbers of lumbar vertebrae, each with equal chance
    isotropic_fraction : fraction of exams with thin slices
    """

    sequences: tuple[str, ...] = ("T2", "T2", "T2", "T1", "STIR", "GRE", "GRE", "SPACE", "random")
    lumbar_counts: tuple[int, ...] = (5,) * 18 + (4, 6)
    isotropic_fraction: float = 0.08


@dataclass(frozen=True)
class Recipe:
    """One synthetic exam; seed: of textures and noise."""

    seed: int
    spine: spine.Spine
    surroundings: surroundings.Surroundings
    contrast: contrast.Contrast
    scanner: scanner.Scanner
    shapes: vertebra_shapes.ShapeChoice | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """Return the recipe of values from `to_dict`."""
        values = _lists_to_tuples(values)
        return cls(
            seed=values["seed"],
            spine=spine.spine_from_dict(values["spine"]),
            surroundings=surroundings.Surroundings(**values["surroundings"]),
            contrast=contrast.Contrast(**values["contrast"]),
            scanner=scanner.Scanner(**values["scanner"]),
            shapes=vertebra_shapes.choice_from_dict(values["shapes"]) if values.get("shapes") else None,
        )


def sample_recipe(rng: Generator, ranges: RecipeRanges | None = None, shape_sources: Sequence[str] = ()) -> Recipe:
    """Sample a recipe from `ranges` (by default, from everything that lumbar exams show).

    shape_sources: names of sources of real vertebrae to blend; none makes procedural ones.
    """
    ranges = ranges or RecipeRanges()
    column = spine.sample_spine(rng, lumbar_count=int(rng.choice(ranges.lumbar_counts)))
    sequence = str(rng.choice(ranges.sequences))
    thin = bool(rng.random() < ranges.isotropic_fraction) or (sequence == "SPACE" and bool(rng.random() < 0.5))
    return Recipe(
        seed=int(rng.integers(2**31)),
        spine=column,
        surroundings=surroundings.sample_surroundings(rng, column),
        contrast=contrast.sample_contrast(rng, sequence),
        scanner=scanner.sample_scanner(rng, column, thin=thin, gradient_echo=sequence == "GRE"),
        shapes=vertebra_shapes.sample_shapes(rng, shape_sources, len(column.bodies)) if shape_sources else None,
    )


def _lists_to_tuples(value: Any) -> Any:
    """Return values from JSON with tuples in place of lists."""
    if isinstance(value, dict):
        return {key: _lists_to_tuples(v) for key, v in value.items()}
    return tuple(_lists_to_tuples(v) for v in value) if isinstance(value, list | tuple) else value
