// Inference slice by slice, from a preprocessed exam to class probabilities: port of inference/predictor.py.

import { range } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { clamp } from "./numpy.js";
import { boundingBox, forEachInBox, forEachVoxel, voxelCount } from "./volume.js";

const { CROP_MARGIN, MIN_SLICES_TO_CROP } = CONSTANTS.predictor;

/** Return probabilities (classes, slices, A, S). networks: async functions from a window to probabilities
 * (classes, rows, columns), which work at the same time. onSlice: async, called after each slice. stop: predicate on the class map, in
 * which only the first slices are predicted; when true, the result is null. */
export async function predict(prepared, card, networks, onSlice, stop = () => false) {
  const [count, A, S] = prepared.shape;
  const classes = card.classes.length;
  const out = new Float32Array(classes * count * A * S);
  out.fill(1, 0, count * A * S);
  const fill = (slices, box) =>
    predictSlices(slices, networks, async (slice, infer) => {
      storeWindow(out, await infer(extractWindow(prepared, slice, box, card)), slice, box, prepared.shape);
      await onSlice();
    });
  const fullView = [[0, A], [0, S]];
  const first = fullViewSlices(count);
  await fill(first, fullView);
  const remaining = range(count).filter((i) => !first.includes(i));
  if (!remaining.length) return out;
  const firstClasses = argmaxClasses(out, classes, count * A * S);
  if (stop(firstClasses)) return null;
  await fill(remaining, cropBox(firstClasses, prepared.shape, card.spec.multiple));
  return out;
}

/** Call an async function with each slice and a network that is free. */
export async function predictSlices(slices, networks, predictSlice) {
  const queue = [...slices];
  const work = async (infer) => {
    try {
      while (queue.length) await predictSlice(queue.shift(), infer);
    } finally {
      queue.length = 0; // when one network fails or is cancelled, the others stop as well
    }
  };
  await Promise.all(networks.map(work));
}

/** Return a slice with its neighbours inside a box as {array, channels, rows, columns, inside}, edge values repeated.
 * clicks: {channel, gaussians along the axes, visible: box in voxels}; where they meet, the larger value counts. */
export function extractWindow({ array, shape }, slice, [[a0, a1], [s0, s1]], card, clicks = []) {
  const [count, A, S] = shape;
  const { neighbours, multiple } = card.spec;
  const rows = Math.ceil((a1 - a0) / multiple) * multiple;
  const columns = Math.ceil((s1 - s0) / multiple) * multiple;
  const out = new Float32Array(card.inputs * rows * columns);
  let at = 0;
  for (let n = slice - neighbours; n <= slice + neighbours; n++) {
    const from = clamp(n, 0, count - 1) * A * S;
    for (let r = 0; r < rows; r++) {
      const row = from + Math.min(a0 + r, a1 - 1) * S;
      for (let c = 0; c < columns; c++) out[at++] = array[row + Math.min(s0 + c, s1 - 1)];
    }
  }
  for (const { channel, gaussians, visible } of clicks) {
    if (slice < visible[0][0] || slice >= visible[0][1]) continue;
    const from = (2 * neighbours + 1 + channel) * rows * columns;
    forEachVoxel([1, a1 - a0, s1 - s0], (_, __, r, c) => {
      const value = gaussians[0][slice] * gaussians[1][a0 + r] * gaussians[2][s0 + c];
      out[from + r * columns + c] = Math.max(out[from + r * columns + c], value);
    });
  }
  return { array: out, channels: card.inputs, rows, columns, inside: [a1 - a0, s1 - s0] };
}

/** Write the probabilities of a window into those of the exam. */
function storeWindow(out, values, slice, box, shape) {
  const [size, part] = [voxelCount(shape), box.reduce((total, [start, stop]) => total * (stop - start), 1)];
  let from = 0;
  forEachInBox([[slice, slice + 1], ...box], shape, (at) => {
    for (let c = 0; c * size < out.length; c++) out[c * size + at] = values[c * part + from];
    from++;
  });
}

/** Convert the logits (classes, rows, columns) of a window to probabilities, cropped to its inside. */
export function toProbabilities(logits, { rows, columns, inside }, bias) {
  const classes = bias.length;
  const step = inside[0] * inside[1];
  const out = new Float32Array(classes * step);
  const values = new Float32Array(classes);
  forEachVoxel([1, ...inside], (at, _, r, c) => {
    let top = -Infinity;
    for (let k = 0; k < classes; k++) top = Math.max(top, (values[k] = logits[(k * rows + r) * columns + c] + bias[k]));
    let total = 0;
    for (let k = 0; k < classes; k++) total += values[k] = Math.exp(values[k] - top);
    for (let k = 0; k < classes; k++) out[k * step + at] = values[k] / total;
  });
  return out;
}

/** Return the most probable class of each voxel. */
export function argmaxClasses(probabilities, classes, size) {
  const out = new Uint8Array(size);
  const top = probabilities.slice(0, size);
  for (let c = 1; c < classes; c++) {
    for (let at = 0, from = c * size; at < size; at++, from++) {
      if (probabilities[from] > top[at]) {
        top[at] = probabilities[from];
        out[at] = c;
      }
    }
  }
  return out;
}

/** Return the slices that are predicted over the full field of view. */
export const fullViewSlices = (count) =>
  count < MIN_SLICES_TO_CROP ? range(count) : [count >> 1, count >> 2, Math.floor((3 * count) / 4)];

/** Return the in-plane box of the foreground of a map with a margin, padded to a multiple; all of it without any. */
export function cropBox(map, shape, multiple) {
  const box = boundingBox(map, shape) ?? shape.map((size) => [0, size]);
  return [1, 2].map((axis) => paddedRange(box[axis], shape[axis], multiple));
}

function paddedRange([start, stop], size, multiple) {
  let low = Math.max(0, start - CROP_MARGIN);
  const high = Math.min(size, stop + CROP_MARGIN);
  const length = Math.min(size, Math.ceil((high - low) / multiple) * multiple);
  low = Math.max(0, Math.min(low, size - length));
  return [low, low + length];
}
