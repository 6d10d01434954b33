"""Export of a trained network as one ONNX file, written only after torch and the engine gave the same prediction."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lumbarseg import phantom
from lumbarseg.anatomy import CLASSES
from lumbarseg.clicks import Click, encode_clicks
from lumbarseg.errors import ModelError
from lumbarseg.inference.card import BLANK_DIGEST, ModelCard, insert_digest
from lumbarseg.inference.model import Model
from lumbarseg.inference.sliding_window import sliding_window_inference
from lumbarseg.io import atomic_write
from lumbarseg.preprocessing import PreprocessingSpec, extract_windows, preprocess
from lumbarseg.volume import Array, Grid

from .checkpoint import BEST_FILE, CHECKPOINT_FILE, load_mean_checkpoint

OPSET = 18
MAX_LOGIT_DIFFERENCE = 1e-3
MIN_EQUAL_SHARE = 0.9999  # of the voxels, with the same class
_PHANTOM_SEED = 9
_SLICE_AXES = {0: "slices", 2: "anterior", 3: "up"}
_TILE_AXES = {0: "tiles"}


def export_model(
    checkpoint: Path | Sequence[Path],
    output: Path,
    details: Mapping[str, Any] | None = None,
    bias: Sequence[float] | None = None,
) -> Path:
    """Write the averaged weights of a checkpoint, or the mean of several, as a model file; return its path.

    Raise ModelError, and write nothing, if torch and the engine differ on a phantom.

    Parameters
    ----------
    details : for the model card, in addition to what the checkpoint knows of its run
    bias : (classes,), added to the logits of each class
    """
    state = load_mean_checkpoint(checkpoint)
    multiple = state.settings.in_plane_multiple
    if not state.spec.tile and state.spec.multiple % multiple:
        raise ModelError(f"{checkpoint}: the network needs multiples of {multiple} pixels; use fewer levels")
    network = state.ema_network()
    data = add_card(build_onnx(network, state.spec), state.card(details, bias))
    check_parity(network, Model.from_bytes(data, output, "cpu"), parity_input(state.spec))
    with atomic_write(output) as file:
        file.write(data)
    return output


def checkpoint_to_export(run_folder: Path, last: bool = False) -> Path:
    """Return the checkpoint with the best validation score of a run's folder, or its last one; a file as it is."""
    if not run_folder.is_dir():
        return run_folder
    return run_folder / (BEST_FILE if (run_folder / BEST_FILE).is_file() and not last else CHECKPOINT_FILE)


def build_onnx(network: nn.Module, spec: PreprocessingSpec) -> bytes:
    """Return the network as plain ONNX, batch norms folded into the convolutions, for any number of windows.

    Where the specification fixes no tile size, the windows may have any size.
    """
    stream = io.BytesIO()
    plane = (spec.tile, spec.tile) if spec.tile else (spec.multiple, 2 * spec.multiple)
    example = torch.zeros(1 if spec.depth else 2, spec.inputs, *((spec.depth,) if spec.depth else ()), *plane)
    axes = _TILE_AXES if spec.tile else _SLICE_AXES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is deprecated; the new one needs onnxscript
        torch.onnx.export(
            network.eval(),
            (example,),
            stream,  # type: ignore[arg-type]
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": axes, "logits": axes},
            opset_version=OPSET,
            dynamo=False,
        )
    return stream.getvalue()


def add_card(model: bytes, card: ModelCard) -> bytes:
    """Return an ONNX file with the card, and its digest, in its metadata."""
    import onnx

    proto = onnx.load_from_string(model)
    del proto.metadata_props[:]
    for name, text in replace(card, digest=BLANK_DIGEST).to_metadata().items():
        proto.metadata_props.add(key=name, value=text)
    return insert_digest(proto.SerializeToString())


def parity_input(spec: PreprocessingSpec) -> Array:
    """Return windows of the middle of a phantom, (3, inputs, A, S) float32, with clicks if the network reads them.

    For a network of one tile size, tiles of the middle of the phantom.
    """
    ranges = phantom.RecipeRanges(sequences=("T2",), isotropic_fraction=0.0)
    recipe = phantom.sample_recipe(np.random.default_rng(_PHANTOM_SEED), ranges)
    prepared = preprocess(phantom.render_phantom(recipe).image, spec)
    if spec.tile:
        return _middle_tiles(prepared.array, spec)
    middle = len(prepared.array) // 2
    clicks = encode_clicks(_sample_clicks(prepared.grid), prepared.grid, spec.clicks) if spec.clicks else None
    return extract_windows(prepared.array, spec, clicks)[middle - 1 : middle + 2]


def _middle_tiles(array: Array, spec: PreprocessingSpec) -> Array:
    """Return the middle one of the batches of tiles that the network would get for `array`."""
    batches: list[Array] = []

    def record(tiles: Array) -> Array:
        batches.append(tiles)
        return np.zeros((len(tiles), len(CLASSES), *tiles.shape[2:]), np.float32)

    sliding_window_inference(record, array, spec, len(CLASSES))
    return batches[len(batches) // 2]


def _sample_clicks(grid: Grid) -> list[Click]:
    """Return a positive and a negative click of each class, on a diagonal of the middle slice."""
    fractions = np.linspace(0.2, 0.8, 2 * len(CLASSES) - 2)
    points = [tuple(grid.to_world(np.array(grid.shape) * (0.5, fraction, 1 - fraction))) for fraction in fractions]
    signs = [(kind, positive) for kind in CLASSES[1:] for positive in (True, False)]
    return [Click(point, str(kind), positive) for point, (kind, positive) in zip(points, signs, strict=True)]


def check_parity(network: nn.Module, model: Model, images: Array) -> None:
    """Raise ModelError if the network and its model file differ in their logits or classes for `images`."""
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    logits = model.run(images)
    difference = float(np.abs(logits - expected).max())
    equal = float((logits.argmax(1) == expected.argmax(1)).mean())
    if not difference < MAX_LOGIT_DIFFERENCE or not equal > MIN_EQUAL_SHARE:
        raise ModelError(
            f"{model.path}: not written: {model.engine_name} and torch differ by {difference:.2g} in a logit "
            f"and agree in {equal:.4%} of the voxels; please report it"
        )
