"""Results of the pipeline: the segmentation of an exam, and what refinement by clicks starts from."""

from __future__ import annotations

from dataclasses import dataclass, field

from lumbarseg.inference import ClickCache
from lumbarseg.volume import Array, Volume

from .instances import Instances
from .levels import Level, LevelAssignment
from .prediction import Flips, Prediction


@dataclass(frozen=True, eq=False)
class SegmentationState:
    """The intermediate results of a segmentation without clicks, about 50 MB for a routine exam.

    Attributes
    ----------
    prediction : class probabilities on the network grid
    exam_classes : (I, J, K) uint8, the most probable class of each voxel on the exam's own grid
    instances, assignment : the vertebrae and discs, and their level names
    click_cache : predictions after earlier clicks; updated in place
    """

    prediction: Prediction
    exam_classes: Array
    instances: Instances
    assignment: LevelAssignment
    click_cache: ClickCache = field(default_factory=ClickCache)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segmented and named spine of one exam.

    Attributes
    ----------
    labels : (I, J, K) uint8, labels of `anatomy.STRUCTURES` on the exam's own grid
    levels : vertebrae from head to foot, or discs where the model segments no vertebral bodies
    warnings : what the user should check
    anchor : what the level names were counted from
    confidence : of the level names, 0..1
    flips : whether the header swaps front and back, and head and feet
    state : intermediate results, kept on request
    """

    labels: Volume
    levels: tuple[Level, ...]
    warnings: tuple[str, ...]
    anchor: str
    confidence: float
    flips: Flips = (False, False)
    state: SegmentationState | None = None

    @property
    def uncertain(self) -> bool:
        """Return whether any level name is marked uncertain."""
        return any(level.uncertain for level in self.levels)
