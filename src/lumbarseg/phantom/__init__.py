"""Phantoms: synthetic lumbar exams with exact ground truth. Draw a recipe, then render it."""

from .recipe import Recipe, RecipeRanges, draw_recipe
from .rendering import Phantom, render_phantom

__all__ = ["Phantom", "Recipe", "RecipeRanges", "draw_recipe", "render_phantom"]
