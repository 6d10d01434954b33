"""Ground-truth sizes of a phantom, computed from its shapes and not from its voxels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .recipe import Recipe
from .spine import Body, Disc, SacralSegment
from .spine_shapes import LABELLED_CORTEX_MM, UNLABELLED_DISC_RIM_MM


def measure_ground_truth(recipe: Recipe) -> dict[str, Any]:
    """Return anterior, middle and posterior heights (mm) of bodies and discs, tilts of endplates (degrees), lordosis.

    Sizes are those of the labels, which lie inside the dark edges. Heights of a body are measured 90 % of the way to
    its edges, in the midline and along its own axis. The tilt of an endplate is its angle to the horizontal before
    the patient is turned, positive if it faces forward. A phantom with real vertebrae has no such sizes.
    """
    spine = recipe.spine
    if recipe.shapes:
        return {
            "shapes": list(recipe.shapes.sources),
            "lumbar": spine.lumbar_count,
            "sequence": recipe.contrast.sequence,
        }
    bodies = {body.level: _body_sizes(body) for body in spine.bodies}
    discs = {disc.name: _disc_sizes(disc) for disc in spine.discs}
    sizes: dict[str, Any] = {
        "bodies": bodies,
        "discs": discs,
        "lumbar": spine.lumbar_count,
        "sequence": recipe.contrast.sequence,
    }
    if "L1" in bodies:
        sizes["lordosis"] = round(_endplate_tilt(spine.segments[0]) - bodies["L1"]["tilt_top"], 2)
    return sizes


def _endplate_tilt(part: Body | SacralSegment | Disc, slope: float = 0.0) -> float:
    up = np.array(part.frame)[:, 2]
    return float(np.rad2deg(np.arctan2(up[1], up[2]) - np.arctan(slope)))


def _body_sizes(body: Body) -> dict[str, float]:
    edge, rim = 0.9 * body.depth, body.shell - LABELLED_CORTEX_MM
    return {
        "anterior": round(2 * (body.height + body.wedge * edge - rim), 2),
        "middle": round(2 * (body.height - rim) - body.hollow_top - body.hollow_bottom, 2),
        "posterior": round(2 * (body.height - body.wedge * edge - rim), 2),
        "depth": round(2 * (body.depth - rim) - body.dent, 2),
        "tilt_top": round(_endplate_tilt(body, body.wedge), 2),
        "tilt_bottom": round(_endplate_tilt(body, -body.wedge), 2),
    }


def _disc_sizes(disc: Disc) -> dict[str, float]:
    edge = 0.9 * disc.depth
    return {
        "anterior": round(2 * (disc.height + disc.wedge * edge - UNLABELLED_DISC_RIM_MM), 2),
        "middle": round(2 * (disc.height + disc.bulge - UNLABELLED_DISC_RIM_MM), 2),
        "posterior": round(2 * (disc.height - disc.wedge * edge - UNLABELLED_DISC_RIM_MM), 2),
        "degeneration": round(disc.degeneration, 3),
    }
