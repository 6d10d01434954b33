// The scipy.ndimage functions that the page needs. Volumes are flat arrays, (I, J, K) in C order.

import { cross } from "d3-array";
import { forEachVoxel } from "./volume.js";

// Offsets (I, J, K) to the neighbours that precede a voxel.
const FACE_NEIGHBOURS = [[0, 0, 1], [0, 1, 0], [1, 0, 0]];
export const IN_PLANE_NEIGHBOURS = FACE_NEIGHBOURS.slice(0, 2);
const STEPS = [-1, 0, 1];
export const ALL_NEIGHBOURS = cross(STEPS, cross(STEPS, STEPS), (i, [j, k]) => [i, j, k]).slice(14);

/** Label the connected components of a mask from 1, in the order of their first voxels. */
export function label(mask, shape, neighbours = FACE_NEIGHBOURS) {
  const [, J, K] = shape;
  const labels = new Int32Array(mask.length);
  const parents = [0];
  const rootOf = (n) => {
    while (parents[n] !== n) n = parents[n] = parents[parents[n]];
    return n;
  };
  forEachVoxel(shape, (at, i, j, k) => {
    if (!mask[at]) return;
    let number = 0;
    for (const [di, dj, dk] of neighbours) {
      if (i < di || j < dj || j - dj >= J || k < dk || k - dk >= K) continue;
      const other = labels[at - (di * J + dj) * K - dk];
      if (!other) continue;
      const otherRoot = rootOf(other);
      if (number) parents[Math.max(number, otherRoot)] = Math.min(number, otherRoot);
      number = number ? Math.min(number, otherRoot) : otherRoot;
    }
    if (!number) parents.push((number = parents.length));
    labels[at] = number;
  });
  const numbers = new Int32Array(parents.length);
  let count = 0;
  for (let at = 0; at < labels.length; at++) {
    if (!labels[at]) continue;
    const number = rootOf(labels[at]);
    labels[at] = numbers[number] ||= ++count;
  }
  return { labels, count };
}

/** Return the maximum within (2 ri + 1, 2 rj + 1, 2 rk + 1) voxels, uint8. */
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

/** Return the maximum within `width` values around each value. */
export function maximumFilter1d(values, width) {
  const radius = width >> 1;
  return Float64Array.from(values, (_, i) => {
    let top = -Infinity;
    for (let j = Math.max(0, i - radius); j <= Math.min(values.length - 1, i + radius); j++) top = Math.max(top, values[j]);
    return top;
  });
}

/** Smooth with a Gaussian truncated at four sigma. border: "nearest" or "zero". */
export function gaussianFilter1d(values, sigma, border) {
  const radius = Math.floor(4 * sigma + 0.5);
  const gaussian = (_, n) => Math.exp((-0.5 / (sigma * sigma)) * (n - radius) ** 2);
  const kernel = Float64Array.from({ length: 2 * radius + 1 }, gaussian);
  const kernelSum = kernel.reduce((total, value) => total + value, 0);
  const last = values.length - 1;
  return Float64Array.from(values, (_, i) => {
    let total = 0;
    for (let n = -radius; n <= radius; n++) {
      const j = i + n;
      if (j >= 0 && j <= last) total += kernel[n + radius] * values[j];
      else if (border === "nearest") total += kernel[n + radius] * values[j < 0 ? 0 : last];
    }
    return total / kernelSum;
  });
}
