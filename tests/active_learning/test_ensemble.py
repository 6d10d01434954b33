"""Merged predictions: a single model is unchanged, models complement each other, each within its scope."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lumbarseg.active_learning.ensemble import ModelPrediction, merge_predictions, model_scopes, resample_probabilities
from lumbarseg.active_learning.pseudo_labels import UNKNOWN_LABEL, label_table_of_models
from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, labels_of_kind, structure_by_name
from lumbarseg.errors import ModelError
from lumbarseg.inference import ModelCard
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.volume import Grid

SHAPE = (2, 3, 4)
LOGITS = arrays(np.float32, (6, *SHAPE), elements=st.floats(-3, 3, width=32))
BODIES, DISCS = ModelCard(PreprocessingSpec(), targets=("body",)), ModelCard(PreprocessingSpec(), targets=("disc",))


def probabilities(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits)
    return np.asarray(values / values.sum(axis=0))


@settings(deadline=None)
@given(LOGITS)
def test_single_model_keeps_its_prediction(logits: np.ndarray) -> None:
    expected = probabilities(logits)
    (scope,) = model_scopes({"a": ModelCard(PreprocessingSpec())})
    prediction = ModelPrediction(scope, expected)
    assert merge_predictions([prediction]) == pytest.approx(expected, abs=1e-5)
    assert merge_predictions([prediction, prediction]) == pytest.approx(expected, abs=1e-5)


@settings(deadline=None)
@given(LOGITS, LOGITS)
def test_order_of_models_is_irrelevant_and_probabilities_sum_to_one(first: np.ndarray, second: np.ndarray) -> None:
    scopes = model_scopes({"a": BODIES, "b": DISCS})
    predictions = [ModelPrediction(s, probabilities(logits)) for s, logits in zip(scopes, (first, second), strict=True)]
    merged = merge_predictions(predictions)
    assert merged.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert merge_predictions(predictions[::-1]) == pytest.approx(merged, abs=1e-6)


def constant(**values: float) -> np.ndarray:
    """Constant probabilities by tissue; the rest is background."""
    result = np.zeros((6, *SHAPE), np.float32)
    for name, value in values.items():
        result[CLASSES.index(Kind(name))] = value
    result[0] = 1 - result.sum(axis=0)
    return result


def merged_classes(*predictions: ModelPrediction) -> np.ndarray:
    return merge_predictions(predictions).argmax(axis=0)


def test_models_of_different_tissues_complement_each_other() -> None:
    bodies, discs = model_scopes({"a": BODIES, "b": DISCS})
    both = [
        (constant(body=0.9), constant(disc=0.3), Kind.BODY),
        (constant(body=0.6), constant(disc=0.95), Kind.DISC),
        (constant(body=0.4), constant(disc=0.4), Kind.BACKGROUND),
    ]
    for first, second, kind in both:
        classes = merged_classes(ModelPrediction(bodies, first), ModelPrediction(discs, second))
        assert (classes == CLASSES.index(kind)).all()


def test_prediction_outside_the_scope_is_ignored() -> None:
    bodies, discs = model_scopes({"a": BODIES, "b": DISCS})
    classes = merged_classes(ModelPrediction(bodies, constant(body=0.1)), ModelPrediction(discs, constant(body=0.99)))
    assert (classes == 0).all()
    assert {Kind.CANAL, Kind.SACRUM} <= bodies.kinds & discs.kinds  # no model's targets, but level names need them


def test_models_of_different_levels_are_used_for_their_levels() -> None:
    upper, lower = model_scopes(
        {
            "a": ModelCard(PreprocessingSpec(), targets=("L1", "L2")),
            "b": ModelCard(PreprocessingSpec(), targets=("L3", "L4", "L5")),
        }
    )
    predictions = [ModelPrediction(upper, constant(body=0.001)), ModelPrediction(lower, constant(body=0.99))]
    body = CLASSES.index(Kind.BODY)
    assert (merged_classes(*predictions) == body).all()  # the most confident model, until level names are known
    for name, expected in (("L4", body), ("L1", 0)):
        nearest_labels = dict.fromkeys(CLASSES[1:], np.full(SHAPE, structure_by_name(name).label, np.uint8))
        assert (merge_predictions(predictions, nearest_labels).argmax(axis=0) == expected).all()


def test_structures_of_no_model_count_as_not_annotated() -> None:
    assert label_table_of_models(model_scopes({"a": BODIES, "b": DISCS}))[0] == (
        "background",
        "canal",
        "sacrum",
        "arch",
    )
    table = label_table_of_models(model_scopes({"a": ModelCard(PreprocessingSpec(), targets=("L1", "L2"))}))
    assert set(table) == {0, 1, 2, UNKNOWN_LABEL}
    assert {"L3", "T12", "disc", "canal"} <= set(table[0])
    assert not {"L1", "body"} & set(table[0])
    complete = label_table_of_models(model_scopes({"a": ModelCard(PreprocessingSpec())}))
    assert set(complete) == {0, UNKNOWN_LABEL, *(s.label for s in STRUCTURES)}
    assert set(labels_of_kind(Kind.BODY)) <= set(label_table_of_models(model_scopes({"a": BODIES})))


def test_models_without_bodies_and_discs_are_an_error() -> None:
    assert model_scopes({"discs": ModelCard(PreprocessingSpec(), trained_names=("background", "disc"))})
    with pytest.raises(ModelError, match="canal: none knows bodies or discs"):
        model_scopes({"canal": ModelCard(PreprocessingSpec(), trained_names=("background", "canal"))})


def test_probabilities_are_resampled_to_another_grid() -> None:
    fine, coarse = Grid((2, 8, 8), np.diag([4.0, 1.0, 1.0, 1.0])), Grid((2, 4, 4), np.diag([4.0, 2.0, 2.0, 1.0]))
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (6, 2, 8, 8))
    assert resample_probabilities(ramp, fine, coarse)[0, 0, 1, 1:-1] == pytest.approx([2, 4])
    assert resample_probabilities(ramp, fine, fine) is ramp
    with pytest.raises(ModelError, match="cannot be merged"):
        resample_probabilities(ramp, fine, Grid((2, 4, 4), np.diag([-4.0, 2.0, 2.0, 1.0])))
