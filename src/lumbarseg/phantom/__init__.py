"""Procedural lumbar exams with exactly known truth: draw a recipe, then render it."""

from .exam import Phantom, render
from .recipe import Ranges, Recipe, draw

__all__ = ["Phantom", "Ranges", "Recipe", "draw", "render"]
