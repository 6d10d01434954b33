"""One labelling against another, and what many such comparisons say together."""

from .compare import COVERED, Score, dice, flagged, missing, score, volume_ratio, wrong_names
from .distances import Distances, surface_distance
from .instances import Instance, instances
from .judge import exam_rows, instance_rows, judge, structure_rows
from .names import Names, every_name
from .statistics import Estimate, estimate, permutation
from .summary import Difference, Line, differences, lines, worst

__all__ = [
    "COVERED",
    "Difference",
    "Distances",
    "Estimate",
    "Instance",
    "Line",
    "Names",
    "Score",
    "dice",
    "differences",
    "estimate",
    "every_name",
    "exam_rows",
    "flagged",
    "instance_rows",
    "instances",
    "judge",
    "lines",
    "missing",
    "permutation",
    "score",
    "structure_rows",
    "surface_distance",
    "volume_ratio",
    "worst",
    "wrong_names",
]
