// The few functions of NumPy that the port calls, with NumPy's conventions: halves round to even, percentiles interpolate.

export function roundEven(x) {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

export const clamp = (x, low, high) => (x < low ? low : x > high ? high : x);

export const sum = (values) => values.reduce((total, value) => total + value, 0);

export const mean = (values) => sum(values) / values.length;

export function maximum(values) {
  let top = -Infinity;
  for (let i = 0; i < values.length; i++) if (values[i] > top) top = values[i];
  return top;
}

export function minimum(values) {
  let low = Infinity;
  for (let i = 0; i < values.length; i++) if (values[i] < low) low = values[i];
  return low;
}

/** Place of the first largest value; the first NaN counts as the largest. */
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

/** Place of the nearest of `numbers` to x. */
export function nearest(numbers, x) {
  let best = 0;
  for (let i = 1; i < numbers.length; i++) if (Math.abs(x - numbers[i]) < Math.abs(x - numbers[best])) best = i;
  return best;
}

function between(low, high, share) {
  return share >= 0.5 ? high - (high - low) * (1 - share) : low + (high - low) * share;
}

/** The percentile q, in percent, of a few numbers. */
export function percentile(values, q) {
  const sorted = Float64Array.from(values).sort();
  const place = ((sorted.length - 1) * q) / 100;
  const low = Math.floor(place);
  return between(sorted[low], sorted[Math.min(low + 1, sorted.length - 1)], place - low);
}

export const median = (values) => percentile(values, 50);

/** Percentiles of many float32 numbers, by two counts of their bits instead of a sort. */
export function percentiles(array, qs) {
  const bits = new Int32Array(array.buffer, array.byteOffset, array.length);
  const places = qs.map((q) => ((array.length - 1) * q) / 100);
  const ranks = places.flatMap((p) => [Math.floor(p), Math.min(Math.floor(p) + 1, array.length - 1)]);
  const found = ranked(bits, ranks);
  return places.map((p, n) => between(found[2 * n], found[2 * n + 1], p - Math.floor(p)));
}

const ordered = (bits) => (bits < 0 ? ~bits : bits | 0x80000000) >>> 0; // as a whole number that rises with the float

function ranked(bits, ranks) {
  const coarse = new Uint32Array(65536);
  for (let i = 0; i < bits.length; i++) coarse[ordered(bits[i]) >>> 16]++;
  const boxes = ranks.map((rank) => {
    let before = 0;
    let box = 0;
    while (before + coarse[box] <= rank) before += coarse[box++];
    return { box, left: rank - before };
  });
  const fine = new Map(boxes.map(({ box }) => [box, new Uint32Array(65536)]));
  const wanted = new Uint8Array(65536);
  for (const { box } of boxes) wanted[box] = 1;
  for (let i = 0; i < bits.length; i++) {
    const value = ordered(bits[i]);
    if (wanted[value >>> 16]) fine.get(value >>> 16)[value & 65535]++;
  }
  return boxes.map(({ box, left }) => {
    const counts = fine.get(box);
    let low = 0;
    for (let before = 0; before + counts[low] <= left; low++) before += counts[low];
    return floatOf(((box << 16) | low) >>> 0);
  });
}

const scratch = new DataView(new ArrayBuffer(4));

function floatOf(value) {
  scratch.setUint32(0, value & 0x80000000 ? value ^ 0x80000000 : ~value >>> 0);
  return scratch.getFloat32(0);
}

/** Where x would be put in rising numbers: before equal ones, or behind them. */
export function searchsorted(rising, x, behind = false) {
  let low = 0;
  let high = rising.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rising[middle] < x || (behind && rising[middle] === x)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The line through (xp, fp) at x, level beyond its ends. */
export function interp(x, xp, fp) {
  const last = xp.length - 1;
  if (x <= xp[0]) return fp[0];
  if (x >= xp[last]) return fp[last];
  const j = searchsorted(xp, x, true) - 1;
  return fp[j] + ((fp[j + 1] - fp[j]) / (xp[j + 1] - xp[j])) * (x - xp[j]);
}

/** Like numpy.arange(low, high, step). */
export function arange(low, high, step = 1) {
  return Array.from({ length: Math.max(0, Math.ceil((high - low) / step)) }, (_, n) => low + n * step);
}

/** numpy.linalg.inv of a 4 x 4 affine, as nested lists. */
export function inverse(affine) {
  const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = affine;
  const det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const m = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / det));
  return [...m.map((row) => [...row, -(row[0] * x + row[1] * y + row[2] * z)]), [0, 0, 0, 1]];
}
