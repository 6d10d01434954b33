"""The model card inside a model file: the network's input and classes, and where the model came from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, kinds_from_names
from lumbarseg.errors import LumbarsegError, ModelError
from lumbarseg.preprocessing import PreprocessingSpec

CARD_FORMAT = 1
METADATA_KEY = "lumbarseg"
"""The entry of an ONNX file's metadata that holds the card, as JSON."""
BLANK_DIGEST = "0" * 64
"""Stands in place of the digest while the digest is computed."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelCard:
    """The card of a model file.

    Attributes
    ----------
    spec : the network's input
    classes : of the network's output, as `anatomy.CLASSES`
    bias : added to the logits of each class
    details : training data, licences, scores, settings and whatever else is known
    digest : of the file that holds the card, see `compute_digest`
    trained_names : classes that the network was trained on, none meaning all; "known" in the file
    targets : structures that the model was made for, none meaning all that it was trained on
    lowest_structure : for a model that segments no sacrum to count from: the lowest body in most training exams, or
        disc where it segments no bodies, and the share of training exams where it was; "lowest" in the file
    """

    spec: PreprocessingSpec
    classes: tuple[str, ...] = tuple(str(kind) for kind in CLASSES)
    bias: tuple[float, ...] = (0.0,) * len(CLASSES)
    details: dict[str, Any] = field(default_factory=dict)
    digest: str = BLANK_DIGEST
    trained_names: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    lowest_structure: tuple[str, float] | None = None

    def __post_init__(self) -> None:
        if self.classes != tuple(str(kind) for kind in CLASSES):
            raise ModelError("the model's classes are not those of this program; use a model made for it")
        if len(self.bias) != len(CLASSES) or not all(isinstance(b, float) and np.isfinite(b) for b in self.bias):
            raise ModelError(f"the model's bias must be {len(CLASSES)} finite numbers")
        if not isinstance(self.details, dict):
            raise ModelError("the model's details ('about') must be an object")
        if not isinstance(self.digest, str) or not _DIGEST.fullmatch(self.digest):
            raise ModelError("the model's digest must be 64 hexadecimal digits")
        try:
            kinds_from_names((*self.trained_names, *self.targets))
        except LumbarsegError as error:
            raise ModelError(f"the model's known classes or targets: {error}") from error
        level_kind = Kind.BODY if Kind.BODY in self.trained_kinds else Kind.DISC
        names = {s.name for s in STRUCTURES if s.kind is level_kind}
        if self.lowest_structure and not (self.lowest_structure[0] in names and 0 < self.lowest_structure[1] <= 1):
            raise ModelError("the model's lowest must be a vertebra, or a disc for a model without bodies, and a share")

    @property
    def trained_kinds(self) -> frozenset[Kind]:
        """Return the kinds of structures that the network was trained on."""
        return kinds_from_names(self.trained_names) if self.trained_names else frozenset(CLASSES)

    @property
    def output_kinds(self) -> frozenset[Kind]:
        """Return the kinds of structures that a segmentation of this model may show."""
        return self.trained_kinds & kinds_from_names(self.targets) if self.targets else self.trained_kinds

    def to_metadata(self) -> dict[str, str]:
        """Return the card as an entry of ONNX metadata; ModelError when `details` is no JSON."""
        optional = {
            "known": list(self.trained_names),
            "targets": list(self.targets),
            "lowest": list(self.lowest_structure or ()),
        }
        values = {
            "format": CARD_FORMAT,
            "spec": self.spec.to_dict(),
            "classes": list(self.classes),
            "bias": list(self.bias),
            **{name: value for name, value in optional.items() if value},
            "digest": self.digest,
            "about": self.details,
        }
        try:
            return {METADATA_KEY: json.dumps(values, allow_nan=False)}
        except (TypeError, ValueError) as error:
            raise ModelError(f"the model's details are no JSON: {error}") from error

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> ModelCard:
        """Parse the card; ModelError on anything missing, malformed or of another version."""
        values = _parse_card(metadata)
        return cls(
            PreprocessingSpec.from_dict(values["spec"]),
            tuple(str(name) for name in values["classes"]),
            tuple(float(b) if type(b) in (int, float) else np.nan for b in values["bias"]),
            values["about"],
            values["digest"],
            tuple(str(name) for name in values["known"]),
            tuple(str(name) for name in values["targets"]),
            _parse_lowest(values["lowest"]),
        )


def _parse_card(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Parse the JSON of a card and check its version and its parts; optional lists are empty where they are missing."""
    if METADATA_KEY not in metadata:
        raise ModelError("has no lumbarseg card, so it is no model of this program; write one with lumbarseg export")
    try:
        values = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise ModelError("its card is no JSON; download the file again") from error
    if not isinstance(values, dict):
        raise ModelError("its card is no JSON object; download the file again")
    version = values.get("format")
    if isinstance(version, int) and version > CARD_FORMAT:
        raise ModelError("made by a newer lumbarseg; update")
    if version != CARD_FORMAT or isinstance(version, bool):
        raise ModelError(f"its card is of format {version!r}, not {CARD_FORMAT}; export the model again")
    missing = [name for name in ("spec", "classes", "bias", "about", "digest") if name not in values]
    if missing:
        raise ModelError(f"its card lacks {missing[0]!r}; export the model again")
    if not isinstance(values["spec"], dict):
        raise ModelError("the model's preprocessing specification is malformed: no object")
    values = {"known": [], "targets": [], "lowest": []} | values
    for name in ("classes", "bias", "known", "targets", "lowest"):
        if not isinstance(values[name], list):
            raise ModelError(f"its card's {name!r} is no list; export the model again")
    return values


def _parse_lowest(value: list[Any]) -> tuple[str, float] | None:
    if not value:
        return None
    if len(value) != 2 or type(value[0]) is not str or type(value[1]) not in (int, float):
        raise ModelError("its card's 'lowest' is no name and share; export the model again")
    return value[0], float(value[1])


def compute_digest(data: bytes, digest: str) -> str:
    """Return the SHA-256 of a model file's bytes with `digest` blanked.

    Raises
    ------
    ModelError
        When `digest` does not stand in the bytes exactly once.
    """
    if data.count(digest.encode()) != 1:
        raise ModelError("its digest does not stand in it exactly once; export the model again")
    return hashlib.sha256(data.replace(digest.encode(), BLANK_DIGEST.encode())).hexdigest()


def insert_digest(data: bytes) -> bytes:
    """Return a model file whose card has a blank digest with the digest in its place."""
    return data.replace(BLANK_DIGEST.encode(), compute_digest(data, BLANK_DIGEST).encode())
