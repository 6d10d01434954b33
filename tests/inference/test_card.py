from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.anatomy import CLASSES, Kind
from lumbarseg.errors import ModelError
from lumbarseg.inference.card import BLANK_DIGEST, METADATA_KEY, ModelCard, compute_digest, insert_digest
from lumbarseg.preprocessing import Normalisation, PreprocessingSpec

NUMBERS = st.floats(-20, 20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    bias=st.tuples(*[NUMBERS] * len(CLASSES)),
    about=st.dictionaries(st.text(), VALUES),
    digest=st.text("0123456789abcdef", min_size=64, max_size=64),
    pixel=st.floats(0.1, 5),
    multiple=st.integers(1, 64),
)
def test_a_card_comes_back_from_metadata_as_it_was(
    bias: tuple[float, ...], about: dict[str, Any], digest: str, pixel: float, multiple: int
) -> None:
    card = ModelCard(
        PreprocessingSpec(pixel=pixel, multiple=multiple, normalisation=Normalisation(low=1.0)),
        bias=bias,
        details=about,
    )
    card = ModelCard(card.spec, card.classes, card.bias, card.details, digest)
    assert ModelCard.from_metadata(card.to_metadata()) == card


def changed(**values: Any) -> dict[str, str]:
    good = json.loads(ModelCard(PreprocessingSpec()).to_metadata()[METADATA_KEY])
    return {METADATA_KEY: json.dumps({name: value for name, value in (good | values).items() if value is not ...})}


BAD: dict[str, tuple[dict[str, str], str]] = {
    "no card": ({"author": "somebody"}, "has no lumbarseg card"),
    "no JSON": ({METADATA_KEY: "{"}, "no JSON"),
    "deep JSON": ({METADATA_KEY: "[" * 100_000}, "no JSON"),
    "a list": ({METADATA_KEY: "[]"}, "no JSON object"),
    "newer": (changed(format=2), "made by a newer lumbarseg; update"),
    "older": (changed(format=0), "of format 0"),
    "true as version": (changed(format=True), "of format True"),
    "no version": (changed(format=...), "of format None"),
    "no spec": (changed(spec=...), "lacks 'spec'"),
    "no digest": (changed(digest=...), "lacks 'digest'"),
    "spec is a number": (changed(spec=3), "specification"),
    "spec is empty": (changed(spec={}), "specification"),
    "spec of another program": (changed(spec=PreprocessingSpec().to_dict() | {"magic": 1}), "specification"),
    "negative pixel": (changed(spec=PreprocessingSpec().to_dict() | {"pixel": -1.0}), "specification"),
    "other classes": (changed(classes=["background", "liver"]), "classes"),
    "classes in another order": (changed(classes=[str(kind) for kind in CLASSES][::-1]), "classes"),
    "classes is text": (changed(classes="background"), "'classes' is no list"),
    "short bias": (changed(bias=[0.0] * 5), "bias"),
    "bias of text": (changed(bias=["0"] * 6), "bias"),
    "bias of truth": (changed(bias=[True] * 6), "bias"),
    "infinite bias": ({METADATA_KEY: changed()[METADATA_KEY].replace('"bias": [0.0', '"bias": [Infinity')}, "bias"),
    "about is text": (changed(about="me"), r"details"),
    "digest is short": (changed(digest="abc"), "digest"),
    "digest is a number": (changed(digest=7), "digest"),
    "digest has capitals": (changed(digest="A" * 64), "digest"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_card_is_refused_in_one_line(name: str) -> None:
    metadata, message = BAD[name]
    with pytest.raises(ModelError, match=message) as caught:
        ModelCard.from_metadata(metadata)
    assert "\n" not in str(caught.value)


def test_what_json_cannot_hold_is_refused() -> None:
    for about in ({"scores": float("nan")}, {"path": object()}):
        with pytest.raises(ModelError, match="no JSON"):
            ModelCard(PreprocessingSpec(), details=about).to_metadata()


def test_a_seal_covers_every_byte() -> None:
    data = b"before" + BLANK_DIGEST.encode() + b"after"
    done = insert_digest(data)
    digest = done[6:70].decode()
    assert len(done) == len(data)
    assert compute_digest(done, digest) == digest
    assert compute_digest(done.replace(b"after", b"After"), digest) != digest


def test_a_digest_must_stand_in_the_file_once() -> None:
    for data in (b"nothing", BLANK_DIGEST.encode() + b" " + BLANK_DIGEST.encode()):
        with pytest.raises(ModelError, match="exactly once"):
            compute_digest(data, BLANK_DIGEST)


def test_trained_classes_are_stored_only_where_they_are_not_all() -> None:
    card = ModelCard(
        PreprocessingSpec(),
        trained_names=("background", "body"),
        targets=("L1", "L4-L5"),
        lowest_structure=("L5", 0.97),
    )
    assert ModelCard.from_metadata(card.to_metadata()) == card
    assert card.output_kinds == {Kind.BODY}
    discs = ModelCard(
        PreprocessingSpec(), trained_names=("background", "disc"), targets=("disc",), lowest_structure=("L5-S1", 1.0)
    )
    assert ModelCard.from_metadata(discs.to_metadata()) == discs
    assert discs.output_kinds == {Kind.DISC}
    assert ModelCard(PreprocessingSpec()).output_kinds == set(CLASSES)
    assert not {"known", "targets", "lowest"} & set(
        json.loads(ModelCard(PreprocessingSpec()).to_metadata()[METADATA_KEY])
    )
    for values, message in (
        ({"known": ["liver"]}, "known classes or targets"),
        ({"targets": "L1"}, "'targets' is no list"),
        ({"lowest": ["L5"]}, "'lowest' is no name and share"),
        ({"lowest": ["S9", 1.0]}, "must be a vertebra"),
        ({"lowest": ["L5", 1.5]}, "and a share"),
        ({"lowest": ["L5-S1", 1.0]}, "must be a vertebra"),
        ({"lowest": ["L5", 1.0], "known": ["background", "disc"]}, "a disc for a model without bodies"),
    ):
        with pytest.raises(ModelError, match=message):
            ModelCard.from_metadata(changed(**values))
