// NumPy functions that d3-array lacks, with NumPy's conventions: halves round to even.

import { bisectRight, max, minIndex, pairs, quantile, quickselect } from "d3-array";

export function roundEven(x) {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

export const clamp = (x, low, high) => (x < low ? low : x > high ? high : x);

/** Return the index of the number nearest to x. */
export const nearestIndex = (numbers, x) => minIndex(numbers, (value) => Math.abs(x - value));

/** Return percentile q, 0 to 100, of a short array. */
export const percentile = (values, q) => quantile(values, q / 100);

export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

export const unit = (vector) => vector.map((value) => value / Math.hypot(...vector));

/** Return the determinant of a 3 x 3 matrix, given as rows (further columns are ignored). */
export const determinant = ([a, b, c]) => cross(b, c).reduce((total, value, n) => total + a[n] * value, 0);

export const differences = (values) => pairs(values, (a, b) => b - a);

/** Return percentiles of a large array. */
export function percentiles(array, qs) {
  const copy = array.slice();
  const last = copy.length - 1;
  const atRank = (rank) => quickselect(copy, rank)[rank];
  return qs.map((q) => {
    const position = (last * q) / 100;
    const [low, high] = [Math.floor(position), Math.min(Math.floor(position) + 1, last)].map(atRank);
    return low + (high - low) * (position % 1);
  });
}

/** Return how often each number from 0 occurs; at least `length` counts. */
export function bincount(numbers, length = 0) {
  const counts = new Array(Math.max(length, (max(numbers) ?? -1) + 1)).fill(0);
  for (const number of numbers) counts[number]++;
  return counts;
}

/** Interpolate linearly between points (xp, fp) at x; constant beyond the ends. */
export function interp(x, xp, fp) {
  const last = xp.length - 1;
  if (x <= xp[0]) return fp[0];
  if (x >= xp[last]) return fp[last];
  const j = bisectRight(xp, x) - 1;
  return fp[j] + ((fp[j + 1] - fp[j]) / (xp[j + 1] - xp[j])) * (x - xp[j]);
}
