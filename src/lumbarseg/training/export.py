"""A trained network as one file that answers without torch, written only after both gave the same answer."""

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
from .losses import EXCLUDED_CLASS_LOGIT

OPSET = 18
MAX_LOGIT_DIFFERENCE = 1e-3  # of a logit
MIN_EQUAL_SHARE = 0.9999  # of the voxels' classes
_SEED = 9  # of the phantom that both answer
_SLICE_AXES = {0: "slices", 2: "anterior", 3: "up"}
_TILE_AXES = {0: "tiles"}


def export_model(
    checkpoint: Path | Sequence[Path],
    output: Path,
    details: Mapping[str, Any] | None = None,
    bias: Sequence[float] | None = None,
) -> Path:
    """Write the averaged weights of a checkpoint, or the mean of several, as a model file at `out`; gives `out`.

    about: for the card, beside what the checkpoint knows of its run; bias: added to the logits of each class.
    ModelError when torch and the engine differ on a phantom; then nothing is written.
    """
    run = load_mean_checkpoint(checkpoint)
    if not run.spec.tile and run.spec.multiple % run.settings.in_plane_multiple:
        raise ModelError(
            f"{checkpoint}: the network needs multiples of {run.settings.in_plane_multiple} pixels; use less levels"
        )
    off = [EXCLUDED_CLASS_LOGIT if run.trained_names and kind not in run.trained_names else 0.0 for kind in CLASSES]
    card_bias = tuple(float(b) + o for b, o in zip(bias or (0.0,) * len(CLASSES), off, strict=False))
    told = {
        "step": run.step,
        "settings": run.settings.to_dict(),
        "datasets": run.dataset_digests,
        **run.details,
        **(details or {}),
    }
    card = ModelCard(
        run.spec,
        bias=card_bias,
        details=told,
        trained_names=run.trained_names,
        targets=run.targets,
        lowest_structure=run.lowest_structure,
    )
    network = run.ema_network()
    data = add_card(build_onnx(network, run.spec), card)
    check_parity(network, Model.from_bytes(data, output, "cpu"), parity_input(run.spec))
    with atomic_write(output) as file:
        file.write(data)
    return output


def checkpoint_to_export(run: Path, last: bool = False) -> Path:
    """The checkpoint of a run's folder that is exported: the best on held-out exams if there is one, or the last."""
    if not run.is_dir():
        return run
    return run / (BEST_FILE if (run / BEST_FILE).is_file() and not last else CHECKPOINT_FILE)


def build_onnx(network: nn.Module, spec: PreprocessingSpec) -> bytes:
    """The network as plain ONNX, batch norms folded into the convolutions, any number of windows.

    Of any size, too, where the specification names none.
    """
    stream = io.BytesIO()
    plane = (spec.tile, spec.tile) if spec.tile else (spec.multiple, 2 * spec.multiple)
    example = torch.zeros(1 if spec.depth else 2, spec.inputs, *((spec.depth,) if spec.depth else ()), *plane)
    axes = _TILE_AXES if spec.tile else _SLICE_AXES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plain exporter is called old; the new one needs onnxscript
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
    """An ONNX file with the card in its metadata, digest included."""
    import onnx

    proto = onnx.load_from_string(model)
    del proto.metadata_props[:]
    values = replace(card, digest=BLANK_DIGEST).to_metadata()
    for name, text in values.items():
        proto.metadata_props.add(key=name, value=text)
    return insert_digest(proto.SerializeToString())


def parity_input(spec: PreprocessingSpec) -> Array:
    """Windows of a phantom's middle, (3, inputs, A, S) float32, with clicks where the network reads them.

    For a network of one size, squares or a block of them about the phantom's middle.
    """
    recipe = phantom.draw_recipe(
        np.random.default_rng(_SEED), phantom.RecipeRanges(sequences=("T2",), isotropic_fraction=0.0)
    )
    prepared = preprocess(phantom.render_phantom(recipe).image, spec)
    if spec.tile:
        return _middle_tiles(prepared.array, spec)
    middle = len(prepared.array) // 2
    clicks = encode_clicks(_sample_clicks(prepared.grid), prepared.grid, spec.clicks) if spec.clicks else None
    return extract_windows(prepared.array, spec, clicks)[middle - 1 : middle + 2]


def _middle_tiles(array: Array, spec: PreprocessingSpec) -> Array:
    """What a network of one size reads first of `array`, seen by a network that only listens."""
    seen: list[Array] = []

    def listen(tiles: Array) -> Array:
        seen.append(tiles)
        return np.zeros((len(tiles), len(CLASSES), *tiles.shape[2:]), np.float32)

    sliding_window_inference(listen, array, spec, len(CLASSES))
    return seen[len(seen) // 2]


def _sample_clicks(grid: Grid) -> list[Click]:
    """One of each kind and one against it, across the middle."""
    shares = np.linspace(0.2, 0.8, 2 * len(CLASSES) - 2)
    points = [tuple(grid.to_world(np.array(grid.shape) * (0.5, share, 1 - share))) for share in shares]
    signs = [(kind, positive) for kind in CLASSES[1:] for positive in (True, False)]
    return [Click(point, str(kind), positive) for point, (kind, positive) in zip(points, signs, strict=True)]


def check_parity(network: nn.Module, model: Model, images: Array) -> None:
    """ModelError when the network and its model file do not give the same logits and classes for `images`."""
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    found = model.run(images)
    difference = float(np.abs(found - expected).max())
    equal = float((found.argmax(1) == expected.argmax(1)).mean())
    if not difference < MAX_LOGIT_DIFFERENCE or not equal > MIN_EQUAL_SHARE:
        raise ModelError(
            f"{model.path}: not written: {model.engine_name} and torch differ by {difference:.2g} in a logit "
            f"and agree in {equal:.4%} of the voxels; please report it"
        )
