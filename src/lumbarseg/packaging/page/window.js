// From a prepared exam to class probabilities, slice by slice: model/window.py in JavaScript.

import { CONSTANTS } from "./anatomy.js";
import { clamp } from "./numpy.js";

const { CROP_MARGIN: MARGIN, MIN_SLICES_TO_CROP: MANY } = CONSTANTS.predictor;

/** (classes, slices, A, S) probabilities. network.look: of one window {array, channels, rows, columns, inside} to its
 * probabilities (classes, rows, columns), a promise; network.many of them may be under way. done: after each slice.
 * stop: of the class map of the slices that are looked at first and its shape; null comes where it says so. */
export async function predict(prepared, card, network, done, stop = () => false) {
  const [count, A, S] = prepared.shape;
  const classes = card.classes.length;
  const out = new Float32Array(classes * count * A * S);
  out.fill(1, 0, count * A * S);
  const fill = async (slices, box) => {
    const waiting = [...slices];
    const worker = async () => {
      try {
        while (waiting.length) {
          const slice = waiting.shift();
          write(out, await network.look(windowOf(prepared, slice, box, card)), slice, box, prepared.shape, classes);
          await done();
        }
      } finally {
        waiting.length = 0; // where one fails or is cancelled, the others begin nothing new
      }
    };
    await Promise.all(Array.from({ length: network.many }, worker));
  };
  const whole = [[0, A], [0, S]];
  const every = Array.from({ length: count }, (_, i) => i);
  const first = count >= MANY ? [count >> 1, count >> 2, Math.floor((3 * count) / 4)] : every;
  await fill(first, whole);
  const rest = every.filter((i) => !first.includes(i));
  if (rest.length && stop(chosen(out, first, prepared.shape, classes), [first.length, A, S])) return null;
  if (rest.length) await fill(rest, spine(out, first, prepared.shape, classes, card.spec.multiple) ?? whole);
  return out;
}

/** A slice with its neighbours inside a box, outer slices repeated, padded with edge values to a multiple. */
export function windowOf({ array, shape }, slice, [[a0, a1], [s0, s1]], card) {
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

function write(out, found, slice, [[a0, a1], [s0, s1]], [count, A, S], classes) {
  const [rows, columns] = [a1 - a0, s1 - s0];
  for (let c = 0; c < classes; c++) {
    for (let r = 0; r < rows; r++) {
      const from = (c * rows + r) * columns;
      out.set(found.subarray(from, from + columns), ((c * count + slice) * A + a0 + r) * S + s0);
    }
  }
}

/** The answer of the network for a window, cut to its inside, as probabilities; logits: (classes, rows, columns). */
export function probabilities(logits, { rows, columns, inside }, bias) {
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

/** The best class of each voxel; the first of equals. */
export function bestOf(scores, classes, size) {
  const out = new Uint8Array(size);
  const top = scores.slice(0, size);
  for (let c = 1; c < classes; c++) {
    for (let at = 0, from = c * size; at < size; at++, from++) {
      if (scores[from] > top[at]) {
        top[at] = scores[from];
        out[at] = c;
      }
    }
  }
  return out;
}

/** The class map of some slices. */
function chosen(scores, slices, [count, A, S], classes) {
  const size = A * S;
  const some = new Float32Array(classes * slices.length * size);
  for (let c = 0, to = 0; c < classes; c++) {
    for (const i of slices) {
      some.set(scores.subarray((c * count + i) * size, (c * count + i + 1) * size), to);
      to += size;
    }
  }
  return bestOf(some, classes, slices.length * size);
}

/** The box in plane, in multiples of the network's, that holds all foreground of some slices; null without any. */
function spine(scores, slices, [count, A, S], classes, multiple) {
  const [rows, columns] = [new Uint8Array(A), new Uint8Array(S)];
  for (const i of slices) {
    for (let a = 0; a < A; a++) {
      for (let s = 0; s < S; s++) {
        const at = (i * A + a) * S + s;
        for (let c = 1; c < classes; c++) {
          if (scores[c * count * A * S + at] > scores[at]) rows[a] = columns[s] = 1;
        }
      }
    }
  }
  if (!rows.includes(1)) return null;
  return [side(rows, A, multiple), side(columns, S, multiple)];
}

function side(seen, size, multiple) {
  let low = Math.max(0, seen.indexOf(1) - MARGIN);
  const high = Math.min(size, seen.lastIndexOf(1) + 1 + MARGIN);
  const long = Math.min(size, Math.ceil((high - low) / multiple) * multiple);
  low = Math.max(0, Math.min(low, size - long));
  return [low, low + long];
}
