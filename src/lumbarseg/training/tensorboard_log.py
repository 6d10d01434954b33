"""Curves and pictures of a run for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lumbarseg.anatomy import CLASSES, STRUCTURES
from lumbarseg.volume import Array

from .sampling import Batch
from .training_volumes import BYTES_PER_INTENSITY, UNKNOWN_CODE, PartialLabelCodec

_SAMPLES_SHOWN = 3
_UNKNOWN_COLOUR = (90, 90, 90)


class TensorBoardLog:
    """Writes to a folder that `tensorboard --logdir` reads; rows after `step`, from before resuming, are dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step or None)

    def close(self) -> None:
        """Write what is pending and close the file."""
        self.writer.close()

    def log_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log values at a step."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    @torch.no_grad()
    def log_predictions(self, step: int, network: nn.Module, batch: Batch, codec: PartialLabelCodec) -> None:
        """Log image, labels and prediction of the first samples of a batch side by side."""
        images, codes = batch[0][:_SAMPLES_SHOWN], batch[1][:_SAMPLES_SHOWN].numpy()
        device = next(network.parameters()).device
        classes = network(images.to(device)).argmax(1).cpu().numpy()
        middle = 2
        if classes.ndim == 4:  # blocks
            middle = classes.shape[1] // 2
            images, codes, classes = images[:, 0], codes[:, middle], classes[:, middle]
        grey = np.clip(images[:, middle].numpy() * BYTES_PER_INTENSITY, 0, 255).astype(np.uint8)
        columns = (np.stack([grey] * 3, -1), _code_colours(codec)[codes], _class_colours()[classes])
        picture = np.concatenate([np.concatenate(samples, 0) for samples in map(_display_orientation, columns)], 1)
        self.writer.add_image("image, labels, prediction", picture, step, dataformats="HWC")


def _display_orientation(pictures: Array) -> Array:
    """Return pictures (N, A, S, 3) with the head at the top and anterior on the left, (N, S, A, 3)."""
    return pictures.transpose(0, 2, 1, 3)[:, ::-1, ::-1]


def _class_colours() -> Array:
    """Return for each class the colour of its last structure, (classes, 3) uint8."""
    colour = {structure.kind: structure.colour for structure in STRUCTURES}
    return np.array([colour.get(kind, (0, 0, 0)) for kind in CLASSES], np.uint8)


def _code_colours(codec: PartialLabelCodec) -> Array:
    """Return for each code the colour of the first class that it allows, grey for unknown, (codes, 3) uint8."""
    colours = _class_colours()[codec.allowed.argmax(1)]
    colours[UNKNOWN_CODE] = _UNKNOWN_COLOUR
    return colours
