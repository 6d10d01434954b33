"""The segmentation of one exam: the main job, its stages in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from lumbarseg.anatomy import Kind
from lumbarseg.errors import SegmentError
from lumbarseg.inference import ModelCard
from lumbarseg.preprocessing import PreparedImage, preprocess, refuse_ct
from lumbarseg.volume import Volume

from .discs_only import assign_levels_from_discs, require_lumbar_discs, separate_discs
from .instances import Instances, separate_vertebrae
from .label_map import check_level_order, classes_on_exam_grid, keep_kinds, render_label_map
from .levels import UserLevels, assign_levels, list_levels, locate_user_levels
from .prediction import Prediction, describe_flips, predict_with_orientation_check
from .results import Segmentation, SegmentationState

_MIN_LUMBAR_AREA = 330.0  # mm2 of a body in its middle slice: a lumbar one has 600 to 1100, a cervical one 150 to 280


class HasCard(Protocol):
    """A model, or an ensemble of models, with a model card."""

    @property
    def card(self) -> ModelCard:
        """Return what the model was made for."""


def segment(
    volume: Volume,
    model: HasCard,
    user_levels: UserLevels | None = None,
    keep_state: bool = False,
    predict: Callable[[Any, PreparedImage], Prediction] = predict_with_orientation_check,
    modality: str | None = None,
) -> Segmentation:
    """Segment the lumbar spine of an exam and name its levels.

    Parameters
    ----------
    volume : the exam
    model : a `Predictor`, or whatever `predict` accepts
    user_levels : level names that the user knows
    keep_state : keep the intermediate results that `refine_with_clicks` starts from
    predict : the prediction stage
    modality : of the header, "MR" or "CT"; by the values where it is unknown

    Raises
    ------
    SegmentError
        When the exam shows no lumbar spine.
    """
    refuse_ct(volume, modality)
    prepared = preprocess(volume, model.card.spec)
    prediction = predict(model, prepared)
    instances = separate_lumbar_spine(prediction, model.card)
    named_bodies = locate_user_levels(user_levels, instances, prediction.grid)
    assign = assign_levels_from_discs if instances.discs_only else assign_levels
    assignment = assign(instances, prediction.probabilities, named_bodies, model.card.lowest_structure)
    exam_classes = classes_on_exam_grid(prediction)
    labels = render_label_map(exam_classes, instances, assignment.names, prediction)
    check_level_order(labels)
    return Segmentation(
        Volume(keep_kinds(labels, model.card.output_kinds), volume.affine),
        list_levels(instances, assignment, prediction),
        (*describe_flips(prediction.flips), *assignment.warnings),
        assignment.anchor,
        round(assignment.confidence, 3),
        prediction.flips,
        SegmentationState(prediction, exam_classes, instances, assignment) if keep_state else None,
    )


def separate_lumbar_spine(prediction: Prediction, card: ModelCard) -> Instances:
    """Separate the predicted classes into vertebrae and discs, by the discs alone when the model segments no bodies.

    Raises
    ------
    SegmentError
        When there is no spine, or one that cannot be lumbar.
    """
    if not card.trained_kinds & {Kind.BODY, Kind.DISC}:
        raise SegmentError("this model segments neither vertebral bodies nor discs, so levels cannot be named")
    separate = separate_vertebrae if Kind.BODY in card.trained_kinds else separate_discs
    instances = separate(prediction.classes, prediction.spacing)
    if instances is None:
        raise SegmentError("no lumbar spine found: nothing in the exam looks like a column of vertebrae and discs")
    if instances.discs_only:
        require_lumbar_discs(instances)
        return instances
    slice_areas = [(instances.bodies == n).sum(axis=(1, 2)).max() for n in range(1, instances.count + 1)]
    area = float(np.median(slice_areas)) * prediction.spacing[1] * prediction.spacing[2]
    if area < _MIN_LUMBAR_AREA and len(instances.bodies) > 2:
        raise SegmentError(
            f"no lumbar spine found: vertebrae of {area:.0f} mm2 in their middle slice are too small for lumbar ones"
        )
    return instances
