// Whether the lowest body of a column is the first of the sacrum: segment/sacral.py in JavaScript.

import { CONSTANTS } from "./anatomy.js";
import { where } from "./column.js";
import { median } from "./numpy.js";

export const { MIN_DISC_CONTACT: CUSHION } = CONSTANTS.sacrum;
const { MIN_SACRAL_LEAN: LEAN, MIN_BEND: BEND, SEARCH_DEPTH: UNDER, MIDLINE: CENTRAL } = CONSTANTS.sacrum;

/** Whether body 1 is the first of the sacrum. bodies, discs, sacrum: (slices, A, S). */
export function isSacral(bodies, discs, sacrum, shape, spacing) {
  if (!sacrum.some((here) => here) || onDisc(bodies, discs, sacrum, shape) >= CUSHION) return false;
  const step = leanOf(bodies, shape, spacing, 1, 2);
  const top = bodies.reduce((most, n) => Math.max(most, n), 0);
  return step > LEAN && step - leanOf(bodies, shape, spacing, 2, top) > BEND;
}

/** Degrees by which the line between two bodies' middles leans forward, in their central slices; 0 without one. */
function leanOf(bodies, [, A, S], spacing, lower, upper) {
  const middles = [];
  for (const number of [lower, upper]) {
    const voxels = where(bodies, (n) => n === number);
    if (!voxels.length) return 0;
    const slices = voxels.map((at) => Math.floor(at / (A * S)));
    const middle = median(slices);
    let [count, front, up] = [0, 0, 0];
    voxels.forEach((at, v) => {
      if (Math.abs(slices[v] - middle) * spacing[0] > CENTRAL) return;
      count++;
      front += (Math.floor(at / S) % A) * spacing[1];
      up += (at % S) * spacing[2];
    });
    middles.push([front / count, up / count]);
  }
  return (Math.atan2(middles[1][0] - middles[0][0], middles[1][1] - middles[0][1]) * 180) / Math.PI;
}

/** The share of body 1's underside that rests on a disc and not on the sacrum or on nothing. */
export function onDisc(bodies, discs, sacrum, [I, A, S]) {
  let [met, all] = [0, 0];
  for (let row = 0; row < I * A; row++) {
    let low = 0;
    while (low < S && bodies[row * S + low] !== 1) low++;
    if (low === S) continue;
    all++;
    for (let step = 1; step <= UNDER; step++) {
      const at = row * S + Math.max(low - step, 0);
      if (discs[at] === 1) met++;
      if (discs[at] === 1 || sacrum[at]) break;
    }
  }
  return all ? met / all : 0;
}
