// Centerline of the vertebral column and curve coordinates of voxels: port of segmentation/centerline.py.

import { bisectLeft, maxIndex, range } from "d3-array";
import { CLASSES, CONSTANTS } from "./anatomy.js";
import { gaussianFilter1d, label } from "./ndimage.js";
import { clamp, cross, interp, percentile, roundEven, unit } from "./numpy.js";
import { forEachVoxel } from "./volume.js";

export const [BODY, DISC, CANAL, SACRUM, ARCH] = ["body", "disc", "canal", "sacrum", "arch"].map((k) => CLASSES.indexOf(k));
export const { MAX_DISTANCE, CORE_RADIUS } = CONSTANTS.centerline;
const { SMOOTHING, MAX_GAP, EXTENSION } = CONSTANTS.centerline;
const DIRECTION_POINTS = 25; // curve points from which the direction of an extension is fitted

/** Return the flat indices of the elements for which `predicate` is true. */
export function indicesWhere(array, predicate) {
  const out = [];
  for (let at = 0; at < array.length; at++) if (predicate(array[at])) out.push(at);
  return Int32Array.from(out);
}

/** A curve. points: [slice, A, S] in mm, from the lowest upward; arcLength: length along the curve at each point, mm. */
export class Centerline {
  constructor(points, arcLength) {
    this.points = points.map((p) => Float64Array.from(p));
    this.arcLength = Float64Array.from(arcLength);
    this.computeFrames();
  }

  computeFrames() {
    const n = this.points.length;
    const at = Float32Array.from(this.arcLength);
    const flat = (axis) => Float32Array.from(this.points, (p) => p[axis]);
    const points = [0, 1, 2].map(flat);
    const tangents = points.map((values) => gradient(values, at));
    const [lateral, anterior] = [0, 1].map(() => [0, 1, 2].map(() => new Float32Array(n)));
    for (let i = 0; i < n; i++) {
      const t = unit(tangents.map((axis) => axis[i]));
      const s = unit([1 - t[0] * t[0], -t[0] * t[1], -t[0] * t[2]]);
      const f = cross(t, s);
      for (const axis of [0, 1, 2]) {
        tangents[axis][i] = t[axis];
        lateral[axis][i] = s[axis];
        anterior[axis][i] = f[axis];
      }
    }
    Object.assign(this, { lengths: at, axes: points, tangents, lateral, anterior });
  }

  /** Project a point [slice, A, S] in mm by three tangent steps; out: [along, anterior, lateral] in mm. */
  projectPoint(point, along, out) {
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
    out[0] = along;
    out[1] = x * anterior[0][n] + y * anterior[1][n] + z * anterior[2][n];
    out[2] = x * lateral[0][n] + y * lateral[1][n] + z * lateral[2][n];
  }

  /** Return the arc length at a height, both in mm. */
  arcLengthAtHeight(height) {
    return Math.fround(interp(height, this.axes[2], this.lengths));
  }

  /** Return the curve coordinates of voxels in mm. voxels: flat indices into (slices, A, S). */
  curveCoordinates(voxels, shape, spacing) {
    const [, A, S] = shape;
    const m = voxels.length;
    const [along, anterior, lateral, distance] = [0, 1, 2, 3].map(() => new Float32Array(m));
    const initial = Float32Array.from({ length: S }, (_, s) => this.arcLengthAtHeight(Math.fround(s * spacing[2])));
    const [point, projected] = [new Float32Array(3), new Float32Array(3)];
    for (let v = 0; v < m; v++) {
      const s = voxels[v] % S;
      point[0] = Math.floor(voxels[v] / (S * A)) * spacing[0];
      point[1] = (Math.floor(voxels[v] / S) % A) * spacing[1];
      point[2] = s * spacing[2];
      this.projectPoint(point, initial[s], projected);
      along[v] = projected[0];
      anterior[v] = projected[1];
      lateral[v] = projected[2];
      distance[v] = Math.hypot(projected[1], projected[2]);
    }
    return { along, anterior, lateral, distance };
  }

  /** Return the arc length, mm, of a position in voxel coordinates. */
  arcLengthOf(position, spacing) {
    const point = Float32Array.from(position, (value, axis) => value * spacing[axis]);
    const projected = new Float32Array(3);
    this.projectPoint(point, this.arcLengthAtHeight(point[2]), projected);
    return projected[0];
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
  const points = [];
  for (let n = EXTENSION; n >= 1; n--) points.push(curve[0].map((value, axis) => value - low[axis] * n));
  points.push(...curve);
  for (let n = 1; n <= EXTENSION; n++) points.push(curve.at(-1).map((value, axis) => value + high[axis] * n));
  const at = [0];
  for (let n = 1; n < points.length; n++) {
    at.push(at[n - 1] + Math.hypot(...points[n].map((value, axis) => value - points[n - 1][axis])));
  }
  return new Centerline(points, at);
}

/** Return the least-squares slope of values at 0, 1, 2, ... */
function slope(values) {
  const centre = (values.length - 1) / 2;
  let [numerator, denominator] = [0, 0];
  values.forEach((value, n) => {
    numerator += (n - centre) * value;
    denominator += (n - centre) ** 2;
  });
  return numerator / denominator;
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
  const filled = Uint8Array.from(counts, (c) => (c > minCount ? 1 : 0));
  const rows = longestRun(filled, roundEven(MAX_GAP / 2 / spacing[2]));
  if (rows.length * spacing[2] < 25) return null;
  const centers = [slices, anteriors].map((sums, axis) => rows.map((s) => (sums[s] / counts[s]) * spacing[axis]));
  const heights = Array.from({ length: rows.at(-1) - rows[0] + 1 }, (_, n) => rows[0] + n);
  const smooth = centers.map((values) =>
    gaussianFilter1d(heights.map((s) => interp(s, rows, values)), SMOOTHING / spacing[2], "nearest"),
  );
  return heights.map((s, n) => [smooth[0][n], smooth[1][n], s * spacing[2]]);
}

/** Return the filled rows of the longest run; gaps of up to twice `reach` rows do not end a run. */
function longestRun(filled, reach) {
  const size = filled.length;
  const grown = Uint8Array.from(filled, (_, s) => {
    for (let n = Math.max(0, s - reach); n <= Math.min(size - 1, s + reach); n++) if (filled[n]) return 1;
    return 0;
  });
  const { labels, count } = label(grown, [1, 1, size]);
  const sizes = new Array(count).fill(0);
  filled.forEach((full, s) => full && sizes[labels[s] - 1]++);
  const best = maxIndex(sizes) + 1;
  return Array.from(filled.keys()).filter((s) => filled[s] && labels[s] === best);
}
