// The few functions of scipy.ndimage that the port calls. Volumes are flat, (I, J, K) in C order.

/** Connected pieces of a mask, numbered from 1 in the order of their first voxels; neighbours share a face.
 * flat: pieces do not reach from one I to the next. */
export function label(mask, shape, flat = false) {
  const [I, J, K] = shape;
  const labels = new Int32Array(mask.length);
  const parents = [0];
  const root = (n) => {
    while (parents[n] !== n) n = parents[n] = parents[parents[n]];
    return n;
  };
  for (let i = 0, at = 0; i < I; i++) {
    for (let j = 0; j < J; j++) {
      for (let k = 0; k < K; k++, at++) {
        if (!mask[at]) continue;
        let mine = 0;
        const near = [k ? labels[at - 1] : 0, j ? labels[at - K] : 0, i && !flat ? labels[at - J * K] : 0];
        for (const other of near) {
          if (!other) continue;
          const theirs = root(other);
          if (!mine) mine = theirs;
          else if (theirs !== mine) {
            parents[Math.max(mine, theirs)] = Math.min(mine, theirs);
            mine = Math.min(mine, theirs);
          }
        }
        if (!mine) parents.push((mine = parents.length));
        labels[at] = mine;
      }
    }
  }
  const numbers = new Int32Array(parents.length);
  let count = 0;
  for (let at = 0; at < labels.length; at++) {
    if (!labels[at]) continue;
    const mine = root(labels[at]);
    labels[at] = numbers[mine] ||= ++count;
  }
  return { labels, count };
}

/** The largest value within (2 ri + 1, 2 rj + 1, 2 rk + 1) voxels; uint8 in, uint8 out. */
export function maximumFilter(array, shape, radii) {
  const steps = [shape[1] * shape[2], shape[2], 1];
  let out = array;
  for (const axis of [0, 1, 2]) if (radii[axis]) out = spread(out, shape[axis], steps[axis], radii[axis]);
  return out;
}

function spread(array, size, step, radius) {
  const out = array.slice();
  for (let at = 0; at < array.length; at++) {
    const value = array[at];
    if (!value) continue;
    const place = Math.floor(at / step) % size;
    const low = Math.max(-radius, -place);
    const high = Math.min(radius, size - 1 - place);
    for (let n = low; n <= high; n++) if (out[at + n * step] < value) out[at + n * step] = value;
  }
  return out;
}

/** The largest of the `width` numbers about each one. */
export function maximumFilter1d(values, width) {
  const radius = width >> 1;
  return Float64Array.from(values, (_, i) => {
    let top = -Infinity;
    for (let j = Math.max(0, i - radius); j <= Math.min(values.length - 1, i + radius); j++) top = Math.max(top, values[j]);
    return top;
  });
}

/** Gaussian smoothing, cut at four sigma; beyond the border the nearest number counts, or 0. */
export function gaussianFilter1d(values, sigma, border) {
  const radius = Math.floor(4 * sigma + 0.5);
  const bell = Float64Array.from({ length: 2 * radius + 1 }, (_, n) => Math.exp((-0.5 / (sigma * sigma)) * (n - radius) ** 2));
  const whole = bell.reduce((total, value) => total + value, 0);
  const last = values.length - 1;
  return Float64Array.from(values, (_, i) => {
    let total = 0;
    for (let n = -radius; n <= radius; n++) {
      const j = i + n;
      if (j >= 0 && j <= last) total += bell[n + radius] * values[j];
      else if (border === "nearest") total += bell[n + radius] * values[j < 0 ? 0 : last];
    }
    return total / whole;
  });
}
