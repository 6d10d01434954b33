"""A model file on an inference engine: checked before the first exam; nothing but plain ONNX is ever run.

OpenVINO in float32 predicts the same classes about a quarter faster than ONNX Runtime, but takes some tenths of a
second longer to start: where it is installed, "auto" uses it for many exams, never for one.
"""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from lumbarseg.errors import ModelError

from .card import ModelCard, compute_digest
from .engines import Engine, first_line, start_engine
from .onnx_metadata import read_onnx_metadata

MAX_FILE_BYTES = 200_000_000
OPENVINO_MIN_EXAMS = 8
"""Exams from which on OpenVINO's faster inference outweighs its slower start."""


@dataclass(frozen=True, eq=False)
class Model:
    """A checked model on an engine.

    Attributes
    ----------
    engine_name : for reports ("onnxruntime 1.32.0")
    run : (N, inputs, A, S) float32 to (N, classes, A, S) logits; A and S are multiples of the specification's, or its
        tile size. A 3-D network takes (N, 1, D, A, S) and returns (N, classes, D, A, S).
    """

    card: ModelCard
    engine_name: str
    path: Path
    run: Engine

    @classmethod
    def load(cls, path: Path | str, device: str = "auto", exam_count: int = 1, threads: int = 0) -> Model:
        """Read and check a model file and start its engine.

        Parameters
        ----------
        device : one of `DEVICES`; "auto" is the CPU, with OpenVINO when it is installed and there are many exams
        exam_count : about how many exams will be predicted
        threads : of the engine, 0 for one per core

        Raises
        ------
        ModelError
            When it is no ONNX file, is damaged or too large, has no card or another digest, needs custom operators or
            other files, or does not take and return what the card promises. The message says what to do.
        """
        if device == "auto" and exam_count >= OPENVINO_MIN_EXAMS and find_spec("openvino") is not None:
            device = "openvino"
        return cls.from_bytes(read_model_bytes(Path(path)), Path(path), device, threads)

    @classmethod
    def from_bytes(cls, data: bytes, path: Path, device: str = "auto", threads: int = 0) -> Model:
        """Load a model from the bytes of its file, as `load`. path: its name in errors."""
        try:
            card = read_verified_card(data)
            engine_name, run = start_engine(data, device, threads)
            _check_output(card, run)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        return cls(card, engine_name, path, run)


def bundled_model_path() -> Path:
    """Return the path of the model that the package contains; ModelError when this installation has none."""
    path = Path(str(resources.files(__package__) / "shipped.onnx"))
    if not path.is_file():
        raise ModelError(f"{path}: this installation has no model; install the wheel, or name a model with --model")
    return path


def default_model_path() -> Path:
    """Return the path of the model that is used when none is named; ModelError when there is none.

    An offline pack (`lumbarseg.packaging`) puts its own model into share/lumbarseg of the environment that it makes;
    elsewhere it is the model that the package contains.
    """
    onnxruntime_model = sorted((Path(sys.prefix) / "share" / "lumbarseg").glob("*.onnx"))
    return onnxruntime_model[0] if onnxruntime_model else bundled_model_path()


def read_model_bytes(path: Path) -> bytes:
    """Read the bytes of a model file; ModelError when it cannot be read or is too large."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(f"{path}: larger than {MAX_FILE_BYTES // 10**6} MB, so no lumbarseg model")
        return path.read_bytes()
    except OSError as error:
        reason = "not found; check the path" if isinstance(error, FileNotFoundError) else error.strerror
        if difflib.get_close_matches(path.name.lower(), ["shipped"], cutoff=0.7):
            reason = f"{reason}, or write shipped for the model of the package"
        raise ModelError(f"{path}: cannot be read: {reason}") from error


def read_verified_card(data: bytes) -> ModelCard:
    """Read the card from a model file's bytes, after every check that needs no engine; ModelError without a path."""
    if not data:
        raise ModelError("an empty file; download it again")
    card = ModelCard.from_metadata(read_onnx_metadata(data))
    if compute_digest(data, card.digest) != card.digest:
        raise ModelError("its content does not match its digest: it was changed or damaged; download it again")
    return card


def read_card(path: Path) -> ModelCard:
    """Return the card of a model file after every check that needs no engine; ModelError names the file."""
    data = read_model_bytes(path)
    try:
        return read_verified_card(data)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _check_output(card: ModelCard, run: Engine) -> None:
    """Run small zero windows through the network; ModelError when shapes and types are not as the card promises."""
    spec = card.spec
    plane = (spec.tile, spec.tile) if spec.tile else (spec.multiple, 2 * spec.multiple)
    shape = (1 if spec.tile else 2, spec.inputs, *((spec.depth,) if spec.depth else ()), *plane)
    expected = (shape[0], len(card.classes), *shape[2:])
    try:
        out = run(np.zeros(shape, np.float32))
    except Exception as error:
        raise ModelError(f"does not take windows of {shape}, as its card says: {first_line(error)}") from error
    if out.dtype != np.float32 or out.shape != expected:
        raise ModelError(f"returns {out.dtype} {out.shape} instead of float32 {expected}")
    if not np.isfinite(out).all():
        raise ModelError("returns numbers that are not finite; download it again")
