"""What is drawn: everything about one synthetic exam as plain numbers.

`draw` takes all chances; rendering a recipe takes none (textures come from generators seeded with `Recipe.seed`), so
a recipe that went to JSON makes the same exam again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from numpy.random import Generator

from . import contrast, scanner, spine, surroundings


@dataclass(frozen=True)
class Ranges:
    """What `draw` chooses from. sequences: names of `contrast.SEQUENCES`, more often named, more often drawn.

    lumbar: numbers of lumbar vertebrae, drawn with equal chance; isotropic: share of exams with thin slices.
    """

    sequences: tuple[str, ...] = ("T2", "T2", "T2", "T1", "STIR", "GRE", "GRE", "SPACE", "random")
    lumbar: tuple[int, ...] = (5,) * 18 + (4, 6)
    isotropic: float = 0.08


@dataclass(frozen=True)
class Recipe:
    """One synthetic exam. seed: of the textures and the noise."""

    seed: int
    spine: spine.Spine
    surroundings: surroundings.Surroundings
    contrast: contrast.Contrast
    scanner: scanner.Scanner

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`."""
        values = _tuples(values)
        return cls(
            seed=values["seed"],
            spine=spine.from_dict(values["spine"]),
            surroundings=surroundings.Surroundings(**values["surroundings"]),
            contrast=contrast.Contrast(**values["contrast"]),
            scanner=scanner.Scanner(**values["scanner"]),
        )


def draw(rng: Generator, ranges: Ranges | None = None) -> Recipe:
    """A recipe drawn from `ranges` (by default, from everything that lumbar exams show)."""
    ranges = ranges or Ranges()
    column = spine.draw(rng, lumbar=int(rng.choice(ranges.lumbar)))
    sequence = str(rng.choice(ranges.sequences))
    thin = bool(rng.random() < ranges.isotropic) or (sequence == "SPACE" and bool(rng.random() < 0.5))
    return Recipe(
        seed=int(rng.integers(2**31)),
        spine=column,
        surroundings=surroundings.draw(rng, column),
        contrast=contrast.draw(rng, sequence),
        scanner=scanner.draw(rng, column, thin=thin, gradient_echo=sequence == "GRE"),
    )


def _tuples(value: Any) -> Any:
    """Lists that came from JSON as tuples again."""
    if isinstance(value, dict):
        return {key: _tuples(v) for key, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
