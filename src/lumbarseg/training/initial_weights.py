"""Initial weights of a run: of another run's checkpoint, or read back from a model file."""

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
from .settings import TrainingSettings

_BATCH_NORM_EPSILON = 1e-5  # torch's default
_CONV_OUTPUT = re.compile(r"^/(?:[^/]+/)*([^/]+)/Conv_output_0$")
_INHERITED_KEYS = ("name", "data", "licences", "sources", "init")
"""Details of the first model's card that a new model's card repeats."""


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """A network to start from.

    known_kinds : classes that it was trained on; provenance : for the new model's card; has_folded_norms : its batch
    norms are folded into the convolutions and stand as identities, see `calibrate_batch_norms`
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
        """Load "shipped" (the installed model), a run's folder or checkpoint, or a model file; ModelError otherwise."""
        path = bundled_model_path() if str(source) == "shipped" else Path(source)
        if path.is_dir():
            path = path / (BEST_FILE if (path / BEST_FILE).is_file() else CHECKPOINT_FILE)
        return _from_model_file(path) if path.suffix.lower() == ".onnx" else _from_checkpoint(path)

    def check_network(self, settings: TrainingSettings) -> None:
        """Raise ModelError if the weights are not those of the network of these settings."""
        if (self.network, self.channels) != (settings.network, settings.channels):
            raise ModelError(
                f"{self.path}: is a {self.network} network with channels {self.channels}, "
                f"the new run a {settings.network} one with {settings.channels}"
            )


def _from_checkpoint(path: Path) -> InitialWeights:
    checkpoint = Checkpoint.load(path)
    settings = checkpoint.settings
    return InitialWeights(
        path,
        settings.network,
        settings.channels,
        checkpoint.spec,
        checkpoint.ema_weights,
        parse_known_kinds(checkpoint.trained_names),
        {"file": path.parent.name, "step": checkpoint.step, **_inherited_details(checkpoint.details)},
    )


def _from_model_file(path: Path) -> InitialWeights:
    """Read the weights of a model file for `PlanarUNet`; its batch norms are folded into the convolutions."""
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
        raise ModelError(f"{path}: holds the network {network!r}, whose weights cannot be read back; start from a RUN")
    graph = onnx.load_from_string(data).graph
    tensors = {tensor.name: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    weights: Weights = {}
    for node in graph.node:
        if node.op_type == "Conv":
            layer = _CONV_OUTPUT.match(node.output[0])
            if not layer or len(node.input) != 3 or not set(node.input[1:]) <= set(tensors):
                raise _unknown_network(path)
            weights |= _convolution_weights(layer[1], tensors[node.input[1]], tensors[node.input[2]])
    levels = sum(re.fullmatch(r"down\.\d+\.0\.weight", name) is not None for name in weights)
    channels = tuple(len(weights[f"down.{i}.0.weight"]) for i in range(levels))
    try:
        PlanarUNet(channels, card.spec.inputs).load_state_dict(weights)
    except (RuntimeError, IndexError):  # other names or shapes; no levels at all
        raise _unknown_network(path) from None
    provenance = {"file": path.name, "digest": card.digest, **_inherited_details(card.details)}
    return InitialWeights(path, network, channels, card.spec, weights, card.trained_kinds, provenance, True)


def _convolution_weights(name: str, weight: Tensor, bias: Tensor) -> Weights:
    """Return a convolution with a bias as one without and a batch norm; the last convolution has no batch norm."""
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


def _unknown_network(path: Path) -> ModelError:
    return ModelError(f"{path}: its network is not one that this program trains; start from another model, or none")


def parse_known_kinds(names: Iterable[str]) -> frozenset[Kind]:
    """Return the classes that a card or checkpoint lists; all if it lists none."""
    return kinds_from_names(names) or frozenset(CLASSES)


def _inherited_details(details: dict[str, Any]) -> dict[str, Any]:
    return {name: details[name] for name in _INHERITED_KEYS if name in details}


@torch.no_grad()
def calibrate_batch_norms(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give batch norms that are identities the statistics of `batches`, (N, inputs, A, S); predictions stay the same.

    Otherwise the first step in training mode would normalise what was folded, and destroy the weights.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    moments: dict[nn.BatchNorm2d, list[Tensor]] = {norm: [] for norm in norms}

    def record(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        values = inputs[0].double()
        moments[module].append(torch.stack([values.mean((0, 2, 3)), values.square().mean((0, 2, 3))]))

    hooks = [norm.register_forward_pre_hook(record) for norm in norms]
    network.eval()
    for images in batches:
        network(images)
    for hook in hooks:
        hook.remove()
    for norm, rows in moments.items():
        mean, square = torch.stack(rows).mean(0).to(norm.bias.dtype)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((square - mean.square()).clamp(min=0))
        norm.bias.add_(mean)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
