"""Ground-truth sizes of a phantom, computed from its shapes and not from its voxels."""

from __future__ import annotations

from typing import Any

import numpy as np

from .recipe import Recipe
from .spine import Array, Body, Disc, SacralSegment, Spine
from .spine_shapes import LABELLED_CORTEX_MM, UNLABELLED_DISC_RIM_MM


def measure_ground_truth(recipe: Recipe) -> dict[str, Any]:
    """Return heights, depths, slips and canal widths (mm), wedges and tilts of endplates (degrees), lordosis.

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
    below: tuple[Body | SacralSegment, ...] = (spine.segments[0], *spine.bodies)
    bodies = {
        body.level: _body_sizes(body) | _segment_sizes(body, lower) | _canal_width(spine, body)
        for body, lower in zip(spine.bodies, below, strict=False)
    }
    discs = {disc.name: _disc_sizes(disc) | _canal_width(spine, disc) for disc in spine.discs}
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


def _posterior_corner(part: Body | SacralSegment, end: int) -> Array:
    """Return the posterior corner at the upper (1) or lower (-1) endplate, (anterior, superior) mm."""
    if isinstance(part, Body):
        rim = part.shell - LABELLED_CORTEX_MM
        a = -(part.depth - part.dent) * (1 - rim / part.depth)
        u = part.height + part.wedge * a - rim
    else:
        a, u = -part.depth * (1 + part.taper), part.height
    corner: Array = (np.array(part.centre) + np.array(part.frame) @ (0, a, end * u))[1:]
    return corner


def _segment_sizes(body: Body, below: Body | SacralSegment) -> dict[str, float]:
    """Return the slip of a body on the one below, mm, and the angle between their upper endplates, degrees."""
    lower, upper = _endplate_tilt(body, -body.wedge), _endplate_tilt(below, getattr(below, "wedge", 0.0))
    lean = np.deg2rad((lower + upper) / 2)
    step = _posterior_corner(body, -1) - _posterior_corner(below, 1)
    slip = float(step @ (np.cos(lean), -np.sin(lean)))
    return {"slip": round(slip, 2), "segmental_lordosis": round(upper - _endplate_tilt(body, body.wedge), 2)}


def _canal_width(spine: Spine, part: Body | Disc) -> dict[str, float]:
    """Return the width of the dural sac behind a body or disc, mm; none where it tapers off, below the sacrum's top."""
    z = (np.array(part.centre) - np.array(part.frame)[:, 1] * (part.depth + spine.canal_depth))[2]
    narrowing = [1 - disc.stenosis * np.exp(-(((z - disc.centre[2]) / 5) ** 2)) for disc in spine.discs]
    return {"canal": round(2 * spine.canal_depth * float(np.prod(narrowing)), 2)} if z > 0 else {}


def _body_sizes(body: Body) -> dict[str, float]:
    edge, rim = 0.9 * body.depth, body.shell - LABELLED_CORTEX_MM
    return {
        "anterior": round(2 * (body.height + body.wedge * edge - rim), 2),
        "middle": round(2 * (body.height - rim) - body.hollow_top - body.hollow_bottom, 2),
        "posterior": round(2 * (body.height - body.wedge * edge - rim), 2),
        "depth": round(2 * (body.depth - rim) - body.dent, 2),
        "wedge": round(2 * float(np.rad2deg(np.arctan(body.wedge))), 2),
        "tilt_top": round(_endplate_tilt(body, body.wedge), 2),
        "tilt_bottom": round(_endplate_tilt(body, -body.wedge), 2),
    }


def _disc_sizes(disc: Disc) -> dict[str, float]:
    edge = 0.9 * disc.depth
    return {
        "anterior": round(2 * (disc.height + disc.wedge * edge - UNLABELLED_DISC_RIM_MM), 2),
        "middle": round(2 * (disc.height + disc.bulge - UNLABELLED_DISC_RIM_MM), 2),
        "posterior": round(2 * (disc.height - disc.wedge * edge - UNLABELLED_DISC_RIM_MM), 2),
        "depth": round((2 * disc.depth + disc.hernia) * (1 - UNLABELLED_DISC_RIM_MM / disc.depth), 2),
        "wedge": round(2 * float(np.rad2deg(np.arctan(disc.wedge))), 2),
        "degeneration": round(disc.degeneration, 3),
    }
