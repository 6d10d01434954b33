// A labelled spine taken apart for measuring: the part of measure.py that knows voxels, in JavaScript.

import { CONSTANTS, labelsOf, STRUCTURES } from "./anatomy.js";
import { clamp, maximum, mean, roundEven } from "./numpy.js";
import { packed, reorient } from "./resample.js";
import { spacingOf } from "./volume.js";

const { SLAB, MARGIN, CUT } = CONSTANTS.measurement;
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const scaled = (a, factor) => a.map((value) => value * factor);
const unit = (a) => scaled(a, 1 / Math.hypot(...a));
const dot = (a, b) => a.reduce((total, value, n) => total + value * b[n], 0);

/** Where each label lies, [[start, stop] of each axis], undefined where it does not, and how many voxels, by label. */
function boxesOf(array, [I, J, K]) {
  const boxes = [];
  for (let i = 0, at = 0; i < I; i++) {
    for (let j = 0; j < J; j++) {
      for (let k = 0; k < K; k++, at++) {
        const label = array[at];
        if (!label) continue;
        const box = (boxes[label] ??= [[i, i + 1], [j, j + 1], [k, k + 1]]);
        box[0][1] = i + 1;
        if (j < box[1][0]) box[1][0] = j;
        if (j >= box[1][1]) box[1][1] = j + 1;
        if (k < box[2][0]) box[2][0] = k;
        if (k >= box[2][1]) box[2][1] = k + 1;
      }
    }
  }
  return boxes;
}

/** The same voxels with an affine under which the head is up and the canal behind, as a wrong header may deny. */
function anatomical(volume) {
  const steps = volume.shape.map((n) => Math.max(1, Math.floor(n / 64)));
  const sparse = {
    ...volume,
    shape: volume.shape.map((n, axis) => Math.ceil(n / steps[axis])),
    strides: volume.strides.map((stride, axis) => stride * steps[axis]),
    affine: volume.affine.map((row) => row.map((value, c) => value * (steps[c] ?? 1))),
  };
  const view = reorient(sparse, "RAS");
  const coarse = packed(view);
  const [I, J, K] = view.shape;
  const canal = labelsOf("canal");
  const boxes = boxesOf(coarse, view.shape);
  const [orders, heights] = [[], []];
  let behind = 0;
  for (const s of STRUCTURES) {
    const box = boxes[s.label];
    if (!box || !["body", "disc"].includes(s.kind)) continue;
    orders.push(s.order);
    heights.push(box[2][0] + box[2][1]);
    const beside = [];
    for (let row = 0; row < I * J; row++) {
      for (let k = box[2][0]; k < box[2][1]; k++) if (canal.includes(coarse[row * K + k])) beside.push(row % J);
    }
    if (beside.length) behind += (box[1][0] + box[1][1] - 1) / 2 - mean(beside);
  }
  const [order, height] = orders.length ? [mean(orders), mean(heights)] : [0, 0];
  const headDown = orders.reduce((total, value, n) => total + (value - order) * (heights[n] - height), 0) > 0;
  const flips = [1, behind < 0 ? -1 : 1, headDown ? -1 : 1, 1];
  return { ...volume, affine: volume.affine.map((row, r) => scaled(row, flips[r])) };
}

/** Labels in RAS order with their places; matrix (2, 3): voxel indices to (forward, up) mm, base: its offset. */
export class Spine {
  constructor(volume) {
    const canonical = reorient(anatomical(volume), "RAS");
    this.array = packed(canonical);
    this.shape = canonical.shape;
    this.spacing = spacingOf(canonical.affine);
    const steps = [0, 1, 2].map((c) => [0, 1, 2].map((r) => canonical.affine[r][c]));
    const normal = unit(cross(steps[1], steps[2]));
    const up = unit([0, 1, 2].map((r) => (r === 2 ? 1 : 0) - normal[r] * normal[2]));
    const ahead = cross(up, normal);
    const axes = [scaled(ahead, Math.sign(ahead[1])), up];
    this.matrix = axes.map((axis) => steps.map((step) => dot(axis, step)));
    this.base = axes.map((axis) => dot(axis, [0, 1, 2].map((r) => canonical.affine[r][3])));
    const boxes = boxesOf(this.array, this.shape);
    this.parts = STRUCTURES.filter((s) => boxes[s.label]).map((s) => this.part(s, boxes[s.label]));
  }

  /** A structure: its box, its number of voxels, its middle slice and its centre (forward, up) mm. */
  part(structure, box) {
    const [, J, K] = this.shape;
    const sums = [0, 0, 0];
    let count = 0;
    for (let i = box[0][0]; i < box[0][1]; i++) {
      for (let j = box[1][0]; j < box[1][1]; j++) {
        for (let k = box[2][0]; k < box[2][1]; k++) {
          if (this.array[(i * J + j) * K + k] !== structure.label) continue;
          sums[0] += i;
          sums[1] += j;
          sums[2] += k;
          count++;
        }
      }
    }
    const centre = sums.map((total) => total / count);
    return { structure, box, count, middle: centre[0], centre: this.matrix.map((row, r) => dot(row, centre) + this.base[r]) };
  }

  /** The slices that make the plane of a structure, [start, stop]. */
  slices(part) {
    const reach = Math.max(0, Math.trunc(SLAB / this.spacing[0]));
    const middle = clamp(roundEven(part.middle), part.box[0][0], part.box[0][1] - 1);
    return [Math.max(0, middle - reach), Math.min(this.shape[0], middle + reach + 1)];
  }

  /** Whether a structure ends well before the border of the exam, in its plane. */
  complete(part) {
    const [, J, K] = this.shape;
    const widths = [new Float64Array(J), new Float64Array(K)];
    const [first, last] = this.slices(part);
    for (let i = first; i < last; i++) {
      for (let j = part.box[1][0]; j < part.box[1][1]; j++) {
        for (let k = part.box[2][0]; k < part.box[2][1]; k++) {
          if (this.array[(i * J + j) * K + k] !== part.structure.label) continue;
          widths[0][j]++;
          widths[1][k]++;
        }
      }
    }
    return widths.every((width, n) => {
      const edge = 1 + Math.trunc(MARGIN / this.spacing[n + 1]);
      const outer = Math.max(maximum(width.slice(0, edge)), maximum(width.slice(-edge)));
      return outer < CUT * Math.max(maximum(width), 1);
    });
  }

  /** Where `part` is in the plane of `at`: (x, y) flat, in a frame about `centre` that leans forward by `lean`. */
  sample(part, at, centre, lean, x, y) {
    const mask = this.plane(part, at);
    const [[, a, b], [, c, d]] = this.matrix;
    const det = a * d - b * c;
    const [cos, sin] = [Math.cos(lean), Math.sin(lean)];
    const inverse = (v) => [(d * v[0] - b * v[1]) / det, (a * v[1] - c * v[0]) / det];
    const middle = roundEven(at.middle);
    const origin = inverse(centre.map((value, r) => value - this.base[r] - this.matrix[r][0] * middle));
    const start = [origin[0] - mask.low[0], origin[1] - mask.low[1]];
    const [alongX, alongY] = [inverse([cos, -sin]), inverse([sin, cos])];
    const out = new Uint8Array(x.length * y.length);
    for (let m = 0, to = 0; m < x.length; m++) {
      for (let n = 0; n < y.length; n++, to++) {
        const row = start[0] + alongX[0] * x[m] + alongY[0] * y[n];
        const column = start[1] + alongX[1] * x[m] + alongY[1] * y[n];
        out[to] = between(mask, row, column) >= 0.5 ? 1 : 0;
      }
    }
    return out;
  }

  /** The share of a structure's plane in which it lies, with a border of nothing: {data, rows, columns, low}. */
  plane(part, at) {
    const [, J, K] = this.shape;
    const [first, last] = this.slices(at);
    const [[j0, j1], [k0, k1]] = part.box.slice(1);
    const [rows, columns] = [j1 - j0 + 2, k1 - k0 + 2];
    const data = new Float32Array(rows * columns);
    for (let j = j0; j < j1; j++) {
      for (let k = k0; k < k1; k++) {
        let count = 0;
        for (let i = first; i < last; i++) if (this.array[(i * J + j) * K + k] === part.structure.label) count++;
        data[(j - j0 + 1) * columns + k - k0 + 1] = count / (last - first);
      }
    }
    return { data, rows, columns, low: [j0 - 1, k0 - 1] };
  }
}

/** A plane between its pixels, 0 outside. */
function between({ data, rows, columns }, row, column) {
  if (row < 0 || column < 0 || row > rows - 1 || column > columns - 1) return 0;
  const [r, c] = [Math.min(Math.floor(row), rows - 2), Math.min(Math.floor(column), columns - 2)];
  const [u, v] = [row - r, column - c];
  const at = r * columns + c;
  const upper = data[at] * (1 - v) + data[at + 1] * v;
  return Math.fround(upper * (1 - u) + (data[at + columns] * (1 - v) + data[at + columns + 1] * v) * u);
}
