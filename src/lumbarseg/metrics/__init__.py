"""Compare label maps with references: scores per structure and instance, means with intervals, two models."""

from .bootstrap import Estimate, bootstrap_mean, permutation_test
from .case_scores import exam_rows, instance_rows, score_case, structure_rows
from .instances import InstanceMatch, match_instances
from .overlap import (
    MIN_COVERAGE,
    StructureScore,
    compute_dice,
    find_missing_structures,
    find_wrong_names,
    score_structures,
    select_marked_uncertain,
)
from .structure_names import StructureNames, own_label_table
from .summary import GroupSummary, ModelDifference, compare_models, summarize_groups, worst_rows
from .surface import SurfaceDistances, compute_surface_distances

__all__ = [
    "MIN_COVERAGE",
    "Estimate",
    "GroupSummary",
    "InstanceMatch",
    "ModelDifference",
    "StructureNames",
    "StructureScore",
    "SurfaceDistances",
    "bootstrap_mean",
    "compare_models",
    "compute_dice",
    "compute_surface_distances",
    "exam_rows",
    "find_missing_structures",
    "find_wrong_names",
    "instance_rows",
    "match_instances",
    "own_label_table",
    "permutation_test",
    "score_case",
    "score_structures",
    "select_marked_uncertain",
    "structure_rows",
    "summarize_groups",
    "worst_rows",
]
