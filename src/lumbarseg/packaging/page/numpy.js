// The NumPy functions that the page needs, with NumPy's conventions: halves round to even, percentiles interpolate.

export function roundEven(x) {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

export const clamp = (x, low, high) => (x < low ? low : x > high ? high : x);

export const sum = (values) => values.reduce((total, value) => total + value, 0);

export const mean = (values) => sum(values) / values.length;

export const maximum = (values) => values.reduce((top, value) => (value > top ? value : top), -Infinity);

export const minimum = (values) => values.reduce((low, value) => (value < low ? value : low), Infinity);

/** Return the index of the first maximum; NaN counts as the maximum. */
export function argmax(values) {
  let best = 0;
  for (let i = 0; i < values.length; i++) {
    if (Number.isNaN(values[i])) return i;
    if (values[i] > values[best]) best = i;
  }
  return best;
}

export function argmin(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] < values[best]) best = i;
  return best;
}

/** Return the index of the number nearest to x. */
export const nearestIndex = (numbers, x) => argmin(numbers.map((value) => Math.abs(x - value)));

function lerp(low, high, share) {
  return share >= 0.5 ? high - (high - low) * (1 - share) : low + (high - low) * share;
}

/** Return percentile q, 0 to 100, of a short array. */
export function percentile(values, q) {
  const sorted = Float64Array.from(values).sort();
  const position = ((sorted.length - 1) * q) / 100;
  const low = Math.floor(position);
  return lerp(sorted[low], sorted[Math.min(low + 1, sorted.length - 1)], position - low);
}

export const median = (values) => percentile(values, 50);

export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

export const unit = (vector) => vector.map((value) => value / Math.hypot(...vector));

/** Return the determinant of a 3 x 3 matrix, given as rows (further columns are ignored). */
export const determinant = ([a, b, c]) => cross(b, c).reduce((total, value, n) => total + a[n] * value, 0);

export const differences = (values) => Array.from(values.slice(1), (value, n) => value - values[n]);

/** Return percentiles of a large float32 array, from two histograms of its bits instead of a sort. */
export function percentiles(array, qs) {
  const bits = new Int32Array(array.buffer, array.byteOffset, array.length);
  const positions = qs.map((q) => ((array.length - 1) * q) / 100);
  const ranks = positions.flatMap((p) => [Math.floor(p), Math.min(Math.floor(p) + 1, array.length - 1)]);
  const values = valuesAtRanks(bits, ranks);
  return positions.map((p, n) => lerp(values[2 * n], values[2 * n + 1], p - Math.floor(p)));
}

const sortableBits = (bits) => (bits < 0 ? ~bits : bits | 0x80000000) >>> 0; // as an integer in the same order as the floats

function valuesAtRanks(bits, ranks) {
  const coarse = new Uint32Array(65536);
  for (let i = 0; i < bits.length; i++) coarse[sortableBits(bits[i]) >>> 16]++;
  const boxes = ranks.map((rank) => {
    let preceding = 0;
    let box = 0;
    while (preceding + coarse[box] <= rank) preceding += coarse[box++];
    return { box, left: rank - preceding };
  });
  const fine = new Map(boxes.map(({ box }) => [box, new Uint32Array(65536)]));
  const isNeeded = new Uint8Array(65536);
  for (const { box } of boxes) isNeeded[box] = 1;
  for (let i = 0; i < bits.length; i++) {
    const value = sortableBits(bits[i]);
    if (isNeeded[value >>> 16]) fine.get(value >>> 16)[value & 65535]++;
  }
  return boxes.map(({ box, left }) => {
    const counts = fine.get(box);
    let low = 0;
    for (let preceding = 0; preceding + counts[low] <= left; low++) preceding += counts[low];
    return floatFromBits(((box << 16) | low) >>> 0);
  });
}

const scratch = new DataView(new ArrayBuffer(4));

function floatFromBits(value) {
  scratch.setUint32(0, value & 0x80000000 ? value ^ 0x80000000 : ~value >>> 0);
  return scratch.getFloat32(0);
}

/** Return the index at which x keeps sorted values sorted: before equal values, or after them when `right`. */
export function searchsorted(sorted, x, right = false) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x || (right && sorted[middle] === x)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Interpolate linearly between points (xp, fp) at x; constant beyond the ends. */
export function interp(x, xp, fp) {
  const last = xp.length - 1;
  if (x <= xp[0]) return fp[0];
  if (x >= xp[last]) return fp[last];
  const j = searchsorted(xp, x, true) - 1;
  return fp[j] + ((fp[j + 1] - fp[j]) / (xp[j + 1] - xp[j])) * (x - xp[j]);
}

/** numpy.arange(low, high, step). */
export function arange(low, high, step = 1) {
  return Array.from({ length: Math.max(0, Math.ceil((high - low) / step)) }, (_, n) => low + n * step);
}
