// Inference slice by slice, from a preprocessed exam to class probabilities: port of inference/predictor.py.

import { CONSTANTS } from "./anatomy.js";
import { clamp } from "./numpy.js";

const { CROP_MARGIN, MIN_SLICES_TO_CROP } = CONSTANTS.predictor;

/** Return probabilities (classes, slices, A, S). network: {infer, workerCount}; `infer` is async and maps a window to
 * probabilities (classes, rows, columns). onSlice: async, called after each slice. stop: predicate on the class map of the
 * first slices and its shape; when true, the result is null. */
export async function predict(prepared, card, network, onSlice, stop = () => false) {
  const [count, A, S] = prepared.shape;
  const classes = card.classes.length;
  const out = new Float32Array(classes * count * A * S);
  out.fill(1, 0, count * A * S);
  const fill = async (slices, box) => {
    const queue = [...slices];
    const worker = async () => {
      try {
        while (queue.length) {
          const slice = queue.shift();
          const probabilities = await network.infer(extractWindow(prepared, slice, box, card));
          storeWindow(out, probabilities, slice, box, prepared.shape, classes);
          await onSlice();
        }
      } finally {
        queue.length = 0; // when one worker fails or is cancelled, the others stop as well
      }
    };
    await Promise.all(Array.from({ length: network.workerCount }, worker));
  };
  const fullView = [[0, A], [0, S]];
  const all = Array.from({ length: count }, (_, i) => i);
  const first = count >= MIN_SLICES_TO_CROP ? [count >> 1, count >> 2, Math.floor((3 * count) / 4)] : all;
  await fill(first, fullView);
  const remaining = all.filter((i) => !first.includes(i));
  if (!remaining.length) return out;
  const firstClasses = classesOfSlices(out, first, prepared.shape, classes);
  if (stop(firstClasses, [first.length, A, S])) return null;
  await fill(remaining, foregroundBox(firstClasses, prepared.shape, card.spec.multiple) ?? fullView);
  return out;
}

/** Return a slice with its neighbours inside a box as {array, channels, rows, columns, inside}, edge values repeated. */
export function extractWindow({ array, shape }, slice, [[a0, a1], [s0, s1]], card) {
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
  return { array: out, channels: card.inputs, rows, columns, inside: [a1 - a0, s1 - s0] };
}

function storeWindow(out, values, slice, [[a0, a1], [s0, s1]], [count, A, S], classes) {
  const [rows, columns] = [a1 - a0, s1 - s0];
  for (let c = 0; c < classes; c++) {
    for (let r = 0; r < rows; r++) {
      const from = (c * rows + r) * columns;
      out.set(values.subarray(from, from + columns), ((c * count + slice) * A + a0 + r) * S + s0);
    }
  }
}

/** Convert the logits (classes, rows, columns) of a window to probabilities, cropped to its inside. */
export function toProbabilities(logits, { rows, columns, inside }, bias) {
  const classes = bias.length;
  const out = new Float32Array(classes * inside[0] * inside[1]);
  const step = inside[0] * inside[1];
  const values = new Float32Array(classes);
  for (let r = 0, at = 0; r < inside[0]; r++) {
    for (let c = 0; c < inside[1]; c++, at++) {
      let top = -Infinity;
      for (let k = 0; k < classes; k++) {
        values[k] = logits[(k * rows + r) * columns + c] + bias[k];
        if (values[k] > top) top = values[k];
      }
      let total = 0;
      for (let k = 0; k < classes; k++) total += values[k] = Math.exp(values[k] - top);
      for (let k = 0; k < classes; k++) out[k * step + at] = values[k] / total;
    }
  }
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

/** Return the class map of selected slices. */
function classesOfSlices(probabilities, slices, [count, A, S], classes) {
  const size = A * S;
  const selected = new Float32Array(classes * slices.length * size);
  for (let c = 0, to = 0; c < classes; c++) {
    for (const i of slices) {
      selected.set(probabilities.subarray((c * count + i) * size, (c * count + i + 1) * size), to);
      to += size;
    }
  }
  return argmaxClasses(selected, classes, slices.length * size);
}

/** Return the in-plane box, padded to a multiple, of the foreground of a class map; null without foreground. */
function foregroundBox(classMap, [, A, S], multiple) {
  const [rows, columns] = [new Uint8Array(A), new Uint8Array(S)];
  classMap.forEach((value, at) => value && (rows[Math.floor(at / S) % A] = columns[at % S] = 1));
  if (!rows.includes(1)) return null;
  return [paddedRange(rows, A, multiple), paddedRange(columns, S, multiple)];
}

function paddedRange(isForeground, size, multiple) {
  let low = Math.max(0, isForeground.indexOf(1) - CROP_MARGIN);
  const high = Math.min(size, isForeground.lastIndexOf(1) + 1 + CROP_MARGIN);
  const length = Math.min(size, Math.ceil((high - low) / multiple) * multiple);
  low = Math.max(0, Math.min(low, size - length));
  return [low, low + length];
}
