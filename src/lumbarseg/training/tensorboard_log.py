"""What a run leaves to look at: curves and pictures for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import nn

from lumbarseg.anatomy import CLASSES, STRUCTURES
from lumbarseg.volume import Array

from .sampling import Batch
from .training_volumes import UNKNOWN_CODE, PartialLabelCodec

_IMAGE_COUNT = 3
_GREY = (90, 90, 90)


class TensorBoardLog:
    """Writes to a folder that `tensorboard --logdir` reads; on resuming, what was written after `step` is dropped."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step or None)

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def log_scalars(self, step: int, values: dict[str, float], every: int = 1) -> None:
        """Enter values at a step, if `every` divides it."""
        if step % every == 0:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    @torch.no_grad()
    def log_predictions(self, step: int, network: nn.Module, batch: Batch, codec: PartialLabelCodec) -> None:
        """Input, what was drawn, and what was found, side by side, of the first crops of a batch."""
        images, drawn = batch[0][:_IMAGE_COUNT], batch[1][:_IMAGE_COUNT].numpy()
        where = next(network.parameters()).device
        found = network(images.to(where)).argmax(1).cpu().numpy()
        middle = 2
        if found.ndim == 4:  # blocks
            middle = found.shape[1] // 2
            images, drawn, found = images[:, 0], drawn[:, middle], found[:, middle]
        grey = np.clip(images[:, middle].numpy() * 170, 0, 255).astype(np.uint8)
        rows = [
            np.concatenate(
                [
                    _to_display_orientation(np.stack([g] * 3, -1)),
                    _to_display_orientation(_code_colours(codec)[d]),
                    _to_display_orientation(_class_colours()[f]),
                ],
                1,
            )
            for g, d, f in zip(grey, drawn, found, strict=True)
        ]
        self.writer.add_image("input, drawn, found", np.concatenate(rows, 0), step, dataformats="HWC")


def _to_display_orientation(picture: Array) -> Array:
    """(A, S, 3) to rows from head to foot, front on the left."""
    return picture.transpose(1, 0, 2)[::-1, ::-1]


def _class_colours() -> Array:
    """(classes, 3) uint8: for each class the colour of its last structure."""
    colour = {structure.kind: structure.colour for structure in STRUCTURES}
    return np.array([colour.get(kind, (0, 0, 0)) for kind in CLASSES], np.uint8)


def _code_colours(codec: PartialLabelCodec) -> Array:
    """(codes, 3) uint8: of the first class that a set allows; grey where anything is."""
    table = _class_colours()[codec.allowed.argmax(1)]
    table[UNKNOWN_CODE] = _GREY
    return table
