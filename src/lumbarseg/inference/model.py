"""A model file on an engine: everything is checked before the first exam, and nothing but plain ONNX is ever run.

OpenVINO in float32 gives the same classes about a quarter quicker than onnxruntime, but takes some tenths of a second
longer to start: where it is installed, "auto" takes it for many exams, never for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lumbarseg.errors import ModelError
from lumbarseg.volume import Array

from .card import ModelCard, compute_digest
from .engines import Engine, first_line, start_engine
from .onnx_metadata import read_onnx_info

MAX_FILE_BYTES = 200_000_000
"""Largest model file, bytes."""
OPENVINO_MIN_EXAMS = 8
"""Exams from which on OpenVINO has won its slower start back."""


@dataclass(frozen=True, eq=False)
class Model:
    """A checked model that answers. engine: what computes, for reports ("onnxruntime 1.32.0")."""

    card: ModelCard
    engine_name: str
    path: Path
    infer: Engine

    @classmethod
    def load(cls, path: Path | str, device: str = "auto", exam_count: int = 1, threads: int = 0) -> Model:
        """Read, check and start a model file for about so many exams.

        device: one of `DEVICES`; "auto" is the processor, with OpenVINO when it is installed and `exams` are `MANY`.
        threads: of the arithmetic, 0 for one per core.

        ModelError, naming the file and the way out, when it is no ONNX file, is damaged or larger than `LIMIT`, has no
        card or another digest, needs operators or files of its own, or does not take and give what the card promises.
        """
        path = Path(path)
        data = read_model_bytes(path)
        if device == "auto" and exam_count >= OPENVINO_MIN_EXAMS and find_spec("openvino") is not None:
            device = "openvino"
        return cls.from_bytes(data, path, device, threads)

    @classmethod
    def from_bytes(cls, data: bytes, path: Path, device: str = "auto", threads: int = 0) -> Model:
        """The same for a model file's bytes; `path` is what errors call it."""
        try:
            card = read_verified_card(data)
            engine, compute = start_engine(data, device, threads)
            model = cls(card, engine, path, compute)
            _check_output(model)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        return model

    def run(self, windows: Array) -> Array:
        """windows: (N, inputs, A, S) float32, A and S multiples of the spec's, to (N, 6, A, S) logits.

        A network with depth takes (N, 1, D, A, S) and gives (N, 6, D, A, S); one with tiles only squares of that size.
        """
        return self.infer(windows)


def read_model_bytes(path: Path) -> bytes:
    """The bytes of a model file; ModelError when it cannot be read or is larger than `LIMIT`."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path}: larger than {MAX_FILE_BYTES // 10**6} MB, so no model of this program")
        return path.read_bytes()
    except OSError as error:
        reason = "not found; check the path" if isinstance(error, FileNotFoundError) else error.strerror
        raise ModelError(f"{path}: cannot be read: {reason}") from error


def read_verified_card(data: bytes) -> ModelCard:
    """The card of a model file's bytes after every check that needs no engine; ModelError without the file's name."""
    if not data:
        raise ModelError("an empty file; get it again")
    card = ModelCard.from_metadata(read_onnx_info(data).metadata)
    if compute_digest(data, card.digest) != card.digest:
        raise ModelError("its content does not fit its digest: it was changed or damaged; get it again")
    return card


def read_card(path: Path) -> ModelCard:
    """Return the card of a model file after every check that needs no engine; ModelError names the file."""
    data = read_model_bytes(path)
    try:
        return read_verified_card(data)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _check_output(model: Model) -> None:
    """Small zero windows through the network; ModelError when it does not take or give what the card promises."""
    spec = model.card.spec
    plane = (spec.tile, spec.tile) if spec.tile else (spec.multiple, 2 * spec.multiple)
    shape = (1 if spec.tile else 2, spec.inputs, *((spec.depth,) if spec.depth else ()), *plane)
    expected = (shape[0], len(model.card.classes), *shape[2:])
    try:
        out = model.run(np.zeros(shape, np.float32))
    except Exception as error:
        raise ModelError(f"does not take windows of {shape}, as its card says: {first_line(error)}") from error
    if out.dtype != np.float32 or out.shape != expected:
        raise ModelError(f"gives {out.dtype} {out.shape} instead of float32 {expected}")
    if not np.isfinite(out).all():
        raise ModelError("gives numbers that are not finite; get it again")
