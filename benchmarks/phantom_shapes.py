"""Dimensions of phantoms against published ranges, and a sheet of phantoms beside real exams.

python -m benchmarks.phantom_shapes [-n 300] [--real DIR] [-o OUT] [--shapes DIR]. Prints percentiles of each sampled
dimension of L1 to L5 and of the sacrum, a histogram over the published range, and the share of samples within it.
Writes sheet.png with 12 phantoms (upper half) and 12 real exams of spider_t2/train and sudirman/train (lower half)
into OUT. The canal of a phantom is the dural sac, which is narrower than the bony canal.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from lumbarseg.anatomy import Kind, labels_of_kind
from lumbarseg.errors import LumbarsegError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import read_image
from lumbarseg.phantom import RecipeRanges, render_phantom, sample_recipe
from lumbarseg.phantom.shape_sources import read_shapes
from lumbarseg.phantom.spine import Spine, arch_dimensions
from lumbarseg.phantom.vertebra_shapes import ShapeLibrary
from lumbarseg.resampling import reorient
from lumbarseg.segmentation import segment
from lumbarseg.volume import Volume

ROOT = Path(__file__).resolve().parent.parent
RANGES = {
    "body width": (39.0, 59.0),
    "body depth": (29.0, 42.0),
    "body height": (23.0, 32.0),
    "canal width": (21.0, 32.0),
    "canal depth": (13.0, 20.0),
    "spinous process": (43.0, 61.0),
    "disc height": (3.0, 11.0),
    "S1 endplate depth": (21.0, 35.0),
    "S1 endplate width": (37.0, 57.0),
    "sacrum length": (80.0, 125.0),
    "sacrum length along its curve, / straight": (1.03, 1.15),
    "sacral slope, degrees": (18.0, 71.0),
}
"""Of each dimension, mm unless its name says so: minimum and maximum of 87 people (Clouthier et al.); of the sacrum,
mean and two standard deviations, for its curve and slope ranges (sources: lumbarseg/phantom/spine.py)."""
_BARS = " .:-=+*#%@"
_BINS = 12
_TILE = 220  # pixels
_SCORED = 20  # phantoms from one source of shapes
_SHEET = 12  # phantoms, and real exams


def sampled_dimensions(spines: Sequence[Spine]) -> dict[str, list[float]]:
    """Return the sampled dimensions of the lumbar vertebrae of spines, mm; crushed bodies and fused discs too."""
    samples: dict[str, list[float]] = {name: [] for name in RANGES}
    for spine in spines:
        for body, disc in zip(spine.bodies, spine.discs, strict=True):
            if not body.level.startswith("L"):
                continue
            values = (
                *(2 * body.width, 2 * body.depth, 2 * body.height, 2 * spine.canal_width, 2 * spine.canal_depth),
                *(arch_dimensions(body.level).spinous * body.arch[1] * spine.size, 2 * disc.height),
            )
            for name, value in zip(RANGES, values, strict=False):
                samples[name].append(value)
        for name, value in sacral_dimensions(spine).items():
            samples[name].append(value)
    return samples


def sacral_dimensions(spine: Spine) -> dict[str, float]:
    """Return the dimensions of the sacrum from promontory to apex, and the slope of its upper endplate."""
    s1, frames = spine.segments[0], [np.array(segment.frame) for segment in spine.segments]
    front = [
        np.array(s.centre) + frame @ (0, s.depth * (1 + sign * s.taper), sign * s.height)
        for s, frame in zip(spine.segments, frames, strict=True)
        for sign in (1, -1)
    ]
    straight = float(np.linalg.norm(front[-1] - front[0]))
    along = sum(float(np.linalg.norm(b - a)) for a, b in pairwise(front))
    slope = float(np.degrees(np.arctan2(np.linalg.norm(frames[0][:2, 2]), frames[0][2, 2])))
    values = (2 * s1.depth * (1 + s1.taper), 2 * s1.width, straight, along / straight, slope)
    return dict(zip(list(RANGES)[-len(values) :], values, strict=True))


def histogram_line(name: str, values: Sequence[float]) -> str:
    """Return the percentiles of one dimension, its histogram over the published range, and the share within it."""
    low, high = RANGES[name]
    margin = (high - low) / 3
    counts, _ = np.histogram(values, bins=_BINS, range=(low - margin, high + margin))
    bars = "".join(_BARS[round(count / max(counts.max(), 1) * (len(_BARS) - 1))] for count in counts)
    p5, p50, p95 = np.percentile(values, (5, 50, 95))
    within = np.mean([low <= value <= high for value in values])
    return f"| {name} | {low:g}-{high:g} | {p5:.3g} | {p50:.3g} | {p95:.3g} | `{bars}` | {within:.0%} |"


def tile(volume: Volume) -> np.ndarray:
    """Return the middle slice of an exam, front to the left, (220, 220) uint8."""
    volume = reorient(volume, "RAS")
    plane = volume.array[len(volume.array) // 2].astype(float).T[::-1, ::-1]
    plane = np.clip(plane / max(float(np.percentile(plane, 99.5)), 1e-6), 0, 1) * 255
    height, width = (n * s for n, s in zip(plane.shape, volume.grid.spacing[:0:-1], strict=True))
    scale = _TILE / max(height, width)
    small = Image.fromarray(plane.astype(np.uint8)).resize((round(width * scale), round(height * scale)))
    out = Image.new("L", (_TILE, _TILE))
    out.paste(small, ((_TILE - small.width) // 2, (_TILE - small.height) // 2))
    return np.asarray(out)


def write_sheet(path: Path, real: Path) -> None:
    """Write phantoms of routine contrasts above real exams of the training sets."""
    ranges = RecipeRanges(sequences=("T2", "T1"), isotropic_fraction=0.0)
    tiles = [tile(render_phantom(sample_recipe(np.random.default_rng([12, n]), ranges)).image) for n in range(_SHEET)]
    for folder in ("spider_t2/train", "sudirman/train"):
        exams = sorted((real / folder).glob("*_image.nii.gz"))[: _SHEET // 2]
        tiles += [tile(read_image(exam)) for exam in exams]
    rows = [np.concatenate(tiles[start : start + 6], axis=1) for start in range(0, len(tiles) - 5, 6)]
    Image.fromarray(np.concatenate(rows)).save(path)


def posterior_element_dice(model: Model, library: ShapeLibrary, source: str, count: int) -> list[float]:
    """Return the Dice of all posterior elements in phantoms from one source of shapes; a refused phantom counts 0.

    Phantoms have routine contrasts, thick slices and neither metal nor fewer than 500 voxels of posterior elements.
    """
    arches = labels_of_kind(Kind.ARCH)
    ranges = RecipeRanges(sequences=("T2", "T1"), isotropic_fraction=0.0)
    scores: list[float] = []
    for number in range(count):
        recipe = sample_recipe(np.random.default_rng([8, number]), ranges, shape_sources=(source,))
        phantom = render_phantom(recipe, library)
        reference = np.isin(phantom.labels.array, arches)
        if reference.sum() < 500 or any(body.metal for body in recipe.spine.bodies):
            continue
        try:
            predicted = np.isin(segment(phantom.image, model).labels.array, arches)
        except LumbarsegError:
            predicted = np.zeros_like(reference)
        scores.append(2 * float((reference & predicted).sum()) / float(reference.sum() + predicted.sum()))
    return scores


def main() -> None:
    """Print the table, write the sheet, and score posterior elements where a source of shapes is given."""
    parser = argparse.ArgumentParser(prog="benchmarks.phantom_shapes", description=__doc__)
    parser.add_argument("-n", type=int, default=300, help="phantoms to sample (default: %(default)s)")
    parser.add_argument("--real", type=Path, default=os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    parser.add_argument("-o", "--output", type=Path, default=Path("phantom_shapes"), help="folder of sheet.png")
    parser.add_argument("--shapes", type=Path, help="folder of shapes, as of lumbarseg phantom --shapes")
    parser.add_argument("--source", default="vhp_male_remus", help="source left out of training (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="a model file (default: the shipped one)")
    args = parser.parse_args()
    spines = [sample_recipe(np.random.default_rng([3, number])).spine for number in range(args.n)]
    print("| mm | published | 5 % | 50 % | 95 % | histogram | within |\n|---|---|--:|--:|--:|---|--:|")
    for name, values in sampled_dimensions(spines).items():
        print(histogram_line(name, values))
    args.output.mkdir(parents=True, exist_ok=True)
    write_sheet(args.output / "sheet.png", args.real)
    print(f"written to {args.output / 'sheet.png'}")
    if args.shapes:
        model = Model.load(args.model or bundled_model_path())
        scores = posterior_element_dice(model, read_shapes(args.shapes), args.source, _SCORED)
        print(f"posterior elements, {len(scores)} phantoms from {args.source}: mean Dice {np.mean(scores):.3f}")


if __name__ == "__main__":
    main()
