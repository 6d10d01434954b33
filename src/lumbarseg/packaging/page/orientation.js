// Headers that say front for back or head for feet, recognised from the anatomy: segment/orientation.py in JavaScript.

import { CONSTANTS } from "./anatomy.js";
import { BODY, CANAL, SACRUM, trace, where } from "./column.js";
import { interp, median } from "./numpy.js";

const { MIN_WRONG_SHARE: CLEAR, MIN_AREA_RATIO: GROWN, MIN_VOLUME: SEEN } = CONSTANTS.orientation;

/** Whether front and back, and head and feet, are reversed in a class map (slices, A, S). */
export function wrongWay(classes, shape, spacing) {
  const column = trace(classes, shape, spacing);
  if (!column) return [false, false];
  const voxel = spacing[0] * spacing[1] * spacing[2];
  return [canalAhead(classes, shape, spacing, column, voxel), upsideDown(classes, shape, voxel)];
}

function canalAhead(classes, [, A, S], spacing, column, voxel) {
  const canal = where(classes, (c) => c === CANAL);
  if (canal.length * voxel < SEEN) return false;
  const heights = column.points.map((p) => p[2]);
  const fronts = column.points.map((p) => p[1]);
  const middles = Float64Array.from({ length: S }, (_, s) => interp(s * spacing[2], heights, fronts));
  const ahead = canal.filter((at) => (Math.floor(at / S) % A) * spacing[1] - middles[at % S] > 5);
  return ahead.length / canal.length > CLEAR;
}

function upsideDown(classes, [, , S], voxel) {
  const [sacrum, bodies] = [SACRUM, BODY].map((kind) => where(classes, (c) => c === kind).map((at) => at % S));
  if (Math.min(sacrum.length, bodies.length) * voxel < SEEN) return false;
  const middle = median(bodies);
  if (sacrum.filter((s) => s > middle).length / sacrum.length <= CLEAR) return false;
  const areas = new Array(S).fill(0);
  for (const s of bodies) areas[s]++;
  const half = 0.5 * median(areas.filter((n) => n > 0));
  const rows = areas.filter((n) => n > half); // not those of discs
  const third = Math.max(1, Math.floor(rows.length / 3));
  return median(rows.slice(-third)) > GROWN * median(rows.slice(0, third));
}

/** (slices, A, S), reversed along A and along S as `flips` says. */
export function flipped(array, [I, A, S], flips) {
  const out = new array.constructor(array.length);
  for (let i = 0, at = 0; i < I; i++) {
    for (let a = 0; a < A; a++) {
      const from = (i * A + (flips[0] ? A - 1 - a : a)) * S;
      for (let s = 0; s < S; s++) out[at++] = array[from + (flips[1] ? S - 1 - s : s)];
    }
  }
  return out;
}

/** What was found wrong, for a person; "" for nothing. */
export function told(flips) {
  const wrong = ["front and back", "head and feet"].filter((_, n) => flips[n]);
  if (!wrong.length) return "";
  return (
    `the header has ${wrong.join(" and ")} the wrong way round, as the anatomy shows; corrected. ` +
    "Left and right cannot be verified"
  );
}
