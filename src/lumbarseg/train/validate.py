"""How good the averaged weights are on held-out exams: whole slices, what the source drew, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lumbarseg.anatomy import CLASSES
from lumbarseg.prepare import Spec, windows
from lumbarseg.volume import Array

from .precision import autocast
from .stacks import SCALE, Codes, Stack, slab_of

_AT_ONCE = 4  # slices
_SLAB = 4.0  # mm, of the slabs made from thin slices


@dataclass(frozen=True)
class Result:
    """One annotated set. dice: mean over exams; ratio: found to drawn volume, over all exams together."""

    name: str
    dice: float
    ratio: float


def validate(network: nn.Module, stacks: Sequence[Stack], codes: Codes, spec: Spec, precision: str) -> list[Result]:
    """Scores per annotated set, in the order of `codes`."""
    allowed = codes.allowed
    tallies = [_tally(classify(network, *thick(stack), spec, precision), allowed) for stack in stacks]
    results = []
    for code in scored(allowed):
        rows = np.array([tally[code] for tally in tallies]).reshape(-1, 3)  # (exams, 3): both, found, drawn
        rows = rows[rows[:, 2] > 0]
        if len(rows):
            dice = 2 * rows[:, 0] / (rows[:, 1] + rows[:, 2])
            results.append(Result(_name(allowed[code]), float(dice.mean()), float(rows[:, 1].sum() / rows[:, 2].sum())))
    return results


def thick(stack: Stack) -> tuple[Array, Array]:
    """An exam as inference sees it: image (slices, A, S) float32 and codes, thin slices averaged to slabs."""
    count = min(len(stack.image), max(1, round(_SLAB / stack.thickness)))
    kernel = np.full(count, 1 / count, np.float32)
    slabs = [slab_of(stack, count, 0, i, kernel) for i in range(len(stack.image) // count)]
    return np.stack([image[2] for image, _ in slabs]) / np.float32(SCALE), np.stack([code for _, code in slabs])


@torch.no_grad()
def classify(network: nn.Module, image: Array, codes: Array, spec: Spec, precision: str) -> tuple[Array, Array]:
    """The class of each voxel (slices, A, S), and the codes."""
    where = next(network.parameters()).device
    _, rows, columns = image.shape
    batches = torch.from_numpy(windows(image, spec)).split(_AT_ONCE)
    found = []
    for batch in batches:
        with autocast(precision, where):
            logits = network(batch.to(where).contiguous(memory_format=torch.channels_last))
        found.append(logits.argmax(1)[:, :rows, :columns].to("cpu", torch.uint8).numpy())
    return np.concatenate(found), codes


def _tally(pair: tuple[Array, Array], allowed: Array) -> Array:
    """(codes, 3): voxels found and drawn, found, drawn; only where the source says something about the set."""
    found, codes = pair
    count = len(allowed)
    table = np.bincount(
        codes.ravel().astype(np.int64) * len(CLASSES) + found.ravel(), minlength=count * len(CLASSES)
    ).reshape(count, len(CLASSES))  # voxels of each code, by found class
    out = np.zeros((count, 3))
    for code in scored(allowed):
        hits = table @ allowed[code]  # (codes,)
        fits = ~(allowed & allowed[code]).any(1)
        fits[code] = True
        out[code] = hits[code], hits[fits].sum(), table[code].sum()
    return out


def scored(allowed: Array) -> list[int]:
    """Codes of the sets that are scored: all but "unknown" and those with the background."""
    return [int(code) for code in np.flatnonzero(~allowed[:, 0])]


def _name(row: Array) -> str:
    return "+".join(str(kind) for kind, there in zip(CLASSES, row, strict=True) if there)
