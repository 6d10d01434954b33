"""Opinions merged: one voice is itself, voices complete each other, and nobody is heard on what it was not made for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lumbarseg.active_learning.ensemble import ModelPrediction, merge_predictions, model_scopes, resample_probabilities
from lumbarseg.active_learning.pseudo_labels import UNKNOWN_LABEL, label_table
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
def test_a_voice_alone_gives_its_own_answer(logits: np.ndarray) -> None:
    scores = probabilities(logits)
    (duty,) = model_scopes(["a"], [ModelCard(PreprocessingSpec())])
    assert merge_predictions([ModelPrediction(duty, scores)]) == pytest.approx(scores, abs=1e-5)
    assert merge_predictions([ModelPrediction(duty, scores), ModelPrediction(duty, scores)]) == pytest.approx(
        scores, abs=1e-5
    )


@settings(deadline=None)
@given(LOGITS, LOGITS)
def test_the_order_of_voices_is_no_matter_and_chances_sum_to_one(first: np.ndarray, second: np.ndarray) -> None:
    given_duties = model_scopes(["a", "b"], [BODIES, DISCS])
    voices = [
        ModelPrediction(d, probabilities(logits)) for d, logits in zip(given_duties, (first, second), strict=True)
    ]
    out = merge_predictions(voices)
    assert out.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert merge_predictions(voices[::-1]) == pytest.approx(out, abs=1e-6)


def constant(**chances: float) -> np.ndarray:
    scores = np.zeros((6, *SHAPE), np.float32)
    for name, chance in chances.items():
        scores[CLASSES.index(Kind(name))] = chance
    scores[0] = 1 - scores.sum(axis=0)
    return scores


def test_models_of_different_tissues_complete_each_other() -> None:
    first, second = model_scopes(["a", "b"], [BODIES, DISCS])
    body = merge_predictions([ModelPrediction(first, constant(body=0.9)), ModelPrediction(second, constant(disc=0.3))])
    assert (body.argmax(axis=0) == CLASSES.index(Kind.BODY)).all()
    disc = merge_predictions([ModelPrediction(first, constant(body=0.6)), ModelPrediction(second, constant(disc=0.95))])
    assert (disc.argmax(axis=0) == CLASSES.index(Kind.DISC)).all()
    nothing = merge_predictions(
        [ModelPrediction(first, constant(body=0.4)), ModelPrediction(second, constant(disc=0.4))]
    )
    assert (nothing.argmax(axis=0) == 0).all()


def test_nobody_is_heard_on_what_another_was_made_for() -> None:
    first, second = model_scopes(["a", "b"], [BODIES, DISCS])
    out = merge_predictions([ModelPrediction(first, constant(body=0.1)), ModelPrediction(second, constant(body=0.99))])
    assert (out.argmax(axis=0) == 0).all()
    assert {Kind.CANAL, Kind.SACRUM} <= first.kinds & second.kinds  # nobody was made for them, and names need them


def test_models_of_different_levels_are_heard_on_their_own() -> None:
    cards = [
        ModelCard(PreprocessingSpec(), targets=("L1", "L2")),
        ModelCard(PreprocessingSpec(), targets=("L3", "L4", "L5")),
    ]
    upper, lower = model_scopes(["a", "b"], cards)
    voices = [ModelPrediction(upper, constant(body=0.001)), ModelPrediction(lower, constant(body=0.99))]
    body = CLASSES.index(Kind.BODY)
    assert (merge_predictions(voices).argmax(axis=0) == body).all()  # the surest is believed until names are known
    for name, expected in (("L4", body), ("L1", 0)):
        names = dict.fromkeys(CLASSES[1:], np.full(SHAPE, structure_by_name(name).label, np.uint8))
        assert (merge_predictions(voices, names).argmax(axis=0) == expected).all()


def test_what_nobody_was_made_for_is_undrawn() -> None:
    assert label_table(model_scopes(["a", "b"], [BODIES, DISCS]))[0] == ("background", "canal", "sacrum", "arch")
    table = label_table(model_scopes(["a"], [ModelCard(PreprocessingSpec(), targets=("L1", "L2"))]))
    assert set(table) == {0, 1, 2, UNKNOWN_LABEL}
    assert {"L3", "T12", "disc", "canal"} <= set(table[0])
    assert not {"L1", "body"} & set(table[0])
    assert set(label_table(model_scopes(["a"], [ModelCard(PreprocessingSpec())]))) == {
        0,
        UNKNOWN_LABEL,
        *(s.label for s in STRUCTURES),
    }
    assert set(labels_of_kind(Kind.BODY)) <= set(label_table(model_scopes(["a"], [BODIES])))


def test_models_without_bodies_cannot_name() -> None:
    card = ModelCard(PreprocessingSpec(), trained_names=("background", "disc"))
    with pytest.raises(ModelError, match="discs: none of them knows bodies"):
        model_scopes(["discs"], [card])


def test_an_answer_moves_to_another_grid() -> None:
    fine, coarse = Grid((2, 8, 8), np.diag([4.0, 1.0, 1.0, 1.0])), Grid((2, 4, 4), np.diag([4.0, 2.0, 2.0, 1.0]))
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (6, 2, 8, 8))
    assert resample_probabilities(ramp, fine, coarse)[0, 0, 1, 1:-1] == pytest.approx([2, 4])
    assert resample_probabilities(ramp, fine, fine) is ramp
    with pytest.raises(ModelError, match="cannot be merged"):
        resample_probabilities(ramp, fine, Grid((2, 4, 4), np.diag([-4.0, 2.0, 2.0, 1.0])))
