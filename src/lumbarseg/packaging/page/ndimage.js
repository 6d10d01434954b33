// The scipy.ndimage functions that the page needs. Volumes are flat arrays, (I, J, K) in C order.

import { cross, range, sum } from "d3-array";
import { clamp } from "./numpy.js";

const STEPS = [-1, 0, 1];
export const ALL_NEIGHBOURS = cross(STEPS, cross(STEPS, STEPS), (i, [j, k]) => [i, j, k]); // offsets along I, J and K
const FACE_NEIGHBOURS = ALL_NEIGHBOURS.filter(([i, j, k]) => Math.abs(i) + Math.abs(j) + Math.abs(k) === 1);
export const IN_PLANE_NEIGHBOURS = FACE_NEIGHBOURS.filter(([i]) => i === 0);

/** Label the connected components of a mask from 1, in the order of their first voxels. */
export function label(mask, [I, J, K], neighbours = FACE_NEIGHBOURS) {
  const labels = new Int32Array(mask.length);
  let count = 0;
  const queue = [];
  const add = (at) => {
    labels[at] = count;
    queue.push(at);
  };
  for (let first = 0; first < mask.length; first++) {
    if (!mask[first] || labels[first]) continue;
    count++;
    add(first);
    while (queue.length) {
      const at = queue.pop();
      const [i, j, k] = [Math.floor(at / (J * K)), Math.floor(at / K) % J, at % K];
      for (const [di, dj, dk] of neighbours) {
        const isInside = i + di >= 0 && i + di < I && j + dj >= 0 && j + dj < J && k + dk >= 0 && k + dk < K;
        const other = at + (di * J + dj) * K + dk;
        if (isInside && mask[other] && !labels[other]) add(other);
      }
    }
  }
  return { labels, count };
}

/** Return the maximum within (2 ri + 1, 2 rj + 1, 2 rk + 1) voxels; no value may be negative. */
export function maximumFilter(array, shape, radii) {
  const steps = [shape[1] * shape[2], shape[2], 1];
  let out = array;
  for (const axis of [0, 1, 2]) if (radii[axis]) out = dilateAxis(out, shape[axis], steps[axis], radii[axis]);
  return out;
}

function dilateAxis(array, size, step, radius) {
  const out = array.slice();
  for (let at = 0; at < array.length; at++) {
    const value = array[at];
    if (!value) continue;
    const position = Math.floor(at / step) % size;
    const low = Math.max(-radius, -position);
    const high = Math.min(radius, size - 1 - position);
    for (let n = low; n <= high; n++) if (out[at + n * step] < value) out[at + n * step] = value;
  }
  return out;
}

/** Smooth with a Gaussian truncated at four sigma. border: "nearest" or "zero". */
export function gaussianFilter1d(values, sigma, border) {
  const radius = Math.floor(4 * sigma + 0.5);
  const kernel = range(-radius, radius + 1).map((n) => Math.exp((-0.5 / (sigma * sigma)) * n ** 2));
  const valueAt = (i) => values[border === "nearest" ? clamp(i, 0, values.length - 1) : i] ?? 0;
  const total = sum(kernel);
  return Float64Array.from(values, (_, i) => sum(kernel, (weight, n) => weight * valueAt(i + n - radius)) / total);
}
