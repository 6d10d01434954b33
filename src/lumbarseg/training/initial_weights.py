"""Weights to begin with: of another run's checkpoint, or read back from a model file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lumbarseg.anatomy import CLASSES, Kind, kinds_from_names
from lumbarseg.errors import ModelError
from lumbarseg.inference import bundled_model_path
from lumbarseg.inference.model import read_verified_card
from lumbarseg.preprocessing import PreprocessingSpec

from .checkpoint import BEST_FILE, CHECKPOINT_FILE, Checkpoint, Weights
from .networks import PlanarUNet

_BATCH_NORM_EPSILON = 1e-5  # of torch's batch norm
_CONV_OUTPUT = re.compile(r"^/(?:[^/]+/)*([^/]+)/Conv_output_0$")
_INHERITED_KEYS = ("name", "data", "licences", "sources", "init")
"""What a new model's card repeats of the one that it began with."""


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """A network to begin with. known: classes that it was taught; origin: for the new model's card.

    folded: its batch norms are part of the convolutions and stand as identities; see `calibrate`.
    """

    path: Path
    network: str
    channels: tuple[int, ...]
    spec: PreprocessingSpec
    weights: Weights
    known_kinds: frozenset[Kind]
    provenance: dict[str, Any] = field(default_factory=dict)
    has_folded_norms: bool = False

    @classmethod
    def load(cls, source: Path | str) -> InitialWeights:
        """The word "shipped", a run's folder or checkpoint, or a model file; ModelError when it is none."""
        path = bundled_model_path() if str(source) == "shipped" else Path(source)
        if path.is_dir():
            path = path / (BEST_FILE if (path / BEST_FILE).is_file() else CHECKPOINT_FILE)
        return _from_model_file(path) if path.suffix.lower() == ".onnx" else _from_checkpoint(path)


def _from_checkpoint(path: Path) -> InitialWeights:
    run = Checkpoint.load(path)
    origin = {"file": path.parent.name, "step": run.step, **_inherited_metadata(run.details)}
    return InitialWeights(
        path,
        run.settings.network,
        run.settings.channels,
        run.spec,
        run.ema_weights,
        parse_known_kinds(run.trained_names),
        origin,
    )


def _from_model_file(path: Path) -> InitialWeights:
    """A model file's weights under the names of `PlanarUNet`, each batch norm an identity with the folded bias."""
    import onnx

    try:
        data = path.read_bytes()
        card = read_verified_card(data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; give shipped, none, a RUN or a MODEL") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    network = str(card.details.get("settings", {}).get("network", "planar"))
    if network != "planar":
        raise ModelError(f"{path}: holds the network {network!r}, whose weights cannot be read back; begin with a RUN")
    graph = onnx.load_from_string(data).graph
    values = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    weights: Weights = {}
    for node in graph.node:
        if node.op_type == "Conv":
            layer = _CONV_OUTPUT.match(node.output[0])
            if not layer or not set(node.input[1:]) <= set(values) or len(node.input) != 3:
                raise ModelError(f"{path}: its network is none that this program trains; begin with another or none")
            weights |= _convolution_weights(layer[1], values[node.input[1]], values[node.input[2]])
    downs = sorted(n for n in weights if re.fullmatch(r"down\.\d+\.0\.weight", n))
    channels = tuple(len(weights[f"down.{i}.0.weight"]) for i in range(len(downs)))
    _check_shapes(path, channels, card.spec.inputs, weights)
    known = parse_known_kinds(card.trained_names)
    origin = {"file": path.name, "digest": card.digest, **_inherited_metadata(card.details)}
    return InitialWeights(path, network, channels, card.spec, weights, known, origin, has_folded_norms=True)


def _convolution_weights(name: str, weight: Tensor, bias: Tensor) -> Weights:
    """A convolution with a bias as one without, and its batch norm; the last one has none."""
    if name == "head":
        return {"head.weight": weight, "head.bias": bias}
    block, index = name.rsplit(".", 1)
    norm = f"{block}.{int(index) + 1}"
    return {
        f"{name}.weight": weight,
        f"{norm}.weight": torch.full_like(bias, (1 + _BATCH_NORM_EPSILON) ** 0.5),
        f"{norm}.bias": bias,
        f"{norm}.running_mean": torch.zeros_like(bias),
        f"{norm}.running_var": torch.ones_like(bias),
        f"{norm}.num_batches_tracked": torch.tensor(0),
    }


def _check_shapes(path: Path, channels: tuple[int, ...], inputs: int, weights: Weights) -> None:
    if not channels:
        raise ModelError(f"{path}: its network is none that this program trains; begin with another or none")
    wanted = {name: value.shape for name, value in PlanarUNet(channels, inputs).state_dict().items()}
    if wanted != {name: value.shape for name, value in weights.items()}:
        raise ModelError(f"{path}: its network is none that this program trains; begin with another or none")


def parse_known_kinds(names: Iterable[str]) -> frozenset[Kind]:
    """Classes of a card or checkpoint; none named means all."""
    return kinds_from_names(names) if list(names) else frozenset(CLASSES)


def _inherited_metadata(about: dict[str, Any]) -> dict[str, Any]:
    return {name: about[name] for name in _INHERITED_KEYS if name in about}


@torch.no_grad()
def calibrate_batch_norms(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give batch norms that are identities the statistics of `batches`, (N, inputs, A, S); answers stay the same.

    Without it the first step in training mode would normalise what was folded, and throw the weights away.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    seen: dict[nn.BatchNorm2d, list[Tensor]] = {norm: [] for norm in norms}

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        values = inputs[0].double()
        seen[module].append(torch.stack([values.mean((0, 2, 3)), values.square().mean((0, 2, 3))]))

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    network.eval()
    for images in batches:
        network(images)
    for hook in hooks:
        hook.remove()
    for norm, rows in seen.items():
        mean, square = torch.stack(rows).mean(0).to(norm.bias.dtype)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((square - mean.square()).clamp(min=0))
        norm.bias.add_(mean)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
