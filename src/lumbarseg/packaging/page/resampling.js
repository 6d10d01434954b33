// Resampling onto another grid: exact reorientation, and a matrix along each axis: port of resampling.py.

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
  let offset = volume.offset;
  const affine = volume.affine.map((row) => [0, 0, 0, row[3]]);
  order.forEach((source, target) => {
    if (flips[target]) offset += (volume.shape[source] - 1) * volume.strides[source];
    for (const r of [0, 1, 2]) {
      const step = volume.affine[r][source];
      affine[r][target] = flips[target] ? -step : step;
      if (flips[target]) affine[r][3] += step * (volume.shape[source] - 1);
    }
  });
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

/** Build a matrix from its rows, each normalised to a sum of 1; only the range of non-zero columns is used. */
export function matrix(rows, columns, row) {
  const data = new Float32Array(rows * columns);
  const first = new Int32Array(rows);
  const last = new Int32Array(rows);
  for (let r = 0; r < rows; r++) {
    const values = row(r);
    let total = 0;
    for (const value of values) total += value;
    for (let c = 0; c < columns; c++) data[r * columns + c] = values[c] / total;
    while (first[r] < columns - 1 && data[r * columns + first[r]] === 0) first[r]++;
    last[r] = columns;
    while (last[r] > first[r] + 1 && data[r * columns + last[r] - 1] === 0) last[r]--;
  }
  return { rows, columns, data, first, last };
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
  const { rows, columns, data, first, last } = m;
  const outer = shape.slice(0, axis).reduce((a, b) => a * b, 1);
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const out = new Float32Array(outer * rows * inner);
  for (let o = 0; o < outer; o++) {
    for (let t = 0; t < rows; t++) {
      const to = (o * rows + t) * inner;
      const from = o * columns * inner;
      if (inner === 1) out[to] = dotProduct(data, t * columns, array, from, first[t], last[t]);
      else for (let c = first[t]; c < last[t]; c++) addRow(out, to, array, from + c * inner, inner, data[t * columns + c]);
    }
  }
  return { array: out, shape: shape.map((size, n) => (n === axis ? rows : size)) };
}

function dotProduct(data, row, array, from, first, last) {
  let total = 0.5; // a fraction, so that the compiler chooses floating point
  for (let c = first; c < last; c++) total += data[row + c] * array[from + c];
  return total - 0.5;
}

function addRow(out, to, array, from, count, weight) {
  for (let n = 0; n < count; n++) out[to + n] += weight * array[from + n];
}
