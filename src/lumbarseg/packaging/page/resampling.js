// Resampling onto another grid: exact reorientation, and a matrix along each axis: port of resampling.py.

import { sum } from "d3-array";
import { clamp } from "./numpy.js";
import { axesOf, DIRECTION_LETTERS, forEachVoxel, voxelCount } from "./volume.js";

/** Return a view of a volume with axes in another order and direction, for example "RAS". */
export function reorient(volume, axisCodes) {
  const current = axesOf(volume.affine);
  const pairOf = (letter) => DIRECTION_LETTERS.findIndex((pair) => pair.includes(letter));
  const order = [...axisCodes].map((letter) => [...current].findIndex((other) => pairOf(other) === pairOf(letter)));
  const flips = order.map((source, target) => current[source] !== axisCodes[target]);
  const shape = order.map((source) => volume.shape[source]);
  const strides = order.map((source, target) => (flips[target] ? -1 : 1) * volume.strides[source]);
  const reach = order.map((source, target) => (flips[target] ? volume.shape[source] - 1 : 0)); // to the new first voxel
  const offset = volume.offset + sum(order.map((source, target) => reach[target] * volume.strides[source]));
  const affine = volume.affine.map((row) => [
    ...order.map((source, target) => (flips[target] ? -row[source] : row[source])),
    row[3] + sum(order.map((source, target) => reach[target] * row[source])),
  ]);
  return { array: volume.array, shape, strides, offset, affine };
}

/** Return the voxels of a volume in C order. */
export function toContiguous(volume) {
  const { array, shape, strides, offset } = volume;
  const out = new array.constructor(voxelCount(shape));
  forEachVoxel(shape, (at, i, j, k) => {
    out[at] = array[offset + i * strides[0] + j * strides[1] + k * strides[2]];
  });
  return out;
}

/** Build a matrix from its rows, each normalised to a sum of 1: the weights of each row and their first column. */
export function matrix(rows, columns, row) {
  return Array.from({ length: rows }, (_, r) => {
    const values = row(r);
    const total = sum(values);
    const first = Math.max(0, values.findIndex(Boolean));
    const weights = Float32Array.from(values.slice(first, values.findLastIndex(Boolean) + 1), (value) => value / total);
    return { first, weights, columns };
  });
}

/** Return the matrix (target, source) that samples at start + step t with a triangle filter of `width`. */
export function interpolationMatrix(source, target, step, start, width = 1) {
  const reach = Math.max(1, width);
  return matrix(target, source, (t) => {
    const centre = clamp(start + step * t, 0, source - 1);
    return Float64Array.from({ length: source }, (_, s) => Math.max(0, 1 - Math.abs(s - centre) / reach));
  });
}

/** Multiply an array (I, J, K) by one matrix per axis (null: unchanged); returns {array, shape}. */
export function applyMatrices(array, shape, matrices) {
  return matrices.reduce((out, m, axis) => (m ? applyAlongAxis(out, m, axis) : out), { array, shape });
}

/** Apply a matrix along an axis, as weighted sums of rows; along the last axis, which has no rows, as dot products. */
function applyAlongAxis({ array, shape }, m, axis) {
  const [outer, inner] = [shape.slice(0, axis), shape.slice(axis + 1)].map((sizes) => sizes.reduce((a, b) => a * b, 1));
  const out = new Float32Array(outer * m.length * inner);
  for (let o = 0, to = 0; o < outer; o++) {
    for (const { first, weights, columns } of m) {
      const from = (o * columns + first) * inner;
      if (inner === 1) out[to] = dotProduct(weights, array, from);
      else for (let n = 0; n < weights.length; n += 4) addFourRows(out, to, array, from, inner, weights, n);
      to += inner;
    }
  }
  return { array: out, shape: shape.map((size, n) => (n === axis ? m.length : size)) };
}

/** Return a dot product, in four sums that do not wait for each other. */
function dotProduct(weights, array, from) {
  let [a, b, c, d] = [0.5, 0.5, 0.5, 0.5]; // fractions, so that the compiler chooses floating point
  let n = weights.length % 4;
  for (let m = 0; m < n; m++) a += weights[m] * array[from + m];
  for (; n < weights.length; n += 4) {
    a += weights[n] * array[from + n];
    b += weights[n + 1] * array[from + n + 1];
    c += weights[n + 2] * array[from + n + 2];
    d += weights[n + 3] * array[from + n + 3];
  }
  return a + b + c + d - 2;
}

/** Add four weighted rows, of which those beyond the last have weight 0. */
function addFourRows(out, to, array, from, count, weights, n) {
  const [w0, w1, w2, w3] = [0, 1, 2, 3].map((k) => weights[n + k] ?? 0);
  const [a, b, c, d] = [0, 1, 2, 3].map((k) => from + Math.min(n + k, weights.length - 1) * count);
  for (let i = 0; i < count; i++) {
    out[to + i] += w0 * array[a + i] + w1 * array[b + i] + w2 * array[c + i] + w3 * array[d + i];
  }
}
