"""One labelling against another, and what many such comparisons say together."""

from .compare import COVERED, Score, dice, flagged, missing, score, volume_ratio, wrong_names
from .distances import Distances, surface_distance
from .names import Names, every_name

__all__ = [
    "COVERED",
    "Distances",
    "Names",
    "Score",
    "dice",
    "every_name",
    "flagged",
    "missing",
    "score",
    "surface_distance",
    "volume_ratio",
    "wrong_names",
]
