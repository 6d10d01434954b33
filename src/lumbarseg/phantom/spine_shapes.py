"""Paint the spine on the canvas: tissues and labels of sacrum, posterior elements, canal, discs and bodies.

Shapes are painted in this order and overwrite earlier ones, so a body owns its endplates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from lumbarseg import anatomy
from lumbarseg.anatomy import Kind

from .canvas import TISSUE_INDEX, Canvas, smooth_noise
from .spine import Body, Disc, Spine, arch_dimensions, axial_rotation, sagittal_rotation
from .surroundings import Surroundings
from .vertebra_shapes import ShapeChoice, ShapeLibrary

Array = np.ndarray
_ARCH_CORTEX_MM = 0.9  # dark cortical bone around posterior elements, mm
UNLABELLED_DISC_RIM_MM = 0.6  # dark edge of a disc without a label, mm: references lie inside of it
LABELLED_CORTEX_MM = 0.3  # dark edge of a body inside of its label, mm; the rest has no label
_SACRUM = anatomy.labels_of_kind(Kind.SACRUM)[0]
_CANAL = anatomy.labels_of_kind(Kind.CANAL)[0]
_LESIONS = ("fat", "csf", "muscle")
_EXTRA_BULGE_MM = (
    2.0  # mm that a disc reaches further into the endplates of real shapes; the bodies, painted later, win
)
_WIDEST = -0.25  # of a body's half depth, where it is widest: seen from above it is round in front and flat behind
_BODY_LIMIT = 1.12  # of the half width of a body's rims, beyond which bone is a transverse process


@dataclass(frozen=True, eq=False)
class ShapeField:
    """A real vertebra on the canvas. region: its box; position: (lateral, anterior, up) mm; distance: mm."""

    region: tuple[slice, slice, slice]
    position: tuple[Array, Array, Array]
    distance: Array


def canal_centerline(spine: Spine, z: Array) -> Array:
    """Return the lateral and anterior position of the centre of the canal at each z, (2, Z) float32, mm."""
    points = []
    for segment in spine.segments[::-1]:
        back = np.array(segment.frame)[:, 1] * (segment.depth + spine.canal_depth * 0.75)
        points.append(np.array(segment.centre) - back)
    for disc, body in zip(spine.discs, spine.bodies, strict=True):
        for part, factor in ((disc, 1.0), (body, 1.08)):
            back = np.array(part.frame)[:, 1] * (part.depth + spine.canal_depth * factor)
            points.append(np.array(part.centre) - back)
    line = np.array(sorted(points, key=lambda p: float(p[2])))
    step = float(z[1] - z[0])
    return np.stack(
        [ndimage.gaussian_filter1d(np.interp(z, line[:, 2], line[:, axis]), 5 / step) for axis in (0, 1)]
    ).astype(np.float32)


def paint_spine(
    canvas: Canvas,
    spine: Spine,
    surroundings: Surroundings,
    path: Array,
    rng: Generator,
    fields: Sequence[ShapeField | None],
) -> None:
    """Paint the spine over the soft tissue. path: see `canal_centerline`; fields: real shapes, None for procedural."""
    _paint_sacrum(canvas, spine)
    _paint_foramina(canvas, spine, surroundings)
    for body, field in zip(spine.bodies, fields, strict=True):
        if field is None:
            _paint_arch(canvas, spine, body)
        else:
            _paint_shape_arch(canvas, body, field)
        if surroundings.ribs and not body.level.startswith("L"):
            _paint_ribs(canvas, body)
    _paint_canal(canvas, spine, surroundings, path, rng)
    for index, disc in enumerate(spine.discs):
        _paint_disc(canvas, disc, 101 + index, _EXTRA_BULGE_MM if fields[index] is not None else 0.0)
    for index, (body, field) in enumerate(zip(spine.bodies, fields, strict=True)):
        _paint_body(canvas, body, 1 + index, field)
    for body in spine.bodies:
        if body.metal:
            _paint_implant(canvas, body)


def _paint_sacrum(canvas: Canvas, spine: Spine) -> None:
    for j, s in enumerate(spine.segments):
        frame = np.array(s.frame)
        region = canvas.box(s.centre, s.width * 2.4 + 4)
        if region is None:
            continue
        x, a, u = canvas.local_coordinates(region, s.centre, frame)
        tissue, labels = canvas.tissue[region], canvas.labels[region]
        depth = s.depth * np.maximum(1 + s.taper * (u / s.height), 0.2)
        lateral = np.abs(x)
        body = (np.abs(a / depth) ** 2.6 + (lateral / s.width) ** 2.6 < 1) & (np.abs(u) < s.height)
        wing = (lateral < s.width * (2.1 - 0.1 * j)) & (lateral > s.width * 0.8)
        wing &= (
            (np.abs(u + 3) < s.height * 1.05) & (a < s.depth * 0.9 - 0.006 * s.depth * lateral) & (a > -s.depth * 1.25)
        )
        wing &= ((lateral - s.width * 1.05) / 5) ** 2 + ((u + s.height * 0.85) / 5) ** 2 >= 1  # foramina
        bone = body | wing
        tissue[bone], labels[bone] = TISSUE_INDEX["sacral marrow"], _SACRUM
        tissue[bone & ~ndimage.binary_erosion(bone)] = TISSUE_INDEX["cortex"]
        if s.gap > 0.9:
            gap = (
                (np.abs(a / depth) < 0.92) & (lateral < s.width * 0.85) & (u < -s.height) & (u > -s.height - 2 * s.gap)
            )
            tissue[gap] = TISSUE_INDEX["nucleus" if s.bright_gap else "annulus"]
            labels[gap] = _SACRUM
        crest = np.array(s.centre) - frame[:, 1] * (s.depth + spine.canal_depth * 1.9)
        _paint_superellipsoid(canvas, crest, frame, (5, 4, s.height * 0.8), "arch marrow", _SACRUM)


def _superellipsoid(canvas: Canvas, centre: Array, frame: Array, radii: Array, power: float = 2.0):  # type: ignore[no-untyped-def]
    """Return the box around a superellipsoid and the values of its function there, below 1 inside; None if outside."""
    region = canvas.box(centre, float(max(radii)) * 1.05 + 1)
    if region is None:
        return None
    x, a, u = canvas.local_coordinates(region, centre, frame)
    r = np.abs(x / radii[0]) ** power + np.abs(a / radii[1]) ** power + np.abs(u / radii[2]) ** power
    return region, r


def _paint_superellipsoid(
    canvas: Canvas, centre: Array, frame: Array, radii: tuple[float, ...], tissue: str, label: int = 0
) -> None:
    """Paint a superellipsoid of one tissue; without a label it fills only samples without a label."""
    ellipsoid = _superellipsoid(canvas, centre, frame, np.array(radii))
    if ellipsoid is None:
        return
    region, r = ellipsoid
    mask = r < 1 if label else (r < 1) & (canvas.labels[region] == 0)
    canvas.tissue[region][mask] = TISSUE_INDEX[tissue]
    if label:
        canvas.labels[region][mask] = label


def _paint_foramina(canvas: Canvas, spine: Spine, surroundings: Surroundings) -> None:
    """Paint fat with a nerve root between the pedicles."""
    backward, aside, up, *radii = surroundings.foramen
    for disc in spine.discs:
        frame = np.array(disc.frame)
        for side in (-1, 1):
            centre = disc.centre + frame @ (side * aside, -(disc.depth + backward), up)
            _paint_superellipsoid(canvas, centre, frame, tuple(radii), "fat")
            _paint_superellipsoid(canvas, centre + frame[:, 2] * 3, frame, (8, 2.2, 2.2), "roots")


def shape_field(
    canvas: Canvas, spine: Spine, index: int, library: ShapeLibrary, choice: ShapeChoice
) -> ShapeField | None:
    """Return the distance field of a real vertebra in the place of body `index`; None outside of the canvas."""
    body = spine.bodies[index]
    frame = np.array(body.frame)
    around_body = canvas.box(np.array(body.centre) - frame[:, 1] * 25, np.array([66.0, 66.0, 56.0]))
    if around_body is None:
        return None
    position = canvas.local_coordinates(around_body, body.centre, frame)
    distance = library.distance(choice, index, body, spine.canal_depth, position)
    return ShapeField(around_body, position, distance)


def _paint_shape_arch(canvas: Canvas, body: Body, field: ShapeField) -> None:
    """Paint the posterior elements of a real vertebra: all of it that lies behind the body's back wall."""
    behind = ~_belongs_to_body(body, field) & (field.distance < 0)
    tissue, labels = canvas.tissue[field.region], canvas.labels[field.region]
    tissue[behind] = TISSUE_INDEX["cortex"]
    tissue[behind & (field.distance < -_ARCH_CORTEX_MM)] = TISSUE_INDEX["arch marrow"]
    labels[behind] = anatomy.arch_of_level(body.level).label


def _belongs_to_body(body: Body, field: ShapeField) -> Array:
    """Return where bone counts as body: before its back wall, and not out in the transverse processes (L5)."""
    x, a, _ = field.position
    return (a >= -body.depth) & (np.abs(x) < _BODY_LIMIT * body.width)


def _paint_ribs(canvas: Canvas, body: Body) -> None:
    frame = np.array(body.frame)
    for side in (-1, 1):
        centre = body.centre + frame @ np.array((side * (body.width + 12), -body.depth * 0.9, body.height * 0.6))
        _paint_superellipsoid(canvas, centre, frame @ axial_rotation(side * 0.6), (16, 4, 5.5), "cortex")
        _paint_superellipsoid(canvas, centre, frame @ axial_rotation(side * 0.6), (15, 3, 4.5), "arch marrow")


def _paint_arch(canvas: Canvas, spine: Spine, body: Body) -> None:
    """Pedicles, articular processes, laminae, transverse and spinous processes."""
    frame, size, typical = np.array(body.frame), spine.size, arch_dimensions(body.level)
    spread, length, tilt, jitter, transverse, tall = body.arch
    depth, height = body.depth, body.height
    label = anatomy.arch_of_level(body.level).label

    def put(
        at: tuple[float, float, float], radii: tuple[float, ...], pitch: float = 0, yaw: float = 0, power: float = 2
    ) -> None:
        centre = body.centre + frame @ np.array(at)
        rotated, outer = frame @ sagittal_rotation(pitch) @ axial_rotation(yaw), np.array(radii) * size
        ellipsoid = _superellipsoid(canvas, centre, rotated, outer, power)
        if ellipsoid is None:
            return
        region, r = ellipsoid
        mask = r < 1
        canvas.tissue[region][mask] = TISSUE_INDEX["cortex"]
        canvas.labels[region][mask] = label
        region, r = _superellipsoid(canvas, centre, rotated, outer - _ARCH_CORTEX_MM, power) or (region, r)
        canvas.tissue[region][r < 1] = TISSUE_INDEX["arch marrow"]

    for side in (-1, 1):
        pedicle, superior, inferior = (
            side * spread * size * offset
            for offset in (typical.pedicle, typical.superior_facet, typical.inferior_facet)
        )
        put((pedicle, -depth - 5 * size, height * 0.3), (typical.pedicle_width, 9.5, 7.5), power=2.6)
        put((superior, -depth - 15 * size, height * 0.75), (3.6, 5.2, 10), pitch=-0.2, yaw=-side * 0.6)
        put((inferior, -depth - 20 * size, -height * 1.4), (3.4, 4.6, 11), pitch=0.1, yaw=-side * 0.6)
        put((inferior * 1.1, -depth - 17 * size, -height * 0.35), (4.5, 3.6, 11), yaw=side * 0.5)  # pars
        put((inferior * 0.55, -depth - 21 * size, -height * 0.4), (7.5, 3.2, 9.5), yaw=side * 0.5)  # lamina
        tip = typical.transverse * transverse * size
        reach = max((tip - abs(pedicle)) / 2, 5 * size)
        put((side * (tip - reach), -depth - 14 * size, height * 0.3), (reach / size, 4, 5), yaw=-side * 0.25)
    front, back = depth + 2 * spine.canal_depth + 6 * size, depth + typical.spinous * length * size
    half = max((back - front) / 2, 8 * size)
    drop = height * (0.8 if tilt < 0.3 else 1.2)
    put((jitter, -back + half, -drop), (3.6, half / size, typical.spinous_height * tall), pitch=tilt, power=3)


def _paint_canal(canvas: Canvas, spine: Spine, surroundings: Surroundings, path: Array, rng: Generator) -> None:
    """Paint the dural sac with cord, conus and roots, and epidural fat behind it and around its lower end.

    Only the sac is labelled as canal, as in public references.
    """
    z = canvas.z
    depth, width = np.full(len(z), spine.canal_depth), np.full(len(z), spine.canal_width)
    end = min(spine.segments[1].centre[2] - surroundings.sac_end, -15.0)
    low = np.where(z < 0, np.sqrt(np.clip((z - end) / -end, 0, 1)), 1) + 1e-3
    depth, width = depth * low, width * low
    for disc in spine.discs:
        depth = depth * (1 - disc.stenosis * np.exp(-(((z - disc.centre[2]) / 5) ** 2)))
    lateral = float(spine.canal_width) * 1.6
    xs = np.flatnonzero(np.abs(canvas.x - path[0].mean()) < lateral + np.ptp(path[0]))
    ys = np.flatnonzero((canvas.y > path[1].min() - 40) & (canvas.y < path[1].max() + 30))
    if not len(xs) or not len(ys):
        return
    region = (slice(xs[0], xs[-1] + 1), slice(ys[0], ys[-1] + 1), slice(0, len(z)))
    x, y, _ = canvas.world_coordinates(region)
    x, y = x - path[0], y - path[1]
    tissue, labels = canvas.tissue[region], canvas.labels[region]
    slant = np.sqrt(1 + np.gradient(path[1], z) ** 2)
    sac = (x / width) ** 2 + (y / (depth * slant)) ** 2 < 1
    phase, below, share = surroundings.epidural
    wide, deep = np.maximum(width, 5), np.maximum(depth, 5)
    behind = (x / (wide * 0.75)) ** 2 + ((y + deep * 1.1) / (deep * 0.7)) ** 2 < share
    behind &= np.sin(z / 5.5 + phase) > -0.2
    about = ((x / wide) ** 2 + (y / (deep * 1.4)) ** 2 < 1) & (z < below)
    fat = (behind | about | (z < end) & (np.abs(x) < 6) & (np.abs(y) < 5)) & (labels == 0)
    tissue[fat] = TISSUE_INDEX["epidural fat"]
    tissue[sac], labels[sac] = TISSUE_INDEX["csf"], _CANAL
    radius = np.clip((z - spine.conus) / 25.0, 0, 1) * surroundings.cord[0] + 1e-3
    cord = ((x / 1.15) ** 2 + (y + surroundings.cord[1]) ** 2 < radius**2) & sac
    crop = Canvas.empty(canvas.x[region[0]], canvas.y[region[1]], z)
    roots = sac & ~cord & (smooth_noise(crop, (1.6, 1.6, 30), rng) > surroundings.roots[0])
    roots &= (y < surroundings.roots[1]) & (z < spine.conus + 15)
    tissue[roots] = TISSUE_INDEX["roots"]
    tissue[cord] = TISSUE_INDEX["cord"]


def _paint_disc(canvas: Canvas, disc: Disc, part: int, extra_bulge: float = 0.0) -> None:
    region = canvas.box(disc.centre, max(disc.width, disc.depth) * 1.3 + 4)
    if region is None:
        return
    x, a, u = canvas.local_coordinates(region, disc.centre, np.array(disc.frame))
    lateral = np.abs(x / disc.width) ** disc.exponent
    reach = np.where(
        (a < 0) & (np.abs(x) < disc.width * 0.5), disc.depth + disc.hernia * np.exp(-((x / 8) ** 2)), disc.depth
    )
    r = np.abs(a / reach) ** disc.exponent + lateral
    half = disc.height + disc.wedge * a + (disc.bulge + extra_bulge) * np.clip(1 - r, 0, 1)
    mask = (r < 1) & (np.abs(u) < half)
    nucleus = mask & (((a + disc.depth * 0.08) / (disc.depth * 0.66)) ** 2 + (x / (disc.width * 0.7)) ** 2 < 1)
    nucleus &= np.abs(u) < np.maximum(half - 2.2, disc.height * 0.55)
    tissue = canvas.tissue[region]
    tissue[mask] = TISSUE_INDEX["annulus"]
    tissue[nucleus] = TISSUE_INDEX["nucleus"]
    if disc.cleft:
        tissue[nucleus & (np.abs(u) < 0.6)] = TISSUE_INDEX["annulus"]
    labelled = (
        mask
        & (r < (1 - UNLABELLED_DISC_RIM_MM / disc.depth) ** disc.exponent)
        & (np.abs(u) < np.maximum(half - UNLABELLED_DISC_RIM_MM, 0.5))
    )
    canvas.labels[region][labelled] = anatomy.structure_by_name(disc.name).label
    canvas.part_index[region][mask] = part


def _paint_body(canvas: Canvas, body: Body, part: int, field: ShapeField | None) -> None:
    region = field.region if field else canvas.box(body.centre, max(body.width, body.depth) * 1.2 + 3)
    if region is None:
        return
    x, a, u = field.position if field else canvas.local_coordinates(region, body.centre, np.array(body.frame))
    edges = (0.0, body.shell, body.shell - LABELLED_CORTEX_MM)
    if field:
        mask, inner, labelled = (_belongs_to_body(body, field) & (field.distance < -edge) for edge in edges)
    else:
        mask, inner, labelled = _body_masks(body, x, a, u, edges)
    for end, na, nx, radius in body.nodes:
        mask &= (a - na) ** 2 + (x - nx) ** 2 + ((u - end * (body.height - 1)) * 1.2) ** 2 >= radius**2
    inner, labelled = inner & mask, labelled & mask
    tissue = canvas.tissue[region]
    tissue[mask] = np.where(np.abs(u[mask]) > body.height * 0.72, TISSUE_INDEX["endplate"], TISSUE_INDEX["cortex"])
    tissue[inner] = TISSUE_INDEX["marrow"]
    if body.vein:
        vein = mask & (np.abs(u) < body.vein) & (a < -body.depth * 0.3) & (np.abs(x) < 5)
        tissue[vein] = TISSUE_INDEX["csf" if body.vein > 1.2 else "fat"]
    for lx, la, lu, radius, kind in body.lesions:
        lesion = inner & ((x - lx) ** 2 + (a - la) ** 2 + (u - lu) ** 2 < radius**2)
        tissue[lesion] = TISSUE_INDEX[_LESIONS[int(kind)]]
    canvas.labels[region][mask] = 0
    canvas.labels[region][labelled] = anatomy.structure_by_name(body.level).label
    canvas.part_index[region][mask] = part


def _body_masks(body: Body, x: Array, a: Array, u: Array, edges: Sequence[float]) -> list[Array]:
    """Return where the procedural body is, less an edge of each thickness in mm."""
    level = np.clip(u / body.height, -1.2, 1.2)
    middle = 1 - level**2
    side = 1 - body.waist * middle
    lip = body.lip / body.depth * np.clip(np.abs(level) - 0.75, 0, 0.25) * 4
    dent = body.dent * np.exp(-((x / (body.width * 0.45)) ** 2))
    widest = _WIDEST * body.depth
    front = (a - widest) / (body.depth * (side + lip) - widest)
    back = (widest - a) / (body.depth * (1 - body.waist * 0.35 * middle) - dent + widest)
    r = np.maximum(front, back) ** body.exponent + np.abs(x / (body.width * (side + lip))) ** body.exponent
    dome = np.clip(1 - (np.abs(a / body.depth) ** 2.5 + np.abs(x / body.width) ** 2.5), 0, 1)
    top = body.height + body.wedge * a - body.hollow_top * dome
    bottom = body.height + body.wedge * a - body.hollow_bottom * dome
    return [(r < (1 - edge / body.depth) ** body.exponent) & (u < top - edge) & (u > edge - bottom) for edge in edges]


def _paint_implant(canvas: Canvas, body: Body) -> None:
    """Paint screws through both pedicles into the body, and the rods that join them; labels do not change."""
    frame = np.array(body.frame)
    for side in (-1, 1):
        screw = body.centre + frame @ np.array(
            (side * arch_dimensions(body.level).pedicle * body.arch[0], -body.depth * 0.6, body.height * 0.35)
        )
        rod = screw - frame @ np.array((0, 24, 0))
        for centre, radii in ((screw, (3, 26, 3)), (rod, (3, 3, body.height * 1.6))):
            ellipsoid = _superellipsoid(canvas, centre, frame, np.array(radii))
            if ellipsoid is not None:
                region, r = ellipsoid
                canvas.tissue[region][r < 1] = TISSUE_INDEX["metal"]
