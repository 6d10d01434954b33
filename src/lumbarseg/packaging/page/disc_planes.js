// Planes through the discs, which divide the column into vertebrae: port of segmentation/disc_planes.py.

import { max, maxIndex } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { BODY, CORE_RADIUS, DISC } from "./centerline.js";
import { gaussianFilter1d, maximumFilter } from "./ndimage.js";
import { bincount, clamp, percentile } from "./numpy.js";

const {
  ANTERIOR_SLOPES, LATERAL_SLOPES, STEP_RANGE, PITCHES, STEP_PENALTY, LONG_STEP_PENALTY, TAPER, PLANE_BONUS, TILT_PENALTY,
} = CONSTANTS.disc_planes;

/** Return where the plane with these slopes through voxel v meets the curve, mm. */
export const planePosition = ({ anteriorSlope, lateralSlope }, { along, anterior, lateral }, v) =>
  along[v] - anteriorSlope * anterior[v] - lateralSlope * lateral[v];

/** Return whether a plane lies below voxel v. */
export const isBelow = (plane, coordinates, v) => planePosition(plane, coordinates, v) > plane.position;

/** Return the planes between the bodies, {position, anteriorSlope, lateralSlope, discShare}, the lowest first.
 * thick: whether there are enough slices to fit a lateral slope. */
export function findDiscPlanes(coordinates, classes, thick) {
  const core = [];
  for (let v = 0; v < classes.length; v++) {
    if (coordinates.distance[v] < CORE_RADIUS && (classes[v] === BODY || classes[v] === DISC)) core.push(v);
  }
  if (core.length < 50) return [];
  const along = Float64Array.from(core, (v) => Math.max(0, coordinates.along[v]));
  const { gain, slopes } = planeScores(coordinates, classes, core, along, thick);
  const low = Math.trunc(percentile(along, 0.5));
  const high = Math.trunc(percentile(along, 99.5));
  return bestChain(gain.slice(low, high + 1)).map((position) => {
    const [anteriorSlope, lateralSlope] = slopes[low + position];
    const discShare = clamp(gain[low + position] / (1 + PLANE_BONUS), 0, 1);
    return { position: low + position + 0.5, anteriorSlope, lateralSlope, discShare };
  });
}

const smooth = (values) => gaussianFilter1d(values, 0.7, "zero");

/** Return for each mm of the curve the score of the best plane and its slopes. */
function planeScores(coordinates, classes, core, along, thick) {
  const length = Math.trunc(max(along)) + 30;
  let size = smooth(bincount(along.map(Math.trunc), length));
  const most = max(size);
  size = maximumFilter(size, [1, 1, length], [0, 0, 20]).map((value) => Math.max(value, 0.3 * most));
  const gain = new Float64Array(length);
  const best = new Float64Array(length).fill(-Infinity);
  const slopes = new Array(length);
  for (const anteriorSlope of ANTERIOR_SLOPES) {
    for (const lateralSlope of thick ? LATERAL_SLOPES : [0]) {
      const sums = new Float64Array(length);
      core.forEach((v, n) => {
        const shift = anteriorSlope * coordinates.anterior[v] + lateralSlope * coordinates.lateral[v];
        const at = Math.trunc(clamp(along[n] - shift, 0, length - 1));
        sums[at] += (classes[v] === DISC ? 1 : -1) + PLANE_BONUS;
      });
      const cost = TILT_PENALTY * (Math.abs(anteriorSlope) + Math.abs(lateralSlope));
      smooth(sums).forEach((value, at) => {
        const score = value / size[at];
        if (score - cost > best[at]) [best[at], gain[at], slopes[at]] = [score - cost, score, [anteriorSlope, lateralSlope]];
      });
    }
  }
  return { gain, slopes };
}

const log = (length) => Math.log(Math.max(length, 1));
const longStepPenalty = (length) => LONG_STEP_PENALTY[1] * Math.max(length - LONG_STEP_PENALTY[0], 0);
const expectedAt = (pitch, position) => Math.log(pitch) - TAPER * position;
const endPenalty = (length, expected) => STEP_PENALTY * Math.max(log(length) - expected, 0) ** 2 + longStepPenalty(length);

/** Return the positions of the chain of planes with the highest total score, over all expected spacings. */
function bestChain(gain) {
  const rows = PITCHES.map((pitch) => bestChainForPitch(gain, pitch));
  const totals = rows.map((row) => Math.max(max(row.best), row.withoutPlanes) - row.prior);
  const { best, previous, withoutPlanes } = rows[maxIndex(totals)];
  if (max(best) < withoutPlanes) return [];
  const positions = [maxIndex(best)];
  while (previous[positions.at(-1)] >= 0) positions.push(previous[positions.at(-1)]);
  return positions.reverse();
}

/** Return for one expected spacing the score of the best chain that ends at each position, and the position before. */
function bestChainForPitch(gain, pitch) {
  const count = gain.length;
  const best = gain.map((value, position) => value - endPenalty(position, expectedAt(pitch, position)));
  const previous = new Int32Array(count).fill(-1);
  for (let position = STEP_RANGE[0]; position < count; position++) {
    const expected = expectedAt(pitch, position);
    let top = -Infinity;
    let from = -1;
    for (let step = STEP_RANGE[0]; step <= Math.min(STEP_RANGE[1], position); step++) {
      const value = best[position - step] - (STEP_PENALTY * (log(step) - expected) ** 2 + longStepPenalty(step));
      if (value > top) [top, from] = [value, position - step];
    }
    if (gain[position] + top > best[position]) [best[position], previous[position]] = [gain[position] + top, from];
  }
  const total = best.map((value, position) => value - endPenalty(count - 1 - position, expectedAt(pitch, position)));
  const withoutPlanes = -endPenalty(count, expectedAt(pitch, count - 1));
  return { best: total, previous, withoutPlanes, prior: 0.5 * Math.log(pitch / 33) ** 2 };
}
