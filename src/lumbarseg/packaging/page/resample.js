// A volume on another grid: axes turned exactly, spacing changed along one axis at a time by a matrix.

import { clamp } from "./numpy.js";
import { axesOf, count } from "./volume.js";

const PAIRS = ["LR", "PA", "IS"];

/** The same voxels with their axes in the order and direction of `axes`; a view. */
export function reorient(volume, axes) {
  const have = axesOf(volume.affine);
  const order = [...axes].map((want) => [...have].findIndex((h) => PAIRS.find((p) => p.includes(want)).includes(h)));
  const flips = order.map((source, target) => have[source] !== axes[target]);
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

/** The voxels of a volume in C order, as an array of the same kind. */
export function packed(volume) {
  const { array, shape, strides, offset } = volume;
  const out = new array.constructor(count(shape));
  for (let i = 0, at = 0; i < shape[0]; i++) {
    for (let j = 0; j < shape[1]; j++) {
      let from = offset + i * strides[0] + j * strides[1];
      for (let k = 0; k < shape[2]; k++, at++, from += strides[2]) out[at] = array[from];
    }
  }
  return out;
}

/** A matrix (rows, columns) float32 from its rows; rows that are 0 outside a range are taken so. */
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

/** Matrix (target, source) that samples `source` voxels at start + step t, averaging a triangle of `width`. */
export function weights(source, target, step, start, width = 1) {
  const reach = Math.max(1, width);
  return matrix(target, source, (t) => {
    const centre = clamp(start + step * t, 0, source - 1);
    return Float64Array.from({ length: source }, (_, s) => Math.max(0, 1 - Math.abs(s - centre) / reach));
  });
}

/** array: (I, J, K) times one matrix per axis; null leaves an axis alone. Gives {array, shape}. */
export function apply(array, shape, matrices) {
  let out = { array, shape };
  matrices.forEach((m, axis) => {
    if (m) out = axis === 2 ? alongRows(out, m) : across(out, m, axis);
  });
  return out;
}

/** A matrix along the first or second axis: sums of whole rows of numbers. */
function across({ array, shape }, m, axis) {
  const inner = axis === 0 ? shape[1] * shape[2] : shape[2];
  const outer = axis === 0 ? 1 : shape[0];
  const out = new Float32Array(outer * m.rows * inner);
  const row = new Float64Array(inner);
  for (let o = 0; o < outer; o++) {
    for (let t = 0; t < m.rows; t++) {
      row.fill(0);
      let c = m.first[t];
      for (; c + 3 < m.last[t]; c += 4) add4(row, array, (o * m.columns + c) * inner, inner, m.data, t * m.columns + c);
      for (; c < m.last[t]; c++) add1(row, array, (o * m.columns + c) * inner, inner, m.data[t * m.columns + c]);
      out.set(row, (o * m.rows + t) * inner);
    }
  }
  return { array: out, shape: axis === 0 ? [m.rows, shape[1], shape[2]] : [shape[0], m.rows, shape[2]] };
}

function add1(row, array, from, inner, weight) {
  for (let n = 0; n < inner; n++) row[n] += weight * array[from + n];
}

function add4(row, array, from, inner, data, at) {
  const [w0, w1, w2, w3] = [data[at], data[at + 1], data[at + 2], data[at + 3]];
  const [b, c, d] = [from + inner, from + 2 * inner, from + 3 * inner];
  for (let n = 0; n < inner; n++) {
    row[n] += w0 * array[from + n] + w1 * array[b + n] + w2 * array[c + n] + w3 * array[d + n];
  }
}

/** A matrix along the last axis: products of numbers that lie side by side, for four rows of voxels at once. */
function alongRows({ array, shape }, m) {
  const rows = shape[0] * shape[1];
  const out = new Float32Array(rows * m.rows);
  for (let r = 0; r < rows; r += 4) for (let t = 0; t < m.rows; t++) products(out, array, m, r, Math.min(4, rows - r), t);
  return { array: out, shape: [shape[0], shape[1], m.rows] };
}

function products(out, array, m, r, many, t) {
  const { data, columns } = m;
  const last = m.last[t];
  const weight = t * columns;
  const a = r * columns;
  const b = many > 1 ? a + columns : a;
  const c = many > 2 ? b + columns : a;
  const d = many > 3 ? c + columns : a;
  let w = 0.5; // numbers with a fraction from the start, for the compiler's sake
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
