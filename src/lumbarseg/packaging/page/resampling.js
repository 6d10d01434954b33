// Resampling onto another grid: exact reorientation, and a matrix along each axis: port of resampling.py.

import { clamp } from "./numpy.js";
import { axesOf, DIRECTION_LETTERS, voxelCount } from "./volume.js";

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
  for (let i = 0, at = 0; i < shape[0]; i++) {
    for (let j = 0; j < shape[1]; j++) {
      let from = offset + i * strides[0] + j * strides[1];
      for (let k = 0; k < shape[2]; k++, at++, from += strides[2]) out[at] = array[from];
    }
  }
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
  let out = { array, shape };
  matrices.forEach((m, axis) => {
    if (m) out = axis === 2 ? applyAlongLastAxis(out, m) : applyToRows(out, m, axis);
  });
  return out;
}

/** Apply a matrix along the first or second axis, as weighted sums of rows. */
function applyToRows({ array, shape }, m, axis) {
  const inner = axis === 0 ? shape[1] * shape[2] : shape[2];
  const outer = axis === 0 ? 1 : shape[0];
  const out = new Float32Array(outer * m.rows * inner);
  const row = new Float64Array(inner);
  for (let o = 0; o < outer; o++) {
    for (let t = 0; t < m.rows; t++) {
      row.fill(0);
      let c = m.first[t];
      for (; c + 3 < m.last[t]; c += 4) {
        addFourRows(row, array, (o * m.columns + c) * inner, inner, m.data, t * m.columns + c);
      }
      for (; c < m.last[t]; c++) addRow(row, array, (o * m.columns + c) * inner, inner, m.data[t * m.columns + c]);
      out.set(row, (o * m.rows + t) * inner);
    }
  }
  return { array: out, shape: axis === 0 ? [m.rows, shape[1], shape[2]] : [shape[0], m.rows, shape[2]] };
}

function addRow(row, array, from, inner, weight) {
  for (let n = 0; n < inner; n++) row[n] += weight * array[from + n];
}

function addFourRows(row, array, from, inner, data, at) {
  const [w0, w1, w2, w3] = [data[at], data[at + 1], data[at + 2], data[at + 3]];
  const [b, c, d] = [from + inner, from + 2 * inner, from + 3 * inner];
  for (let n = 0; n < inner; n++) {
    row[n] += w0 * array[from + n] + w1 * array[b + n] + w2 * array[c + n] + w3 * array[d + n];
  }
}

/** Apply a matrix along the last axis, as dot products for four rows of voxels at once. */
function applyAlongLastAxis({ array, shape }, m) {
  const rows = shape[0] * shape[1];
  const out = new Float32Array(rows * m.rows);
  for (let r = 0; r < rows; r += 4) for (let t = 0; t < m.rows; t++) dotProducts(out, array, m, r, Math.min(4, rows - r), t);
  return { array: out, shape: [shape[0], shape[1], m.rows] };
}

function dotProducts(out, array, m, r, many, t) {
  const { data, columns } = m;
  const last = m.last[t];
  const weight = t * columns;
  const a = r * columns;
  const b = many > 1 ? a + columns : a;
  const c = many > 2 ? b + columns : a;
  const d = many > 3 ? c + columns : a;
  let w = 0.5; // a fraction, so that the compiler chooses floating point
  let sa = w - 0.5;
  let sb = sa;
  let sc = sa;
  let sd = sa;
  for (let n = m.first[t]; n < last; n++) {
    w = data[weight + n];
    sa += w * array[a + n];
    sb += w * array[b + n];
    sc += w * array[c + n];
    sd += w * array[d + n];
  }
  const at = r * m.rows + t;
  out[at] = sa;
  if (many > 1) out[at + m.rows] = sb;
  if (many > 2) out[at + 2 * m.rows] = sc;
  if (many > 3) out[at + 3 * m.rows] = sd;
}
