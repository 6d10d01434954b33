"""What runs inside a MONAI bundle: preprocessing, network and postprocessing as MONAI's transforms and inferer.

This file and those that it imports are copied into the bundle (see `monai_bundle`), which runs with MONAI and without
this package.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from monai.transforms.transform import MapTransform
from torch import Tensor, nn

from lumbarseg.inference.card import METADATA_KEY, ModelCard
from lumbarseg.inference.predictor import predict
from lumbarseg.preprocessing import PreparedImage, PreprocessingSpec, classes_on_source_grid, network_grid, preprocess
from lumbarseg.volume import Grid, Volume

from .networks import build_network
from .settings import TrainingSettings
from .torch_predictor import TorchPredictor

_SHAPE, _AFFINE, _FILE = "source_shape", "source_affine", "filename_or_obj"


def load_card(path: str) -> ModelCard:
    """Read the model card from its JSON file."""
    return ModelCard.from_metadata({METADATA_KEY: Path(path).read_text(encoding="utf-8")})


def create_network(settings: Mapping[str, Any]) -> nn.Module:
    """Build the network of these settings; its weights are loaded later."""
    return build_network(TrainingSettings.from_dict(dict(settings)))


class Preprocessd(MapTransform):
    """Preprocess images (1, I, J, K) to (1, slices, A, S); the metadata keep the exam's grid."""

    def __init__(self, keys: Any, spec: PreprocessingSpec) -> None:
        super().__init__(keys)
        self.spec = spec

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with preprocessed images."""
        out = dict(data)
        for key in self.key_iterator(out):
            image = out[key]
            volume = Volume(image[0].cpu().numpy(), image.affine.cpu().numpy())
            prepared = preprocess(volume, self.spec)
            meta = {
                _FILE: image.meta.get(_FILE, ""),
                _SHAPE: torch.tensor(volume.array.shape),
                _AFFINE: torch.tensor(volume.affine),
            }
            out[key] = MetaTensor(torch.from_numpy(prepared.array[None]), torch.tensor(prepared.grid.affine), meta)
        return out


class RestoreClassesd(MapTransform):
    """Turn probabilities (classes, slices, A, S) into a class map (1, I, J, K) uint8 on the exam's own grid."""

    def __init__(self, keys: Any, spec: PreprocessingSpec, image: str = "image") -> None:
        super().__init__(keys)
        self.spec, self.image = spec, image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of `data` with class maps."""
        out = dict(data)
        image = out[self.image]
        i, j, k = (int(n) for n in image.meta[_SHAPE])
        affine = torch.as_tensor(image.meta[_AFFINE], dtype=torch.float64)
        source = Grid((i, j, k), affine.cpu().numpy())
        for key in self.key_iterator(out):
            prepared = PreparedImage(image[0].cpu().numpy(), network_grid(source, self.spec), source, self.spec)
            classes = classes_on_source_grid(out[key].cpu().numpy(), prepared)
            out[key] = MetaTensor(torch.from_numpy(classes[None]), affine, {_FILE: image.meta[_FILE]})
        return out


class SliceInferer(Inferer):
    """Runs the network on every slice with its neighbours, or a 3-D network on overlapping blocks of slices."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *_: Any, **__: Any) -> Tensor:
        """Return probabilities (N, classes, slices, A, S) of inputs (N, 1, slices, A, S)."""
        assert isinstance(network, nn.Module)
        model = TorchPredictor(self.card, network)
        return torch.stack([torch.from_numpy(predict(model, image[0].cpu().numpy())) for image in inputs])
