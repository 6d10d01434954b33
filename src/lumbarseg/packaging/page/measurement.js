// Measurements of a labelled spine: port of measurement/measure.py.

import { max, maxIndex, mean, median, min, mode, pairs, range, sum } from "d3-array";
import { CONSTANTS, labelsOfKind, LEVELS, LORDOSIS_TOP } from "./anatomy.js";
import { label } from "./ndimage.js";
import { determinant, percentile, roundEven } from "./numpy.js";
import { SpineGeometry } from "./spine_geometry.js";

const { STEP, FRONT, MIDDLE, BACK, RIMS, CANAL, MIN_BODY_DEPTH, MIN_DISC_DEPTH, CORNER_RANGE, CORNER_TOLERANCE } = CONSTANTS.geometry;
const COLUMN = ["body", "disc", "sacrum"];
const toDegrees = (radians) => (radians * 180) / Math.PI;
const rounded = (value, digits = 1) => roundEven(value * 10 ** digits) / 10 ** digits;

/** Measure each structure of a label map: {rows, lordosis, positions}, rows from head to foot,
 * positions of bodies and discs, {name, position in RAS+ mm, corrected for flips}. labels: in the order of the file;
 * flips: whether the header swaps front and back, and head and feet. */
export function measureStructures(labels, shape, affine, flips) {
  const strides = [1, shape[0], shape[0] * shape[1]];
  const spine = new SpineGeometry({ array: labels, shape, strides, offset: 0, affine }, flips);
  const voxelMl = Math.abs(determinant(affine)) / 1000;
  const fits = fitStructures(spine);
  const sacralEndplate = fitSacralEndplate(spine, fits);
  const below = endplatesBelow(fits, spine, sacralEndplate);
  const rows = spine.regions.map((region) => {
    const { name, kind } = region.structure;
    const row = { name, kind, volume: rounded(region.count * voxelMl, 3), complete: spine.isComplete(region) };
    if (fits.has(name)) Object.assign(row, sizes(fits.get(name), spine, below.get(name)));
    else if (kind === "sacrum" && sacralEndplate) row.tilt_top = rounded(toDegrees(sacralEndplate.lean));
    return row;
  });
  const tilts = new Map(rows.map((row) => [row.name, row.tilt_top]));
  const [top, bottom] = [tilts.get(LORDOSIS_TOP), tilts.get("sacrum")];
  const inColumn = spine.regions.filter(({ structure }) => COLUMN.includes(structure.kind));
  const positions = inColumn.map(({ structure, position }) => ({ name: structure.name, position }));
  return { rows, positions, lordosis: top === undefined || bottom === undefined ? null : rounded(bottom - top) };
}

/** Fit the bodies and discs that are completely in view; a map by name. */
function fitStructures(spine) {
  const chain = spine.regions.filter((region) => COLUMN.includes(region.structure.kind));
  const fits = new Map();
  chain.forEach((region, n) => {
    if (region.structure.kind === "sacrum" || !spine.isComplete(region)) return;
    const [above, below] = [chain[Math.max(0, n - 1)], chain[Math.min(chain.length - 1, n + 1)]];
    const direction = [0, 1].map((axis) => above.centre[axis] - below.centre[axis]);
    const lean = direction[0] || direction[1] ? Math.atan2(direction[0], Math.max(direction[1], 1e-6)) : 0;
    const fit = fitStructure(spine, region, lean);
    if (fit) fits.set(region.structure.name, fit);
  });
  return fits;
}

/** Fit the frame of a body or disc, rotated until it is symmetric to the endplates; null for a fragment. */
function fitStructure(spine, region, lean) {
  const widths = [1, 2].map((axis) => spine.spacing[axis] * (region.box[axis][1] - region.box[axis][0]));
  const reach = 4 + 0.5 * Math.hypot(...widths);
  const grid = range(-reach, reach, STEP);
  const bands = region.structure.kind === "disc" ? [[0.3, 0.7]] : [[0.06, 0.22], [0.78, 0.94]];
  const minDepth = region.structure.kind === "disc" ? MIN_DISC_DEPTH : MIN_BODY_DEPTH;
  let centre = region.centre;
  for (let iteration = 0; iteration < 3; iteration++) {
    const plane = spine.samplePlane(region, region, centre, lean, grid, grid);
    const { labels, count } = label(plane, [1, grid.length, grid.length]);
    if (!count) return null;
    const shape = contourProfiles(labels, grid);
    const extents = bands.map((share) => sagittalExtent(shape, grid, share));
    const [back, front] = [0, 1].map((side) => mean(extents.map((rim) => rim[side])));
    const { x, bottom, top } = shape;
    if (front - back < minDepth || x.length < 12) return null;
    const [low, high] = [fitEndplate(x, bottom, back, front), fitEndplate(x, top, back, front)];
    if (iteration === 2) {
      const endplate = ([at, slope], [rim]) => ({
        lean: lean - Math.atan(slope),
        corner: toPlane(centre, lean, rim, at + slope * rim),
      });
      const [lower, upper] = [endplate(low, extents[0]), endplate(high, extents.at(-1))];
      return { region, centre, lean, back, front, x, bottom, top, low, lower, upper };
    }
    const middle = (back + front) / 2;
    centre = toPlane(centre, lean, middle, (low[0] + low[1] * middle + high[0] + high[1] * middle) / 2);
    lean -= Math.atan((low[1] + high[1]) / 2);
  }
  return null;
}

/** Return the largest component of a sampled structure: its mask, and its bottom and top at each x. */
function contourProfiles(labels, grid) {
  const size = grid.length;
  const largest = mode(labels.filter(Boolean));
  const mask = labels.map((n) => (n === largest ? 1 : 0));
  const [x, bottom, top] = [[], [], []];
  for (let m = 0; m < size; m++) {
    const row = mask.subarray(m * size, (m + 1) * size);
    const first = row.indexOf(1);
    if (first < 0) continue;
    x.push(grid[m]);
    bottom.push(grid[first] - STEP / 2);
    top.push(grid[row.lastIndexOf(1)] + STEP / 2);
  }
  return { mask, x, bottom, top };
}

/** Return the median posterior and anterior border, mm, in a band of the height. */
function sagittalExtent({ mask }, grid, share) {
  const columns = grid.map((_, n) => grid.map((__, m) => mask[m * grid.length + n]));
  const widths = columns.map((column) => sum(column));
  const widest = max(widths);
  const rows = [...widths.keys()].filter((n) => widths[n] * STEP > 0.4 * widest * STEP);
  const height = rows.at(-1) - rows[0] + 1;
  const first = Math.trunc(share[0] * height);
  const last = Math.max(first + 1, roundEven(share[1] * height));
  const band = columns.slice(rows[0] + first, rows[0] + last).filter((column) => column.includes(1));
  const starts = band.map((column) => grid[column.indexOf(1)] - STEP / 2);
  return [median(starts), median(band, (column) => grid[column.lastIndexOf(1)] + STEP / 2)];
}

/** Return the indices of the positions in a band of the depth. */
function indicesInBand(x, back, front, [low, high]) {
  return [...x.keys()].filter((n) => {
    const share = (x[n] - back) / (front - back);
    return share >= low && share <= high;
  });
}

/** Return [height at 0, slope] of an endplate through its two rims. */
function fitEndplate(x, y, back = min(x), front = max(x)) {
  const [[x0, y0], [x1, y1]] = RIMS.map((rim) => {
    const positions = indicesInBand(x, back, front, rim);
    return [mean(positions.map((n) => x[n])), mean(positions.map((n) => y[n]))];
  });
  const slope = (y1 - y0) / (x1 - x0);
  return [y0 - slope * x0, slope];
}

/** Convert a point of a structure's own frame to [anterior, superior] in mm in the plane. */
function toPlane(centre, lean, x, y) {
  const [cos, sin] = [Math.cos(lean), Math.sin(lean)];
  return [centre[0] + x * cos + y * sin, centre[1] - x * sin + y * cos];
}

/** Return the mean height, mm, in a band of the depth; at the rims of a body the 80th percentile, as at its corners. */
function heightInBand(fit, share) {
  const heights = indicesInBand(fit.x, fit.back, fit.front, share).map((n) => fit.top[n] - fit.bottom[n]);
  return share !== MIDDLE && fit.region.structure.kind === "body" ? percentile(heights, 80) : mean(heights);
}

/** Return the sizes of a body or disc. below: the upper endplate of the body or sacrum below, if it is measured. */
function sizes(fit, spine, below) {
  const row = {
    anterior: rounded(heightInBand(fit, FRONT)),
    middle: rounded(heightInBand(fit, MIDDLE)),
    posterior: rounded(heightInBand(fit, BACK)),
    depth: rounded(fit.front - fit.back),
    wedge: rounded(toDegrees(fit.lower.lean - fit.upper.lean)),
  };
  const canal = canalWidth(fit, spine);
  if (canal) row.canal = canal;
  if (fit.region.structure.kind === "disc") return row;
  row.tilt_top = rounded(toDegrees(fit.upper.lean));
  row.tilt_bottom = rounded(toDegrees(fit.lower.lean));
  if (below) {
    row.segmental_lordosis = rounded(toDegrees(below.lean - fit.upper.lean));
    row.slip = slip(fit.lower, below);
  }
  return row;
}

/** Return the forward displacement of one posterior corner against the other along the bisector of the endplates, mm. */
function slip(lower, below) {
  const lean = (lower.lean + below.lean) / 2;
  const [x, y] = [0, 1].map((axis) => lower.corner[axis] - below.corner[axis]);
  return rounded(x * Math.cos(lean) - y * Math.sin(lean));
}

/** Return the width of the canal behind a structure in mm, along its own anterior axis at half its height. */
function canalWidth(fit, spine) {
  const canal = spine.regions.find((region) => labelsOfKind("canal").includes(region.structure.label));
  if (!canal) return null;
  const x = range(fit.back - CANAL, fit.back + 8, STEP);
  const y = range(-2, 2.01, STEP);
  const canalMask = spine.samplePlane(canal, fit.region, fit.centre, fit.lean, x, y);
  const widths = y.map((_, n) => x.reduce((total, __, m) => total + canalMask[m * y.length + n], 0));
  return rounded(median(widths) * STEP);
}

/** Fit the upper endplate of the sacrum, whose line is the lower border of the disc on it, or the top of the sacrum:
 * {lowest (structure above it), lean, corner (posterior)}; null if not visible. */
function fitSacralEndplate(spine, fits) {
  const sacrum = spine.regions.find((region) => region.structure.kind === "sacrum");
  const orders = spine.regions.filter((p) => COLUMN.slice(0, 2).includes(p.structure.kind)).map((p) => p.structure.order);
  const all = [...fits.values()];
  const lowest = all[maxIndex(all.map((fit) => fit.region.structure.order))];
  if (!sacrum || !lowest || lowest.region.structure.order !== max(orders)) return null;
  const lowestPoint = min(lowest.bottom);
  const y = range(lowestPoint - 20, lowestPoint + 8, STEP);
  const x = range(lowest.back - CORNER_RANGE, lowest.front + 4, STEP);
  const sacrumMask = spine.samplePlane(sacrum, lowest.region, lowest.centre, lowest.lean, x, y);
  const last = x.map((_, m) => sacrumMask.subarray(m * y.length, (m + 1) * y.length).lastIndexOf(1));
  const top = last.map((n) => y[n < 0 ? y.length - 1 : n] + STEP / 2);
  let [at, slope] = lowest.low;
  const lowestName = lowest.region.structure.name;
  if ([...LEVELS, lowestName].includes(lowestName.split("-").at(-1))) {
    const inside = [...x.keys()].filter((m) => last[m] >= 0 && x[m] >= lowest.back && x[m] <= lowest.front);
    const positions = inside.map((m) => x[m]);
    if (inside.length < 10 || max(positions) - min(positions) < 0.6 * (lowest.front - lowest.back)) return null;
    [at, slope] = fitEndplate(positions, inside.map((m) => top[m]));
  }
  const near = (value, m) => value <= lowest.back + CORNER_RANGE && Math.abs(top[m] - at - slope * value) < CORNER_TOLERANCE;
  const first = x.findIndex((value, m) => last[m] >= 0 && near(value, m));
  const edge = first > 0 ? x[first] - STEP / 2 : lowest.back;
  const corner = toPlane(lowest.centre, lowest.lean, edge, at + slope * edge);
  return { lowest, lean: lowest.lean - Math.atan(slope), corner };
}

/** Return the upper endplate of the body or sacrum below each body, where it is measured; a map by name. */
function endplatesBelow(fits, spine, sacral) {
  const bodies = LEVELS.filter((level) => fits.has(level)).map((level) => fits.get(level));
  const below = new Map();
  const orders = spine.regions.filter((region) => region.structure.kind === "body").map((region) => region.structure.order);
  for (const [upper, lower] of pairs(bodies)) {
    const [high, low] = [upper.region.structure.order, lower.region.structure.order];
    const isNext = !orders.some((order) => high < order && order < low); // else the body between them has no fit
    if (isNext) below.set(upper.region.structure.name, lower.upper);
  }
  const lowest = bodies.at(-1)?.region.structure;
  if (lowest && sacral && sacral.lowest.region.structure.order - lowest.order < 10) below.set(lowest.name, sacral);
  return below;
}
