// The column as a curve, where a voxel lies along it and about it: segment/column.py in JavaScript.

import { CLASSES, CONSTANTS } from "./anatomy.js";
import { gaussianFilter1d, label } from "./ndimage.js";
import { argmax, clamp, interp, percentile, roundEven, searchsorted } from "./numpy.js";

export const [BODY, DISC, CANAL, SACRUM, ARCH] = ["body", "disc", "canal", "sacrum", "arch"].map((k) => CLASSES.indexOf(k));
export const { MAX_DISTANCE: REACH, CORE_RADIUS: CORE } = CONSTANTS.centerline;
const { SMOOTHING: SMOOTH, MAX_GAP: GAP } = CONSTANTS.centerline;
const ENDS = 80; // mm that the curve goes on at both ends
const LAST = 25; // places from which its direction there is taken

/** Flat places of the voxels for which `holds` is true, in C order. */
export function where(array, holds) {
  const out = [];
  for (let at = 0; at < array.length; at++) if (holds(array[at])) out.push(at);
  return Int32Array.from(out);
}

/** The curve: points [slice, A, S] mm, one per mm of height from the lowest upward; at: length along it, mm. */
export class Column {
  constructor(points, at) {
    this.points = points.map((p) => Float64Array.from(p));
    this.at = Float64Array.from(at);
    this.frames();
  }

  /** Place on the curve at a length along it, mm. */
  point(along) {
    return [0, 1, 2].map((axis) => interp(along, this.at, this.points.map((p) => p[axis])));
  }

  frames() {
    const n = this.points.length;
    const at = Float32Array.from(this.at);
    const flat = (axis) => Float32Array.from(this.points, (p) => p[axis]);
    const points = [0, 1, 2].map(flat);
    const tangents = points.map((values) => gradient(values, at));
    const [side, front] = [0, 1].map(() => [0, 1, 2].map(() => new Float32Array(n)));
    for (let i = 0; i < n; i++) {
      const t = unit(tangents.map((axis) => axis[i]));
      const s = unit([1 - t[0] * t[0], -t[0] * t[1], -t[0] * t[2]]);
      const f = [t[1] * s[2] - t[2] * s[1], t[2] * s[0] - t[0] * s[2], t[0] * s[1] - t[1] * s[0]];
      for (const axis of [0, 1, 2]) {
        tangents[axis][i] = t[axis];
        side[axis][i] = s[axis];
        front[axis][i] = f[axis];
      }
    }
    Object.assign(this, { lengths: at, lines: points, tangents, side, front });
  }

  /** The foot of a place [x, y, z] in mm on the curve: the tangent is followed three times. out: along, front, side. */
  foot(here, along, out) {
    const { lengths, lines, tangents, side, front } = this;
    const last = lengths.length - 1;
    let n = 0;
    let [x, y, z] = here;
    for (let step = 0; step < 4; step++) {
      n = Math.min(searchsorted(lengths, along), last);
      x = here[0] - lines[0][n];
      y = here[1] - lines[1][n];
      z = here[2] - lines[2][n];
      if (step < 3) along = Math.fround(lengths[n] + (x * tangents[0][n] + y * tangents[1][n] + z * tangents[2][n]));
    }
    out[0] = along;
    out[1] = x * front[0][n] + y * front[1][n] + z * front[2][n];
    out[2] = x * side[0][n] + y * side[1][n] + z * side[2][n];
  }

  /** Length along the curve at a height, mm. */
  start(height) {
    return Math.fround(interp(height, this.lines[2], this.lengths));
  }

  /** Where voxels, flat places in (slices, A, S), lie about the curve: along, front, side, away, each in mm. */
  place(voxels, shape, spacing) {
    const [, A, S] = shape;
    const m = voxels.length;
    const out = { along: new Float32Array(m), front: new Float32Array(m), side: new Float32Array(m), away: new Float32Array(m) };
    const starts = Float32Array.from({ length: S }, (_, s) => this.start(Math.fround(s * spacing[2])));
    const [here, found] = [new Float32Array(3), new Float32Array(3)];
    for (let v = 0; v < m; v++) {
      const s = voxels[v] % S;
      here[0] = Math.floor(voxels[v] / (S * A)) * spacing[0];
      here[1] = (Math.floor(voxels[v] / S) % A) * spacing[1];
      here[2] = s * spacing[2];
      this.foot(here, starts[s], found);
      out.along[v] = found[0];
      out.front[v] = found[1];
      out.side[v] = found[2];
      out.away[v] = Math.hypot(found[1], found[2]);
    }
    return out;
  }

  /** Length along the curve of one place between voxels. */
  along(place, spacing) {
    const here = Float32Array.from(place, (value, axis) => value * spacing[axis]);
    const found = new Float32Array(3);
    this.foot(here, this.start(here[2]), found);
    return found[0];
  }
}

function unit(v) {
  const length = Math.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2);
  return v.map((x) => x / length);
}

/** numpy.gradient over places that are not even. */
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

/** The curve through the bodies and discs of a class map; null when there is no column. */
export function trace(classes, shape, spacing) {
  const mask = classes.map((value) => (value === BODY || value === DISC ? 1 : 0));
  const [I, A, S] = shape;
  let curve = null;
  for (let turn = 0; turn < 2; turn++) {
    curve = middle(mask, shape, spacing);
    if (!curve) return null;
    const lowest = Math.trunc(curve[0][2]);
    for (let s = 0; s < S; s++) {
      const here = curve[clamp(s - lowest, 0, curve.length - 1)][1];
      for (let a = 0; a < A; a++) {
        if (!(Math.abs(a * spacing[1] - here) > REACH)) continue;
        for (let i = 0; i < I; i++) mask[(i * A + a) * S + s] = 0;
      }
    }
  }
  return extended(curve);
}

/** A curve going on straight at both ends. */
export function extended(curve) {
  const low = [0, 1, 2].map((axis) => slope(curve.slice(0, LAST).map((p) => p[axis])));
  const high = [0, 1, 2].map((axis) => slope(curve.slice(-LAST).map((p) => p[axis])));
  const points = [];
  for (let n = ENDS; n >= 1; n--) points.push(curve[0].map((value, axis) => value - low[axis] * n));
  points.push(...curve);
  for (let n = 1; n <= ENDS; n++) points.push(curve.at(-1).map((value, axis) => value + high[axis] * n));
  const at = [0];
  for (let n = 1; n < points.length; n++) {
    at.push(at[n - 1] + Math.sqrt([0, 1, 2].reduce((t, axis) => t + (points[n][axis] - points[n - 1][axis]) ** 2, 0)));
  }
  return new Column(points, at);
}

/** Slope of the line through numbers at 0, 1, 2, ... by least squares. */
function slope(values) {
  const centre = (values.length - 1) / 2;
  let [up, down] = [0, 0];
  values.forEach((value, n) => {
    up += (n - centre) * value;
    down += (n - centre) ** 2;
  });
  return up / down;
}

/** One place per row of height that holds the column, gaps closed; null when it is too short. */
function middle(mask, [I, A, S], spacing) {
  const [counts, slices, fronts] = [0, 1, 2].map(() => new Float64Array(S));
  for (let i = 0, at = 0; i < I; i++) {
    for (let a = 0; a < A; a++) {
      for (let s = 0; s < S; s++, at++) {
        if (!mask[at]) continue;
        counts[s]++;
        slices[s] += i;
        fronts[s] += a;
      }
    }
  }
  const some = counts.filter((c) => c > 0);
  if (!some.length) return null;
  const least = 0.15 * percentile(some, 80);
  const filled = Uint8Array.from(counts, (c) => (c > least ? 1 : 0));
  const rows = longest(filled, roundEven(GAP / 2 / spacing[2]));
  if (rows.length * spacing[2] < 25) return null;
  const known = [slices, fronts].map((sums, axis) => rows.map((s) => (sums[s] / counts[s]) * spacing[axis]));
  const every = Array.from({ length: rows.at(-1) - rows[0] + 1 }, (_, n) => rows[0] + n);
  const smooth = known.map((values) =>
    gaussianFilter1d(every.map((s) => interp(s, rows, values)), SMOOTH / spacing[2], "nearest"),
  );
  return every.map((s, n) => [smooth[0][n], smooth[1][n], s * spacing[2]]);
}

/** Of the filled rows those of the longest run, in which gaps of up to twice `reach` do not count. */
function longest(filled, reach) {
  const size = filled.length;
  const grown = Uint8Array.from(filled, (_, s) => {
    for (let n = Math.max(0, s - reach); n <= Math.min(size - 1, s + reach); n++) if (filled[n]) return 1;
    return 0;
  });
  const { labels, count } = label(grown, [1, 1, size]);
  const sizes = new Array(count).fill(0);
  filled.forEach((full, s) => full && sizes[labels[s] - 1]++);
  const best = argmax(sizes) + 1;
  return Array.from(filled.keys()).filter((s) => filled[s] && labels[s] === best);
}
