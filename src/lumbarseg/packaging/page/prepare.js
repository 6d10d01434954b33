// The contract between an exam and the network, both ways: prepare.py in JavaScript.

import { arange, clamp, percentiles, roundEven, searchsorted } from "./numpy.js";
import { apply, matrix, packed, reorient, weights } from "./resample.js";
import { count, Refusal, spacingOf, toWorld } from "./volume.js";

/** An axis of `source` voxels at `spacing` mm, covered by voxels of `target` mm about the same centre. */
function axis(source, spacing, target) {
  if (Math.abs(spacing / target - 1) < 0.01) return { source, count: source, step: 1, start: 0 };
  const step = target / spacing;
  const number = Math.max(1, roundEven(source / step));
  return { source, count: number, step, start: (source - 1) / 2 - (step * (number - 1)) / 2 };
}

function forward(a) {
  return a.step === 1 && a.count === a.source ? null : weights(a.source, a.count, a.step, a.start, a.step);
}

function planOf(canonical, spec) {
  const spacing = spacingOf(canonical.affine);
  const group = Math.max(1, roundEven(spec.slab / spacing[0]));
  return [
    axis(canonical.shape[0], spacing[0], spacing[0] * group),
    axis(canonical.shape[1], spacing[1], spec.pixel),
    axis(canonical.shape[2], spacing[2], spec.pixel),
  ];
}

/** An exam as the network reads it: {array, shape, affine, spacing} on its grid, `canonical` and `plan` for the way back. */
export function prepare(volume, spec) {
  const canonical = reorient(volume, spec.axes);
  const plan = planOf(canonical, spec);
  const { array, shape } = apply(packed(canonical), canonical.shape, plan.map(forward));
  const origin = toWorld(canonical.affine, plan.map((a) => a.start));
  const affine = [0, 1, 2].map((r) => [...plan.map((a, c) => canonical.affine[r][c] * a.step), origin[r]]);
  affine.push([0, 0, 0, 1]);
  return { array: normalise(array, shape, spec), shape, affine, spacing: spacingOf(affine), canonical, plan, spec };
}

/** (slices, A, S) of any scale to float32 in 0..limit; Refusal when it is constant. */
export function normalise(array, shape, spec) {
  const n = spec.normalisation;
  const [low, high] = percentiles(array, [n.low, n.high]);
  if (!(high - low > 1e-5 * Math.max(Math.abs(low), Math.abs(high)))) {
    throw new Refusal("the image is constant: nothing to see in it");
  }
  const image = new Float32Array(array.length);
  let total = 0;
  for (let i = 0; i < array.length; i++) {
    image[i] = clamp((array[i] - low) / (high - low), 0, 1);
    total += image[i];
  }
  const local = surroundings(image, shape, n.local / spec.pixel);
  const floor = (n.floor * total) / image.length;
  for (let i = 0; i < image.length; i++) image[i] /= (local[i] + floor) ** n.power;
  const top = Math.max(percentiles(image, [n.top])[0], 1e-6);
  for (let i = 0; i < image.length; i++) image[i] = clamp(image[i] / top, 0, n.limit);
  return image;
}

/** The mean about each voxel. In plane it is so smooth that every fourth one tells it: by cubics between those, to 1e-5. */
function surroundings(image, shape, sigma) {
  const coarse = shape.map((size) => nodes(size));
  const blurs = [null, blur(shape[1], sigma, coarse[1]), blur(shape[2], sigma, coarse[2])];
  const few = apply(image, shape, blurs);
  const smooth = apply(few.array, few.shape, [blur(shape[0], 1, null), null, null]);
  return apply(smooth.array, smooth.shape, [null, cubics(shape[1], coarse[1]), cubics(shape[2], coarse[2])]).array;
}

/** Every fourth place of an axis and its last; every one of a short axis. */
function nodes(size) {
  const every = arange(0, size);
  return size < 32 ? every : every.filter((n) => n % 4 === 0 || n === size - 1);
}

/** Gaussian smoothing of an axis at some places (all of them when null); at the border only what lies inside counts. */
function blur(size, sigma, places) {
  const wanted = places ?? arange(0, size);
  return matrix(wanted.length, size, (r) =>
    Float64Array.from({ length: size }, (_, c) => {
      const value = Math.exp(-0.5 * ((wanted[r] - c) / sigma) ** 2);
      return value < 1e-9 ? 0 : value;
    }),
  );
}

/** Matrix (size, nodes) of the cubic through the four nodes about each place; null where every place is a node. */
function cubics(size, places) {
  if (places.length === size) return null;
  return matrix(size, places.length, (t) => {
    const row = new Float64Array(places.length);
    const first = clamp(searchsorted(places, t, true) - 2, 0, places.length - 4);
    for (let n = first; n < first + 4; n++) {
      row[n] = 1;
      for (let o = first; o < first + 4; o++) if (o !== n) row[n] *= (t - places[o]) / (places[n] - places[o]);
    }
    return row;
  });
}

/** Indices along an axis of the network's grid, reversed where the exam was turned over. */
const turned = (place, size, flip) => (flip ? size - 1 - place : place);

/** scores: (C, slices, A, S) to the best class on the exam's grid, in the network's axes, C order.
 * flips: which of A and S the scores have reversed. */
export function restoreClasses(scores, classes, prepared, flips) {
  const { plan, shape } = prepared;
  const best = new Uint8Array(count(plan.map((a) => a.source)));
  const occupied = occupation(scores, classes, shape, flips);
  if (!occupied) return best;
  const covers = occupied.map((rows, n) => covered(rows, plan[n]));
  const matrices = covers.map((c) => c.matrix);
  const boxed = covers.map((c) => c.high - c.low);
  let top = null;
  let inside = null;
  for (let number = 0; number < classes; number++) {
    const value = apply(boxOf(scores, number, shape, covers, flips), boxed, matrices).array;
    inside ??= new Uint8Array(value.length);
    if (!top) {
      top = value;
      continue;
    }
    for (let i = 0; i < value.length; i++) {
      if (value[i] > top[i]) {
        inside[i] = number;
        top[i] = value[i];
      }
    }
  }
  const [, J, K] = plan.map((a) => a.source);
  const size = covers.map((c) => c.last - c.first);
  for (let i = 0, at = 0; i < size[0]; i++) {
    for (let j = 0; j < size[1]; j++, at += size[2]) {
      const to = ((covers[0].first + i) * J + covers[1].first + j) * K + covers[2].first;
      best.set(inside.subarray(at, at + size[2]), to);
    }
  }
  return best;
}

/** For each axis which indices hold foreground, null when none does. */
function occupation(scores, classes, [I, J, K], flips) {
  const size = I * J * K;
  const rows = [new Uint8Array(I), new Uint8Array(J), new Uint8Array(K)];
  let any = false;
  for (let i = 0, at = 0; i < I; i++) {
    for (let j = 0; j < J; j++) {
      for (let k = 0; k < K; k++, at++) {
        const ground = scores[at];
        if (ground > 0.5) continue; // they sum to one
        let top = scores[size + at];
        for (let c = 2; c < classes; c++) if (scores[c * size + at] > top) top = scores[c * size + at];
        if (!(top > ground)) continue;
        any = true;
        rows[0][i] = rows[1][turned(j, J, flips[0])] = rows[2][turned(k, K, flips[1])] = 1;
      }
    }
  }
  return any ? rows : null;
}

/** Along one axis: the box of the foreground with a margin, the source voxels inside it, their weights. */
function covered(rows, a) {
  const low = Math.max(0, rows.indexOf(1) - 2);
  const high = Math.min(a.count, rows.lastIndexOf(1) + 3);
  const places = Float64Array.from({ length: a.source }, (_, n) => (n - a.start) / a.step);
  const first = low === 0 ? 0 : searchsorted(places, low);
  const last = high === a.count ? a.source : searchsorted(places, high - 1, true);
  return { low, high, first, last, matrix: weights(high - low, last - first, 1 / a.step, places[first] - low) };
}

/** One class inside the box, turned as the exam is. */
function boxOf(scores, number, [I, J, K], covers, flips) {
  const [a, b, c] = covers;
  const out = new Float32Array((a.high - a.low) * (b.high - b.low) * (c.high - c.low));
  for (let i = a.low, at = 0; i < a.high; i++) {
    for (let j = b.low; j < b.high; j++) {
      const from = ((number * I + i) * J + turned(j, J, flips[0])) * K;
      for (let k = c.low; k < c.high; k++) out[at++] = scores[from + turned(k, K, flips[1])];
    }
  }
  return out;
}

/** For each voxel of the exam along an axis: the nearest one of the network's grid, as the scores lie. */
export function nearestPlaces(prepared, flips) {
  return prepared.plan.map((a, n) =>
    Int32Array.from({ length: a.source }, (_, s) => {
      const place = clamp(roundEven((s - a.start) / a.step), 0, a.count - 1);
      return turned(place, a.count, n > 0 && flips[n - 1]);
    }),
  );
}

/** Voxels in the network's axes back in the exam's own order, as the file has them. */
export function toSource(array, prepared) {
  const { shape, strides, offset } = prepared.canonical;
  const out = new array.constructor(array.length);
  for (let i = 0, at = 0; i < shape[0]; i++) {
    for (let j = 0; j < shape[1]; j++) {
      let to = offset + i * strides[0] + j * strides[1];
      for (let k = 0; k < shape[2]; k++, at++, to += strides[2]) out[to] = array[at];
    }
  }
  return out;
}
