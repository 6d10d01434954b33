"""What a model file says about itself: how to prepare an exam for it, what it tells apart, and where it came from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, classes_of
from lumbarseg.errors import LumbarsegError, ModelError
from lumbarseg.prepare import Spec

FORMAT = 1
KEY = "lumbarseg"
"""The entry of an ONNX file's metadata that holds the card, as JSON."""
BLANK = "0" * 64
"""Stands where the digest will be while the digest is computed."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Card:
    """The card of a model file.

    bias: added to the logits of each class; known: classes that the network was taught, none meaning all; targets: the
    structures it was made for, none meaning all of those; lowest: name of the lowest body that it was taught to find,
    or disc where it knows no bodies, and in which share of its exams it was that one, where it knows no sacrum to count
    from; about: training data,
    licences, scores, settings and whatever else is known; digest: of the file that holds the card, see `digest_of`.
    """

    spec: Spec
    classes: tuple[str, ...] = tuple(str(kind) for kind in CLASSES)
    bias: tuple[float, ...] = (0.0,) * len(CLASSES)
    about: dict[str, Any] = field(default_factory=dict)
    digest: str = BLANK
    known: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    lowest: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        if self.classes != tuple(str(kind) for kind in CLASSES):
            raise ModelError("the model's classes are not those of this program; get one made for it")
        if len(self.bias) != len(CLASSES) or not all(isinstance(b, float) and np.isfinite(b) for b in self.bias):
            raise ModelError(f"the model's bias must be {len(CLASSES)} finite numbers")
        if not isinstance(self.about, dict):
            raise ModelError("what the model says about itself must be an object")
        if not isinstance(self.digest, str) or not _DIGEST.fullmatch(self.digest):
            raise ModelError("the model's digest must be 64 hexadecimal digits")
        try:
            classes_of((*self.known, *self.targets))
        except LumbarsegError as error:
            raise ModelError(f"the model's known classes or targets: {error}") from error
        counted = {s.name for s in STRUCTURES if s.kind is (Kind.BODY if Kind.BODY in self.taught else Kind.DISC)}
        if self.lowest and not (self.lowest[0] in counted and 0 < self.lowest[1] <= 1):
            raise ModelError("the model's lowest must be a vertebra, or a disc where it knows no bodies, and a share")

    @property
    def taught(self) -> frozenset[Kind]:
        """Kinds of tissue that the network was taught."""
        return classes_of(self.known) if self.known else frozenset(CLASSES)

    @property
    def painted(self) -> frozenset[Kind]:
        """Kinds of tissue that an answer of this model may show."""
        return self.taught & classes_of(self.targets) if self.targets else self.taught

    def to_metadata(self) -> dict[str, str]:
        """The card as an entry of ONNX metadata; ModelError when `about` holds what JSON does not."""
        values = {"format": FORMAT, "spec": self.spec.to_dict(), "classes": list(self.classes), "bias": list(self.bias)}
        told = {"known": list(self.known), "targets": list(self.targets), "lowest": list(self.lowest or ())}
        values |= {name: value for name, value in told.items() if value}  # a card without them is one of old
        try:
            return {KEY: json.dumps(values | {"digest": self.digest, "about": self.about}, allow_nan=False)}
        except (TypeError, ValueError) as error:
            raise ModelError(f"what is said about the model is no JSON: {error}") from error

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Card:
        """The inverse of `to_metadata`; ModelError on anything missing, malformed or of another version."""
        if KEY not in metadata:
            raise ModelError(
                "has no lumbarseg card, so it is no model of this program; write one with lumbarseg export"
            )
        try:
            values = json.loads(metadata[KEY])
        except (ValueError, RecursionError) as error:
            raise ModelError("its card is no JSON; get the file again") from error
        if not isinstance(values, dict):
            raise ModelError("its card is no JSON object; get the file again")
        version = values.get("format")
        if isinstance(version, int) and version > FORMAT:
            raise ModelError("made by a newer lumbarseg; update")
        if version != FORMAT or isinstance(version, bool):
            raise ModelError(f"its card is of format {version!r}, not {FORMAT}; export the model again")
        missing = [name for name in ("spec", "classes", "bias", "about", "digest") if name not in values]
        if missing:
            raise ModelError(f"its card lacks {missing[0]!r}; export the model again")
        if not isinstance(values["spec"], dict):
            raise ModelError("the model's preparation specification is malformed: no object")
        return cls(
            Spec.from_dict(values["spec"]),
            tuple(str(name) for name in _list(values["classes"], "classes")),
            tuple(float(b) if type(b) in (int, float) else np.nan for b in _list(values["bias"], "bias")),
            values["about"],
            values["digest"],
            tuple(str(name) for name in _list(values.get("known", []), "known")),
            tuple(str(name) for name in _list(values.get("targets", []), "targets")),
            _lowest(_list(values.get("lowest", []), "lowest")),
        )


def digest_of(data: bytes, digest: str) -> str:
    """SHA-256 of a model file's bytes with `digest`, which must stand in them once, blanked; ModelError otherwise."""
    if data.count(digest.encode()) != 1:
        raise ModelError("its digest does not stand in it exactly once; export the model again")
    return hashlib.sha256(data.replace(digest.encode(), BLANK.encode())).hexdigest()


def seal(data: bytes) -> bytes:
    """A model file whose card has a blank digest, with the digest in its place."""
    return data.replace(BLANK.encode(), digest_of(data, BLANK).encode())


def _lowest(value: list[Any]) -> tuple[str, float] | None:
    if not value:
        return None
    if len(value) != 2 or type(value[0]) is not str or type(value[1]) not in (int, float):
        raise ModelError("its card's 'lowest' is no name and share; export the model again")
    return value[0], float(value[1])


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ModelError(f"its card's {name!r} is no list; export the model again")
    return value
