"""Complete annotations: fill what annotators left open where the models of an ensemble agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, Structure, kinds_from_names, labels_of_kind, structure_by_label
from lumbarseg.components import connected_components
from lumbarseg.datasets import Case
from lumbarseg.datasets.label_table import UNKNOWN, LabelTable, count_voxels
from lumbarseg.datasets.validation.components import find_label_regions, structure_of_row
from lumbarseg.datasets.validation.label_map import check_components, check_holes
from lumbarseg.datasets.validation.level_order import check_level_order
from lumbarseg.errors import DatasetError, SegmentError
from lumbarseg.inference import Predictor
from lumbarseg.preprocessing import argmax_classes, labels_on_source_grid
from lumbarseg.segmentation import LevelPin, SegmentationState, UserLevels, label_map, segment
from lumbarseg.segmentation.prediction import flip_axes
from lumbarseg.volume import Array, Volume

from . import review
from .ensemble import ModelPrediction, ModelScope, merge_predictions
from .pseudo_labels import (
    UNKNOWN_LABEL,
    Ensemble,
    EnsemblePrediction,
    PseudoLabelInfo,
    PseudoLabels,
    find_nearest_labels,
    label_table_of_models,
    list_name_warnings,
    structure_confidence,
)

_MIN_PROBABILITY = 0.75  # of the merged prediction, among the classes that a row of the label table allows
_MIN_AREA = 40.0  # mm2 in one slice, or as much in several, of a filled component; less stays open
_MAX_OTHER_NAME = 0.25  # of an annotated level, that the models may give another name


def complete_exam(
    image: Volume, annotation: Volume, table: LabelTable, models: Mapping[str, Predictor], min_agreement: float
) -> PseudoLabels:
    """Fill the open voxels of an annotation: those whose row of the label table allows background and more.

    An open voxel gets a structure, or background, where every model predicts it, the merged prediction is certain, and
    its row allows it. Level names are counted from an annotated level, where there is one. Annotated voxels never
    change. The result is the annotation itself, with a warning, where the models find no spine or other levels, or
    where the completed labels would show an impossible anatomy.

    Parameters
    ----------
    annotation : (I, J, K) uint8 values of `table`, axes R, A, S
    models : by name
    min_agreement : Dice of two models below which a filled structure is flagged
    """
    ensemble = Ensemble(image, models)
    completed_table = CompletedTable.create(table, ensemble.scopes)
    pins = _annotated_pins(annotation, table)
    try:
        result = segment(image, ensemble, UserLevels(pins=pins), keep_state=True, predict=Ensemble.predict)
        _check_names(result.labels.array, annotation.array, table)
        assert result.state is not None
        array, filled = _fill(annotation.array, completed_table, result.state, ensemble.scopes)
        completed = Volume(array, annotation.affine)
        warnings = _list_new_implausibilities(annotation, completed, completed_table.rows)
    except SegmentError as error:
        return PseudoLabels(annotation, completed_table.rows, (f"not-completed: {error}",), PseudoLabelInfo())
    warnings += [] if pins else list_name_warnings(result.state)
    info, disagreements = _describe(result.state, filled, min_agreement)
    open_voxels = sum(int((array == value).sum()) for value in completed_table.background)
    info = replace(info, unknown_voxels=open_voxels)
    return PseudoLabels(completed, completed_table.rows, (*disagreements, *warnings), info)


def _annotated_pins(annotation: Volume, table: LabelTable) -> tuple[LevelPin, ...]:
    """Return the largest annotated body as the level to count from; () where none has a name."""
    regions = [r for r in find_label_regions(annotation, table) if r.level and r.level.kind is Kind.BODY]
    if not regions:
        return ()
    region = max(regions, key=lambda region: region.largest.volume)
    point = annotation.grid.to_world(region.largest.center / annotation.grid.spacing)
    return (LevelPin(region.display_name, (float(point[0]), float(point[1]), float(point[2]))),)


def _check_names(predicted: Array, annotation: Array, table: LabelTable) -> None:
    """Raise SegmentError where the models name an annotated body or disc differently, (I, J, K) uint8 labels."""
    for value, count in count_voxels(annotation).items():
        level = structure_of_row(table[value])
        if level and level.kind in (Kind.BODY, Kind.DISC):
            others = set(labels_of_kind(level.kind)) - {level.label}
            for label, other_count in count_voxels(predicted[annotation == value]).items():
                if label in others and other_count > _MAX_OTHER_NAME * count:
                    other = structure_by_label(label).name
                    raise SegmentError(f"the models find {other} where {level.name} is annotated")


def _fill(
    annotation: Array, completed_table: CompletedTable, state: SegmentationState, scopes: Sequence[ModelScope]
) -> tuple[Array, Counter[str]]:
    """Return the completed annotation, (I, J, K) uint8, and the number of filled voxels by structure."""
    nearest_labels, spacing = find_nearest_labels(state), state.prediction.prepared.source_grid.spacing
    known_labels = frozenset().union(*(scope.labels for scope in scopes))
    completed, filled = annotation.copy(), Counter[str]()
    for value, background in completed_table.background.items():
        is_open = annotation == value
        if not is_open.any():
            continue
        predicted = _predict_allowed(state, completed_table.rows[value], nearest_labels, known_labels)
        for label in count_voxels(predicted[is_open]):
            voxels = is_open & (predicted == label)
            if label == UNKNOWN_LABEL:
                continue
            own_value = completed_table.values[label] if label else background
            if label:
                voxels &= _remove_specks(voxels | (completed == own_value), spacing)
            completed[voxels] = own_value
            filled[structure_by_label(label).name if label else Kind.BACKGROUND.value] += int(voxels.sum())
    return completed, +filled


def _predict_allowed(
    state: SegmentationState, names: tuple[str, ...], nearest_labels: Mapping[Kind, Array], known_labels: frozenset[int]
) -> Array:
    """Return where all models agree on one of the structures of a row, (I, J, K) uint8 labels, else `UNKNOWN_LABEL`."""
    prediction, allowed = state.prediction, kinds_from_names(names)
    assert isinstance(prediction, EnsemblePrediction)
    members = tuple(_restrict(member, allowed) for member in prediction.members)
    probabilities = merge_predictions(members, nearest_labels)
    classes = argmax_classes(probabilities)
    is_agreed = probabilities.max(axis=0) >= _MIN_PROBABILITY
    for member in members:
        in_scope = np.isin(classes, [0, *(CLASSES.index(kind) for kind in member.scope.kinds)])
        is_agreed &= ~in_scope | (member.class_map() == classes)
    restricted = replace(prediction, probabilities=probabilities, classes=classes, members=members)
    exam_classes = label_map.classes_on_exam_grid(restricted)
    agreed = np.where(is_agreed, classes, UNKNOWN_LABEL).astype(np.uint8)
    agreed = labels_on_source_grid(flip_axes(agreed, prediction.flips), prediction.prepared)
    labels = label_map.render_label_map(exam_classes, state.instances, state.assignment.names, restricted)
    fillable = [0, *(s.label for s in STRUCTURES if s.label in known_labels and _allows(names, s))]
    is_named = (labels > 0) | (exam_classes == 0)
    return np.where((agreed == exam_classes) & is_named & np.isin(labels, fillable), labels, UNKNOWN_LABEL)


def _restrict(member: ModelPrediction, kinds: frozenset[Kind]) -> ModelPrediction:
    """Return a prediction in which all other kinds have no probability."""
    allowed = np.array([kind in kinds for kind in CLASSES], np.float32)[:, None, None, None]
    probabilities = member.probabilities * allowed
    return replace(member, probabilities=probabilities / np.maximum(probabilities.sum(axis=0), 1e-9))


def _remove_specks(mask: Array, spacing: Sequence[float]) -> Array:
    """Return a mask, (R, A, S) bool, without components smaller than `_MIN_AREA`; spacing: mm."""
    components = connected_components(mask)
    is_large = components.sizes * spacing[1] * spacing[2] >= _MIN_AREA
    return mask & is_large[components.numbers]


def _list_new_implausibilities(annotation: Volume, completed: Volume, rows: LabelTable) -> list[str]:
    """List the findings that the annotation itself did not have; SegmentError where the anatomy is impossible."""
    before, after = (_implausibilities(labels, rows) for labels in (annotation, completed))
    texts = [text for text in after if text not in before]
    impossible = [text for text in texts if after[text] == "error"]
    if impossible:
        raise SegmentError(f"completed, it would be impossible: {'; '.join(impossible)}")
    return [text for text in texts if after[text] == "warning"]


def _implausibilities(labels: Volume, rows: LabelTable) -> dict[str, str]:
    """Return "check: detail" and severity of what the checks of datasets and the sizes of structures show."""
    case, regions = Case("", Path(), Path(), rows), find_label_regions(labels, rows)
    findings = [*check_level_order(case, regions), *check_components(case, labels, regions)]
    findings += check_holes(case, labels, regions)
    sizes = dict.fromkeys(review.list_implausibilities(labels, rows, discs_expected=False), "warning")
    return sizes | {f"{finding.check}: {finding.text}": finding.severity for finding in findings}


def _describe(
    state: SegmentationState, filled: Mapping[str, int], min_agreement: float
) -> tuple[PseudoLabelInfo, list[str]]:
    """Return what is stored with the labels, and the filled structures on which models disagree."""
    prediction, nearest_labels = state.prediction, find_nearest_labels(state)
    assert isinstance(prediction, EnsemblePrediction)
    agreements = review.pairwise_agreement(prediction.members, nearest_labels, prediction.spacing)
    agreements = [agreement for agreement in agreements if agreement.name in filled]
    labels = {s.label for s in STRUCTURES if s.name in filled}
    info = PseudoLabelInfo(
        {"anchor": state.assignment.anchor, "confidence": round(float(state.assignment.confidence), 3)},
        structure_confidence(prediction, nearest_labels, labels),
        review.dice_by_name(agreements),
        filled_voxels=dict(filled),
    )
    return info, review.describe_model_disagreements(agreements, min_agreement)


@dataclass(frozen=True)
class CompletedTable:
    """The label table of a completed annotation.

    rows: those of the annotation, and one for each structure that may be filled in; values: of known structures, by
    their own label; background: for each open value, the one for voxels that the models find to be background.
    """

    rows: LabelTable
    values: dict[int, int]
    background: dict[int, int]

    @classmethod
    def create(cls, table: LabelTable, scopes: Sequence[ModelScope]) -> CompletedTable:
        """Add rows to the label table of an annotation; DatasetError when it has no value left for them."""
        open_rows = {value: names for value, names in table.items() if _is_open(names)}
        scope_table = label_table_of_models(scopes)
        rows, values = dict(table), {}
        for structure in STRUCTURES:
            if structure.label in scope_table and any(_allows(names, structure) for names in open_rows.values()):
                annotated = [v for v, names in table.items() if structure.name in names and v not in open_rows]
                own_value = _add_row(rows, structure.label, (structure.name,)) if not annotated else annotated[0]
                values[structure.label] = own_value
        remaining = {value: _remaining_names(names, scope_table[0]) for value, names in open_rows.items()}
        background = {value: _add_row(rows, 0, names) for value, names in remaining.items()}
        return cls(dict(sorted(rows.items())), values, background)


def _add_row(rows: LabelTable, preferred: int, names: tuple[str, ...]) -> int:
    """Return the value of a row, which is added under the preferred value or a free one where it is missing."""
    for value, existing in rows.items():
        if set(existing) == set(names):
            return value
    free = [value for value in (preferred, *range(UNKNOWN_LABEL - 1, 0, -1)) if value not in rows]
    if not free:
        raise DatasetError(f"the label table has no value left for {' or '.join(names)}; use fewer values")
    rows[free[0]] = names
    return free[0]


def _is_open(names: tuple[str, ...]) -> bool:
    """Return whether a row of a label table allows background and something else."""
    kinds = kinds_from_names(names)
    return Kind.BACKGROUND in kinds and len(kinds) > 1


def _allows(names: Sequence[str], structure: Structure) -> bool:
    return not {structure.name, structure.kind.value, UNKNOWN}.isdisjoint(names)


def _remaining_names(names: tuple[str, ...], not_annotated: tuple[str, ...]) -> tuple[str, ...]:
    """Return what an open voxel may still be where models find background: structures that they were not trained on."""
    remaining = [s for s in STRUCTURES if _allows(names, s) and _allows(not_annotated, s)]
    of_kind = Counter(s.kind for s in remaining)
    kinds = [kind for kind, count in of_kind.items() if count == len(labels_of_kind(kind))]
    return (Kind.BACKGROUND.value, *(k.value for k in kinds), *(s.name for s in remaining if s.kind not in kinds))
