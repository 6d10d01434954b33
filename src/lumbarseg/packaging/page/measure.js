// Sizes of a labelled spine: measure.py in JavaScript.

import { CONSTANTS, labelsOf, LEVELS, LORDOSIS } from "./anatomy.js";
import { label } from "./ndimage.js";
import { arange, argmax, argmin, maximum, mean, median, minimum, percentile, roundEven } from "./numpy.js";
import { Spine } from "./spine.js";

const { STEP, FRONT, MIDDLE, BACK, RIMS, CANAL } = CONSTANTS.measurement;
const COLUMN = ["body", "disc", "sacrum"];
const degrees = (radians) => (radians * 180) / Math.PI;
const rounded = (value, digits = 1) => roundEven(value * 10 ** digits) / 10 ** digits;

/** Sizes of every structure of a label map, from head to foot, and lordosis; labels: in the file's order. */
export function measure(labels, shape, affine) {
  const spine = new Spine({ array: labels, shape, strides: [1, shape[0], shape[0] * shape[1]], offset: 0, affine });
  const [[a, b, c], [d, e, f], [g, h, i]] = affine;
  const voxel = Math.abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)) / 1000;
  const fits = fitsOf(spine);
  const line = sacralLine(spine, fits);
  const slips = slipsOf(fits, spine, line);
  const rows = spine.parts.map((part) => {
    const { name, kind } = part.structure;
    const row = { name, kind, volume: rounded(part.count * voxel, 3), complete: spine.complete(part) };
    if (fits.has(name)) Object.assign(row, sizes(fits.get(name), spine));
    else if (kind === "sacrum" && line) row.tilt_top = rounded(degrees(line.lean));
    if (slips.has(name)) row.slip = slips.get(name);
    return row;
  });
  const tilts = new Map(rows.map((row) => [row.name, row.tilt_top]));
  const [top, bottom] = [tilts.get(LORDOSIS), tilts.get("sacrum")];
  return { rows, lordosis: top === undefined || bottom === undefined ? null : rounded(bottom - top) };
}

/** Frames of the bodies and discs that end inside the exam, by name. */
function fitsOf(spine) {
  const chain = spine.parts.filter((part) => COLUMN.includes(part.structure.kind));
  const fits = new Map();
  chain.forEach((part, n) => {
    if (part.structure.kind === "sacrum" || !spine.complete(part)) return;
    const [above, below] = [chain[Math.max(0, n - 1)], chain[Math.min(chain.length - 1, n + 1)]];
    const around = [0, 1].map((axis) => above.centre[axis] - below.centre[axis]);
    const lean = around[0] || around[1] ? Math.atan2(around[0], Math.max(around[1], 1e-6)) : 0;
    const fit = fitOf(spine, part, lean);
    if (fit) fits.set(part.structure.name, fit);
  });
  return fits;
}

/** The frame of a body or disc, turned until its endplates lie symmetrically to it; null for a scrap. */
function fitOf(spine, part, lean) {
  const wide = [1, 2].map((axis) => spine.spacing[axis] * (part.box[axis][1] - part.box[axis][0]));
  const reach = 4 + 0.5 * Math.hypot(...wide);
  const grid = arange(-reach, reach, STEP);
  const shares = part.structure.kind === "disc" ? [[0.3, 0.7]] : [[0.06, 0.22], [0.78, 0.94]];
  let centre = part.centre;
  for (let turn = 0; turn < 3; turn++) {
    const { labels, count } = label(spine.sample(part, part, centre, lean, grid, grid), [1, grid.length, grid.length]);
    if (!count) return null;
    const shape = profiles(labels, count, grid);
    const rims = shares.map((share) => extent(shape, grid, share));
    const [back, front] = [0, 1].map((side) => mean(rims.map((rim) => rim[side])));
    const { x, bottom, top } = shape;
    if (front - back < 8 || x.length < 12) return null;
    const [low, high] = [line(x, bottom, back, front), line(x, top, back, front)];
    if (turn === 2) {
      const corners = [outward(centre, lean, rims[0][0], low[0] + low[1] * rims[0][0])];
      const rim = rims.at(-1)[0];
      corners.push(outward(centre, lean, rim, high[0] + high[1] * rim));
      return { part, centre, lean, back, front, x, bottom, top, low, high, corners };
    }
    const middle = (back + front) / 2;
    centre = outward(centre, lean, middle, (low[0] + low[1] * middle + high[0] + high[1] * middle) / 2);
    lean -= Math.atan((low[1] + high[1]) / 2);
  }
  return null;
}

/** The largest piece of a sampled structure: its mask, and where it begins and ends at each x. */
function profiles(labels, count, grid) {
  const size = grid.length;
  const volumes = new Array(count + 1).fill(0);
  for (const n of labels) if (n) volumes[n]++;
  const largest = argmax(volumes);
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

/** Where a mask begins and ends along x, in a band of its height, mm. */
function extent({ mask }, grid, share) {
  const size = grid.length;
  const widths = grid.map((_, n) => grid.reduce((total, __, m) => total + mask[m * size + n], 0));
  const most = maximum(widths);
  const rows = [...widths.keys()].filter((n) => widths[n] * STEP > 0.4 * most * STEP);
  const [low, high] = [rows[0], rows.at(-1) - rows[0] + 1];
  const from = Math.trunc(share[0] * high);
  const to = Math.max(from + 1, roundEven(share[1] * high));
  const [starts, ends] = [[], []];
  for (let n = low + from; n < Math.min(size, low + to); n++) {
    const column = grid.map((_, m) => mask[m * size + n]);
    if (!column.includes(1)) continue;
    starts.push(grid[column.indexOf(1)] - STEP / 2);
    ends.push(grid[column.lastIndexOf(1)] + STEP / 2);
  }
  return [median(starts), median(ends)];
}

/** Indices of the places in a band of the depth. */
function band(x, back, front, [low, high]) {
  return [...x.keys()].filter((n) => {
    const share = (x[n] - back) / (front - back);
    return share >= low && share <= high;
  });
}

/** [height at 0, slope] of an endplate through its two rims. */
function line(x, y, back = minimum(x), front = maximum(x)) {
  const [[x0, y0], [x1, y1]] = RIMS.map((rim) => {
    const places = band(x, back, front, rim);
    return [mean(places.map((n) => x[n])), mean(places.map((n) => y[n]))];
  });
  const slope = (y1 - y0) / (x1 - x0);
  return [y0 - slope * x0, slope];
}

/** A point of a structure's own frame as (forward, up) mm in the plane. */
function outward(centre, lean, x, y) {
  const [cos, sin] = [Math.cos(lean), Math.sin(lean)];
  return [centre[0] + x * cos + y * sin, centre[1] - x * sin + y * cos];
}

/** Height in a band of the depth, mm: the mean; at the rims of a body near the highest, as corners are. */
function height(fit, share) {
  const heights = band(fit.x, fit.back, fit.front, share).map((n) => fit.top[n] - fit.bottom[n]);
  return share !== MIDDLE && fit.part.structure.kind === "body" ? percentile(heights, 80) : mean(heights);
}

function sizes(fit, spine) {
  const row = {
    anterior: rounded(height(fit, FRONT)),
    middle: rounded(height(fit, MIDDLE)),
    posterior: rounded(height(fit, BACK)),
    depth: rounded(fit.front - fit.back),
  };
  const canal = canalOf(fit, spine);
  if (canal) row.canal = canal;
  if (fit.part.structure.kind === "disc") return row;
  row.tilt_top = rounded(degrees(fit.lean - Math.atan(fit.high[1])));
  row.tilt_bottom = rounded(degrees(fit.lean - Math.atan(fit.low[1])));
  return row;
}

/** Width of the canal behind a structure, along its own anterior axis at half its height, mm. */
function canalOf(fit, spine) {
  const canal = spine.parts.find((part) => labelsOf("canal").includes(part.structure.label));
  if (!canal) return null;
  const x = arange(fit.back - CANAL, fit.back + 8, STEP);
  const y = arange(-2, 2.01, STEP);
  const seen = spine.sample(canal, fit.part, fit.centre, fit.lean, x, y);
  const widths = y.map((_, n) => x.reduce((total, __, m) => total + seen[m * y.length + n], 0));
  return rounded(median(widths) * STEP);
}

/** The lowest disc or body, the lean of the sacrum's upper endplate under it, and its corner behind; null without. */
function sacralLine(spine, fits) {
  const sacrum = spine.parts.find((part) => part.structure.kind === "sacrum");
  const orders = spine.parts.filter((p) => COLUMN.slice(0, 2).includes(p.structure.kind)).map((p) => p.structure.order);
  const all = [...fits.values()];
  const lowest = all[argmax(all.map((fit) => fit.part.structure.order))];
  if (!sacrum || !lowest || lowest.part.structure.order !== maximum(orders)) return null;
  const deep = minimum(lowest.bottom);
  const y = arange(deep - 20, deep + 8, STEP);
  const x = arange(lowest.back - 8, lowest.front + 4, STEP);
  const bone = spine.sample(sacrum, lowest.part, lowest.centre, lowest.lean, x, y);
  const last = x.map((_, m) => bone.subarray(m * y.length, (m + 1) * y.length).lastIndexOf(1));
  const first = last.map((n) => y[n < 0 ? y.length - 1 : n]);
  const inside = [...x.keys()].filter((m) => last[m] >= 0 && x[m] >= lowest.back && x[m] <= lowest.front);
  const places = inside.map((m) => x[m]);
  if (inside.length < 10 || maximum(places) - minimum(places) < 0.6 * (lowest.front - lowest.back)) return null;
  const [at, slope] = line(places, inside.map((m) => first[m] + STEP / 2));
  const flat = x.map((value, m) => last[m] >= 0 && Math.abs(first[m] - at - slope * value) < 2.5);
  let edge = argmin(x.map((value) => Math.abs(value - (lowest.back + lowest.front) / 2)));
  while (edge > 0 && flat[edge - 1]) edge--;
  const corner = outward(lowest.centre, lowest.lean, x[edge] - STEP / 2, at + slope * x[edge]);
  return { lowest, lean: lowest.lean - Math.atan(slope), corner };
}

/** How far each body stands forward of the one below, between the corners behind, along their bisector, mm. */
function slipsOf(fits, spine, sacral) {
  const bodies = LEVELS.filter((level) => fits.has(level)).map((level) => fits.get(level));
  const slips = new Map();
  const along = ([x, y], lean) => rounded(x * Math.cos(lean) - y * Math.sin(lean));
  const step = (from, to) => [from[0] - to[0], from[1] - to[1]];
  const name = (fit) => fit.part.structure.name;
  const orders = spine.parts.filter((part) => part.structure.kind === "body").map((part) => part.structure.order);
  bodies.slice(1).forEach((lower, n) => {
    const upper = bodies[n];
    const [high, low] = [upper.part.structure.order, lower.part.structure.order];
    if (orders.some((order) => high < order && order < low)) return; // one between is not measured
    const tilt = upper.lean + lower.lean - Math.atan(upper.low[1]) - Math.atan(lower.high[1]);
    slips.set(name(upper), along(step(upper.corners[0], lower.corners[1]), tilt / 2));
  });
  const lowest = bodies.at(-1);
  if (lowest && sacral && sacral.lowest.part.structure.order - lowest.part.structure.order < 10) {
    const tilt = lowest.lean - Math.atan(lowest.low[1]) + sacral.lean;
    slips.set(name(lowest), along(step(lowest.corners[0], sacral.corner), tilt / 2));
  }
  return slips;
}
