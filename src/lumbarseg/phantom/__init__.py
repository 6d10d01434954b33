"""Phantoms: synthetic lumbar exams with exact ground truth. Draw a recipe, then render it."""

from .recipe import Recipe, RecipeRanges, sample_recipe
from .rendering import Phantom, render_phantom

__all__ = ["Phantom", "Recipe", "RecipeRanges", "render_phantom", "sample_recipe"]
