// Whether the lowest body of a column is the first sacral one: port of segmentation/sacrum.py.

import { median } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { indicesWhere } from "./centerline.js";

export const { MIN_DISC_CONTACT } = CONSTANTS.sacrum;
const { MIN_SACRAL_LEAN, MIN_BEND, SEARCH_DEPTH, MIDLINE } = CONSTANTS.sacrum;

/** Return whether body 1 is the first sacral one. bodies, discs, sacrum: maps (slices, A, S). */
export function isSacral(bodies, discs, sacrum, shape, spacing) {
  if (!sacrum.some(Boolean) || discContactShare(bodies, discs, sacrum, shape) >= MIN_DISC_CONTACT) return false;
  const lowestLean = leanAngle(bodies, shape, spacing, 1, 2);
  const highest = bodies.reduce((most, n) => Math.max(most, n), 0);
  return lowestLean > MIN_SACRAL_LEAN && lowestLean - leanAngle(bodies, shape, spacing, 2, highest) > MIN_BEND;
}

/** Return the forward lean, in degrees, of the line between the centres of two bodies; 0 if one is missing. */
function leanAngle(bodies, [, A, S], spacing, lower, upper) {
  const middles = [];
  for (const number of [lower, upper]) {
    const voxels = indicesWhere(bodies, (n) => n === number);
    if (!voxels.length) return 0;
    const slices = voxels.map((at) => Math.floor(at / (A * S)));
    const middle = median(slices);
    let [count, anterior, up] = [0, 0, 0];
    voxels.forEach((at, v) => {
      if (Math.abs(slices[v] - middle) * spacing[0] > MIDLINE) return;
      count++;
      anterior += (Math.floor(at / S) % A) * spacing[1];
      up += (at % S) * spacing[2];
    });
    middles.push([anterior / count, up / count]);
  }
  return (Math.atan2(middles[1][0] - middles[0][0], middles[1][1] - middles[0][1]) * 180) / Math.PI;
}

/** Return the share of the lower surface of body 1 that touches a disc. */
export function discContactShare(bodies, discs, sacrum, [I, A, S]) {
  let [onDiscCount, total] = [0, 0];
  for (let row = 0; row < I * A; row++) {
    let low = 0;
    while (low < S && bodies[row * S + low] !== 1) low++;
    if (low === S) continue;
    total++;
    for (let lowestLean = 1; lowestLean <= SEARCH_DEPTH; lowestLean++) {
      const at = row * S + Math.max(low - lowestLean, 0);
      if (discs[at] === 1) onDiscCount++;
      if (discs[at] === 1 || sacrum[at]) break;
    }
  }
  return total ? onDiscCount / total : 0;
}
