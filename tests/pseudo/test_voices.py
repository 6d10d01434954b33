"""Opinions merged: one voice is itself, voices complete each other, and nobody is heard on what it was not made for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, by_name, labels_of
from lumbarseg.errors import ModelError
from lumbarseg.model import Card
from lumbarseg.prepare import Spec
from lumbarseg.pseudo.label import UNKNOWN, table_of
from lumbarseg.pseudo.voices import Voice, duties, merged, moved
from lumbarseg.volume import Grid

SHAPE = (2, 3, 4)
LOGITS = arrays(np.float32, (6, *SHAPE), elements=st.floats(-3, 3, width=32))
BODIES, DISCS = Card(Spec(), targets=("body",)), Card(Spec(), targets=("disc",))


def probabilities(logits: np.ndarray) -> np.ndarray:
    values = np.exp(logits)
    return np.asarray(values / values.sum(axis=0))


@settings(deadline=None)
@given(LOGITS)
def test_a_voice_alone_gives_its_own_answer(logits: np.ndarray) -> None:
    scores = probabilities(logits)
    (duty,) = duties(["a"], [Card(Spec())])
    assert merged([Voice(duty, scores)]) == pytest.approx(scores, abs=1e-5)
    assert merged([Voice(duty, scores), Voice(duty, scores)]) == pytest.approx(scores, abs=1e-5)


@settings(deadline=None)
@given(LOGITS, LOGITS)
def test_the_order_of_voices_is_no_matter_and_chances_sum_to_one(first: np.ndarray, second: np.ndarray) -> None:
    given_duties = duties(["a", "b"], [BODIES, DISCS])
    voices = [Voice(d, probabilities(logits)) for d, logits in zip(given_duties, (first, second), strict=True)]
    out = merged(voices)
    assert out.sum(axis=0) == pytest.approx(1, abs=1e-5)
    assert merged(voices[::-1]) == pytest.approx(out, abs=1e-6)


def constant(**chances: float) -> np.ndarray:
    scores = np.zeros((6, *SHAPE), np.float32)
    for name, chance in chances.items():
        scores[CLASSES.index(Kind(name))] = chance
    scores[0] = 1 - scores.sum(axis=0)
    return scores


def test_models_of_different_tissues_complete_each_other() -> None:
    first, second = duties(["a", "b"], [BODIES, DISCS])
    body = merged([Voice(first, constant(body=0.9)), Voice(second, constant(disc=0.3))])
    assert (body.argmax(axis=0) == CLASSES.index(Kind.BODY)).all()
    disc = merged([Voice(first, constant(body=0.6)), Voice(second, constant(disc=0.95))])
    assert (disc.argmax(axis=0) == CLASSES.index(Kind.DISC)).all()
    nothing = merged([Voice(first, constant(body=0.4)), Voice(second, constant(disc=0.4))])
    assert (nothing.argmax(axis=0) == 0).all()


def test_nobody_is_heard_on_what_another_was_made_for() -> None:
    first, second = duties(["a", "b"], [BODIES, DISCS])
    out = merged([Voice(first, constant(body=0.1)), Voice(second, constant(body=0.99))])
    assert (out.argmax(axis=0) == 0).all()
    assert {Kind.CANAL, Kind.SACRUM} <= first.kinds & second.kinds  # nobody was made for them, and names need them


def test_models_of_different_levels_are_heard_on_their_own() -> None:
    cards = [Card(Spec(), targets=("L1", "L2")), Card(Spec(), targets=("L3", "L4", "L5"))]
    upper, lower = duties(["a", "b"], cards)
    voices = [Voice(upper, constant(body=0.001)), Voice(lower, constant(body=0.99))]
    body = CLASSES.index(Kind.BODY)
    assert (merged(voices).argmax(axis=0) == body).all()  # the surest is believed until names are known
    for name, expected in (("L4", body), ("L1", 0)):
        names = dict.fromkeys(CLASSES[1:], np.full(SHAPE, by_name(name).label, np.uint8))
        assert (merged(voices, names).argmax(axis=0) == expected).all()


def test_what_nobody_was_made_for_is_undrawn() -> None:
    assert table_of(duties(["a", "b"], [BODIES, DISCS]))[0] == ("background", "canal", "sacrum", "arch")
    table = table_of(duties(["a"], [Card(Spec(), targets=("L1", "L2"))]))
    assert set(table) == {0, 1, 2, UNKNOWN}
    assert {"L3", "T12", "disc", "canal"} <= set(table[0])
    assert not {"L1", "body"} & set(table[0])
    assert set(table_of(duties(["a"], [Card(Spec())]))) == {0, UNKNOWN, *(s.label for s in STRUCTURES)}
    assert set(labels_of(Kind.BODY)) <= set(table_of(duties(["a"], [BODIES])))


def test_models_without_bodies_cannot_name() -> None:
    card = Card(Spec(), known=("background", "disc"))
    with pytest.raises(ModelError, match="discs: none of them knows bodies"):
        duties(["discs"], [card])


def test_an_answer_moves_to_another_grid() -> None:
    fine, coarse = Grid((2, 8, 8), np.diag([4.0, 1.0, 1.0, 1.0])), Grid((2, 4, 4), np.diag([4.0, 2.0, 2.0, 1.0]))
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (6, 2, 8, 8))
    assert moved(ramp, fine, coarse)[0, 0, 1, 1:-1] == pytest.approx([2, 4])
    assert moved(ramp, fine, fine) is ramp
    with pytest.raises(ModelError, match="cannot be merged"):
        moved(ramp, fine, Grid((2, 4, 4), np.diag([-4.0, 2.0, 2.0, 1.0])))
