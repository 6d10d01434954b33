// Centerline of the vertebral column and curve coordinates of voxels: port of segmentation/centerline.py.

import { bisectLeft, cumsum, greatest, pairs, range, sum, transpose } from "d3-array";
import { CLASSES, CONSTANTS } from "./anatomy.js";
import { gaussianFilter1d } from "./ndimage.js";
import { clamp, cross, interp, percentile, roundEven, unit } from "./numpy.js";
import { forEachVoxel } from "./volume.js";

export const [BODY, DISC, CANAL, SACRUM, ARCH] = ["body", "disc", "canal", "sacrum", "arch"].map((k) => CLASSES.indexOf(k));
export const { MAX_DISTANCE, CORE_RADIUS } = CONSTANTS.centerline;
const { SMOOTHING, MAX_GAP, EXTENSION } = CONSTANTS.centerline;
const DIRECTION_POINTS = 25; // curve points from which the direction of an extension is fitted

export const mask = (classes, kind) => classes.map((c) => (c === kind ? 1 : 0));

/** Return the flat indices of the elements for which `predicate` is true. */
export function indicesWhere(array, predicate) {
  const out = [];
  for (let at = 0; at < array.length; at++) if (predicate(array[at])) out.push(at);
  return Int32Array.from(out);
}

/** A curve. points: [slice, A, S] in mm, from the lowest upward; arcLength: length along the curve at each point, mm. */
export class Centerline {
  constructor(points, arcLength) {
    const lengths = Float32Array.from(arcLength);
    const axes = transpose(points).map((values) => Float32Array.from(values));
    const tangents = transpose(axes.map((values) => gradient(values, lengths))).map(unit);
    const lateral = tangents.map(([x, y, z]) => unit([1 - x * x, -x * y, -x * z]));
    const anterior = tangents.map((tangent, n) => cross(tangent, lateral[n]));
    const byAxis = (vectors) => transpose(vectors).map((values) => Float32Array.from(values));
    Object.assign(this, { points, arcLength, lengths, axes });
    Object.assign(this, { tangents: byAxis(tangents), lateral: byAxis(lateral), anterior: byAxis(anterior) });
  }

  /** Project a point [slice, A, S] in mm by three tangent steps: [along, anterior, lateral] in mm. */
  projectPoint(point, along = this.arcLengthAtHeight(point[2])) {
    const { lengths, axes, tangents, lateral, anterior } = this;
    const last = lengths.length - 1;
    let n = 0;
    let [x, y, z] = point;
    for (let step = 0; step < 4; step++) {
      n = Math.min(bisectLeft(lengths, along), last);
      x = point[0] - axes[0][n];
      y = point[1] - axes[1][n];
      z = point[2] - axes[2][n];
      if (step < 3) along = Math.fround(lengths[n] + (x * tangents[0][n] + y * tangents[1][n] + z * tangents[2][n]));
    }
    const across = [anterior, lateral].map((axis) => x * axis[0][n] + y * axis[1][n] + z * axis[2][n]);
    return [along, ...across];
  }

  /** Return the arc length at a height, both in mm. */
  arcLengthAtHeight(height) {
    return Math.fround(interp(height, this.axes[2], this.lengths));
  }

  /** Return the curve coordinates of voxels in mm. voxels: flat indices into (slices, A, S). */
  curveCoordinates(voxels, [, A, S], spacing) {
    const [along, anterior, lateral, distance] = [0, 1, 2, 3].map(() => new Float32Array(voxels.length));
    const initial = range(S).map((s) => this.arcLengthAtHeight(Math.fround(s * spacing[2])));
    const point = new Float32Array(3);
    voxels.forEach((at, v) => {
      point.set([Math.floor(at / (S * A)) * spacing[0], (Math.floor(at / S) % A) * spacing[1], (at % S) * spacing[2]]);
      [along[v], anterior[v], lateral[v]] = this.projectPoint(point, initial[at % S]);
      distance[v] = Math.hypot(anterior[v], lateral[v]);
    });
    return { along, anterior, lateral, distance };
  }

  /** Return the arc length, mm, of a position in voxel coordinates. */
  arcLengthOf(position, spacing) {
    return Math.fround(this.projectPoint(Float32Array.from(position, (value, axis) => value * spacing[axis]))[0]);
  }
}

/** numpy.gradient for unevenly spaced samples. */
function gradient(values, at) {
  const last = values.length - 1;
  return Float32Array.from(values, (value, i) => {
    if (i === 0) return (values[1] - value) / (at[1] - at[0]);
    if (i === last) return (value - values[last - 1]) / (at[last] - at[last - 1]);
    const [before, after] = [at[i] - at[i - 1], at[i + 1] - at[i]];
    const a = -after / (before * (before + after));
    const b = (after - before) / (before * after);
    const c = before / (after * (before + after));
    return a * values[i - 1] + b * value + c * values[i + 1];
  });
}

/** Fit the centerline through the bodies and discs of a class map; null when it contains no column. */
export function fitCenterline(classes, shape, spacing) {
  const mask = classes.map((value) => (value === BODY || value === DISC ? 1 : 0));
  let curve = null;
  for (let pass = 0; pass < 2; pass++) {
    curve = rowCenters(mask, shape, spacing);
    if (!curve) return null;
    const lowest = Math.trunc(curve[0][2]);
    const anteriors = range(shape[2]).map((s) => curve[clamp(s - lowest, 0, curve.length - 1)][1]);
    forEachVoxel(shape, (at, _, a, s) => {
      if (Math.abs(a * spacing[1] - anteriors[s]) > MAX_DISTANCE) mask[at] = 0;
    });
  }
  return extendCenterline(curve);
}

/** Extend a curve straight at both ends. */
export function extendCenterline(curve) {
  const direction = (points) => [0, 1, 2].map((axis) => slope(points.map((p) => p[axis])));
  const [low, high] = [direction(curve.slice(0, DIRECTION_POINTS)), direction(curve.slice(-DIRECTION_POINTS))];
  const before = range(EXTENSION, 0, -1).map((n) => curve[0].map((value, axis) => value - low[axis] * n));
  const after = range(1, EXTENSION + 1).map((n) => curve.at(-1).map((value, axis) => value + high[axis] * n));
  const points = [...before, ...curve, ...after];
  const steps = pairs(points, (point, next) => Math.hypot(...next.map((value, axis) => value - point[axis])));
  return new Centerline(points, [0, ...cumsum(steps)]);
}

/** Return the least-squares slope of values at 0, 1, 2, ... */
function slope(values) {
  const centre = (values.length - 1) / 2;
  return sum(values, (value, n) => (n - centre) * value) / sum(values, (_, n) => (n - centre) ** 2);
}

/** Return one point per row of height, gaps interpolated and smoothed; null when the column is too short. */
function rowCenters(mask, shape, spacing) {
  const [counts, slices, anteriors] = [0, 1, 2].map(() => new Float64Array(shape[2]));
  forEachVoxel(shape, (at, i, a, s) => {
    if (!mask[at]) return;
    counts[s]++;
    slices[s] += i;
    anteriors[s] += a;
  });
  const nonEmpty = counts.filter((c) => c > 0);
  if (!nonEmpty.length) return null;
  const minCount = 0.15 * percentile(nonEmpty, 80);
  const filled = Array.from(indicesWhere(counts, (count) => count > minCount));
  const rows = largestRun(filled, (row) => row, 2 * roundEven(MAX_GAP / 2 / spacing[2]) + 1, () => 1);
  if (rows.length * spacing[2] < 25) return null;
  const centers = [slices, anteriors].map((sums, axis) => rows.map((s) => (sums[s] / counts[s]) * spacing[axis]));
  const heights = Array.from({ length: rows.at(-1) - rows[0] + 1 }, (_, n) => rows[0] + n);
  const smooth = centers.map((values) =>
    gaussianFilter1d(heights.map((s) => interp(s, rows, values)), SMOOTHING / spacing[2], "nearest"),
  );
  return heights.map((s, n) => [smooth[0][n], smooth[1][n], s * spacing[2]]);
}

/** Divide sorted items where their positions are more than `maxGap` apart; returns the part with the largest total size. */
export function largestRun(items, getPosition, maxGap, sizeOf) {
  const runs = [[items[0]]];
  for (const [before, item] of pairs(items)) {
    if (getPosition(item) - getPosition(before) > maxGap) runs.push([]);
    runs.at(-1).push(item);
  }
  return greatest(runs, (run) => sum(run, sizeOf));
}
