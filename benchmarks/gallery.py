"""Pictures of failures: python -m benchmarks.gallery [--real DIR].

Writes docs/failures.md and its pictures, prediction beside reference: the worst exams of the SPIDER test sets by mean
Dice, and the worst of a number of difficult phantoms (metal, curved spines, crushed bodies, fused levels, four or six
lumbar vertebrae). Other sets may not be pictured: their worst exams are described in words.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import accuracy
from lumbarseg.anatomy import STRUCTURES, Kind, Structure, structure_by_name
from lumbarseg.errors import LumbarsegError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import read_exam, read_labels
from lumbarseg.metrics.overlap import find_wrong_names, score_structures
from lumbarseg.metrics.structure_names import own_label_table
from lumbarseg.phantom import Recipe, RecipeRanges, render_phantom, sample_recipe
from lumbarseg.report.contact_sheet import render_tile_picture
from lumbarseg.segmentation import Segmentation, segment
from lumbarseg.volume import Volume

PAGE = Path(__file__).resolve().parent.parent / "docs" / "failures.md"
FOLDER = PAGE.with_suffix("")
SOURCE = "Picture: SPIDER, van der Graaf et al., Sci Data 11:264 (2024), CC BY 4.0."
PICTURED = {"spider_space": 2, "spider_t2": 3}
UNPICTURED = ("chu", "siegen", "myosegmentum", "discs")
_SEED = 31
_SHOWN_KINDS = (Kind.BODY, Kind.DISC, Kind.CANAL, Kind.SACRUM, Kind.ARCH)


@dataclass(frozen=True, eq=False)
class Failure:
    """One exam with a poor result.

    description : what went wrong
    jpeg : prediction beside reference
    """

    title: str
    description: str
    jpeg: bytes


def worst_real(model: Model, real: Path, rows: dict[str, list[dict[str, Any]]]) -> Iterator[Failure]:
    """Yield the worst exams of the sets that may be pictured, as benchmarks.accuracy scored them."""
    for benchmark_set in (each for each in accuracy.SETS if each.name in PICTURED):
        paths = {
            image.name.removesuffix("_image.nii.gz"): (image, reference_path)
            for image, reference_path in benchmark_set.exams(real)
        }
        ordered = sorted(rows[benchmark_set.name], key=_mean)
        for row in ordered[: PICTURED[benchmark_set.name]]:
            image, reference_path = read_exam(paths[row["exam"]][0]).volume, read_labels(paths[row["exam"]][1])
            truth = Volume(reference_path.array, image.affine)
            segmentation = segment(image, model)
            description = render_tile_picture(
                image, truth, [_tissue(value, names) for value, names in benchmark_set.table.items() if value]
            )
            yield Failure(
                f"{benchmark_set.name} {row['exam']}",
                _describe_row(row),
                _side_by_side(_render_prediction(image, segmentation), description),
            )


def _tissue(value: int, names: Sequence[str]) -> Structure:
    """Return a structure without a name, to outline a value that stands for a tissue."""
    kind = "body" if "body" in names else names[0]
    like = next(s for s in STRUCTURES if s.kind == kind)
    return replace(like, label=value, name="")


def _mean(row: dict[str, Any]) -> float:
    return accuracy.mean([value.get("overlap", value["dice"]) for value in row["structures"].values()])


def _describe_row(row: dict[str, Any]) -> str:
    parts = [
        f"{name} Dice {value['dice']:.2f}, volume ratio {value['ratio']:.2f}"
        for name, value in sorted(row["structures"].items(), key=lambda item: item[1]["dice"])
    ]
    return "; ".join([*parts, *row["warnings"]]) + "."


def _side_by_side(left: bytes, right: bytes) -> bytes:
    """Join two JPEGs, small enough for the repository."""
    tiles = [Image.open(BytesIO(data)) for data in (left, right)]
    sheet = Image.new("RGB", (sum(tile.width for tile in tiles), max(tile.height for tile in tiles)))
    for tile, x in zip(tiles, (0, tiles[0].width), strict=True):
        sheet.paste(tile, (x, 0))
    out = BytesIO()
    sheet.save(out, "JPEG", quality=70, optimize=True)
    return out.getvalue()


def _render_prediction(image: Volume, segmentation: Segmentation) -> bytes:
    return render_tile_picture(image, segmentation.labels, [s for s in STRUCTURES if s.kind in _SHOWN_KINDS])


def draw_hard_phantom(kind: str, seed: int) -> Recipe:
    """Draw recipes until one has a given difficulty."""
    rng = np.random.default_rng([_SEED, seed])
    ranges = RecipeRanges(
        sequences=("T2", "T1", "STIR", "GRE"), lumbar_counts=({"four": 4, "six": 6}.get(kind[:4].strip(), 5),)
    )
    while True:
        recipe = sample_recipe(rng, replace(ranges, isotropic_fraction=0.0))
        spine = recipe.spine
        low, high = spine.bodies[0], spine.bodies[5]
        has = {
            "metal": any(body.metal for body in spine.bodies[:4]),
            "a spine curved by more than 25 degrees": _curvature(low.frame, high.frame, spine.bodies[2].frame) > 25,
            "a crushed body": any(body.height < 0.75 * spine.bodies[1].height for body in spine.bodies[2:6]),
            "two levels fused": any(disc.height < 0.5 for disc in spine.discs[:4]),
        }
        if has.get(kind, True):
            return recipe


def _curvature(*frames: Any) -> float:
    """Return the largest angle between bodies in the coronal plane, degrees."""
    angles = [np.degrees(np.arctan2(frame[0][2], frame[2][2])) for frame in frames]
    return float(max(angles) - min(angles))


KINDS = (
    *("metal", "a spine curved by more than 25 degrees", "a crushed body", "two levels fused"),
    *("four lumbar vertebrae", "six lumbar vertebrae"),
)


def worst_phantoms(model: Model, each: int) -> Iterator[Failure]:
    """Yield the worst of `each` phantoms of each kind, by the mean Dice of bodies and discs by overlap."""
    for kind in KINDS:
        evaluations = [_evaluate_phantom(model, draw_hard_phantom(kind, number)) for number in range(each)]
        segmented = [evaluated for evaluated in evaluations if evaluated is not None]
        mean, image, labels, segmentation, wrong = min(segmented, key=lambda evaluated: evaluated[0])
        description = f"Mean Dice of bodies and discs by overlap {mean:.2f}, the worst of {len(segmented)}"
        description += f"; {', '.join(wrong)}" if wrong else "; all names right"
        marked = ", marked uncertain" if segmentation.uncertain else ""
        reference_path = render_tile_picture(image, labels, [s for s in STRUCTURES if s.kind in _SHOWN_KINDS])
        yield Failure(
            f"Phantom with {kind}",
            f"{description}{marked}.",
            _side_by_side(_render_prediction(image, segmentation), reference_path),
        )


def _evaluate_phantom(model: Model, recipe: Recipe) -> tuple[float, Volume, Volume, Segmentation, list[str]] | None:
    phantom = render_phantom(recipe)
    try:
        segmentation = segment(phantom.image, model)
    except LumbarsegError:
        return None
    rows = score_structures(segmentation.labels.array, phantom.labels.array, own_label_table([Kind.BODY, Kind.DISC]))
    large = [row for row in rows if row.reference_voxels > 500]
    wrong = find_wrong_names(row for row in large if structure_by_name(row.name).kind == Kind.BODY)
    return (
        accuracy.mean([row.covering_dice or 0.0 for row in large]),
        phantom.image,
        phantom.labels,
        segmentation,
        wrong,
    )


def format_unpictured(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return a line for the worst exam of each set that may not be pictured."""
    lines = []
    for name in UNPICTURED:
        row = min(rows.get(name, []), key=_mean, default=None)
        if row:
            worst = min(row["structures"].items(), key=lambda item: item[1].get("overlap", item[1]["dice"]))
            scores = f"mean Dice by overlap {_mean(row):.3f}, lowest in {worst[0]} ({worst[1]['overlap']:.2f})"
            wrong = f"; {', '.join(row['wrong'])}" if row["wrong"] else ""
            lines.append(f"- **{name} {row['exam']}** ({row['contrast']}): {scores}{wrong}.")
    return lines


def render_page(real: Sequence[Failure], phantoms: Sequence[Failure], unpictured: Sequence[str]) -> str:
    """Render the page; its pictures are numbered in this order."""
    lines = [
        "# Where the model fails",
        "",
        "*Written, with its pictures, by `python -m benchmarks.gallery`.* Prediction left, reference right.",
        "",
        "## Real exams",
        "The worst exams of the sets that may be shown.",
    ]
    for number, failure in enumerate((*real, *phantoms), start=1):
        if number == len(real) + 1:
            lines += ["", "The worst exams of the other sets, in words:", "", *unpictured, "", "## Difficult phantoms"]
        lines += [
            "",
            f"### {failure.title}",
            failure.description,
            "",
            f"![prediction and reference](failures/{number}.jpg)",
        ]
        lines += ["", SOURCE] if number <= len(real) else []
    return "\n".join([*lines, ""])


def main() -> None:
    """Select, render and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.gallery", description=__doc__)
    parser.add_argument(
        "--real", type=Path, default=os.environ.get("LUMBARSEG_REAL", accuracy.ROOT.parent / "shared" / "real")
    )
    parser.add_argument("--each", type=int, default=6, help="phantoms of each kind (default: %(default)s)")
    args = parser.parse_args()
    if not args.real.is_dir():
        parser.error(f"no real exams at {args.real}; set --real or LUMBARSEG_REAL")
    rows = json.loads(accuracy.RESULTS.read_text())["sets"]
    model = Model.load(bundled_model_path())
    real, phantoms = list(worst_real(model, args.real, rows)), list(worst_phantoms(model, args.each))
    FOLDER.mkdir(exist_ok=True)
    for number, failure in enumerate((*real, *phantoms), start=1):
        (FOLDER / f"{number}.jpg").write_bytes(failure.jpeg)
    PAGE.write_text(render_page(real, phantoms, format_unpictured(rows)), encoding="utf-8")
    print(f"{PAGE.name} and {len(real) + len(phantoms)} pictures written")


if __name__ == "__main__":
    main()
