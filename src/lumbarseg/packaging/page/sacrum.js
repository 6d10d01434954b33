// Whether the lowest body of a column is the first sacral one: port of segmentation/sacrum.py.

import { mean, median } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { percentile } from "./numpy.js";
import { voxelsOf } from "./volume.js";

const LIMITS = CONSTANTS.sacrum;
export const { SIGN_COUNT } = CONSTANTS.sacrum;
const { NO_COMPLETE_DISC, LEANS, STEEP, SMALL, TAPERS, SEARCH_DEPTH } = CONSTANTS.sacrum;

/** Return the signs, in words, that body 1 is S1. bodies, discs, sacrum: maps (slices, A, S). */
export function findSacralSigns(bodies, discs, sacrum, shape, spacing) {
  const count = bodies.reduce((most, n) => Math.max(most, n), 0);
  if (!sacrum.some(Boolean) || !bodies.includes(1)) return [];
  const noCompleteDisc = discContactShare(bodies, discs, sacrum, shape) < LIMITS.MIN_DISC_CONTACT;
  if (count < 3) return noCompleteDisc ? [NO_COMPLETE_DISC] : [];
  const points = [1, 2, 3, count].map((number) => midsagittalPoints(bodies, number, shape, spacing));
  const lean = leanAngle(points[0], points[1]);
  const usualArea = Math.max((points[1].length + points[2].length) / 2, 1);
  const isPresent = {
    [LEANS]: lean - leanAngle(points[1], points[3]) > LIMITS.MIN_BEND,
    [STEEP]: lean > LIMITS.MIN_STEEP_LEAN,
    [SMALL]: points[0].length < LIMITS.MAX_AREA_RATIO * usualArea,
    [TAPERS]: taper(points[0], lean) < LIMITS.MAX_TAPER,
    [NO_COMPLETE_DISC]: noCompleteDisc,
  };
  return Object.keys(isPresent).filter((sign) => isPresent[sign]);
}

/** Return whether signs say that body 1 is S1. */
export function isSacral(signs) {
  const isSteep = signs.includes(LEANS) && signs.includes(STEEP);
  return signs.includes(NO_COMPLETE_DISC) && (isSteep || signs.length > 3);
}

/** Return in words why body 1 may be S1; "" where too few signs say so. */
export function describeS1Signs(signs) {
  const others = signs.filter((sign) => sign !== NO_COMPLETE_DISC);
  if (others.length < signs.length) return `the lowest body may be S1: ${signs.join(", ")}`;
  if (!others.includes(LEANS) || !(others.includes(SMALL) || others.includes(STEEP))) return "";
  const shape = [...others, ...(others.includes(TAPERS) ? [] : ["square body"]), "complete disc below"];
  return `S1 may be lumbarised: ${shape.join(", ")}`;
}

function taper(points, lean) {
  const [sin, cos] = [Math.sin((lean * Math.PI) / 180), Math.cos((lean * Math.PI) / 180)];
  const along = points.map(([a, s]) => a * sin + s * cos);
  const [low, high] = [percentile(along, LIMITS.END_PERCENT), percentile(along, 100 - LIMITS.END_PERCENT)];
  const depth = (isEnd) => {
    const across = points.filter((_, n) => isEnd(along[n])).map(([a, s]) => a * cos - s * sin);
    return percentile(across, 100 - LIMITS.RIM_PERCENT) - percentile(across, LIMITS.RIM_PERCENT);
  };
  return depth((at) => at <= low) / Math.max(depth((at) => at >= high), 1e-6);
}

/** Return the points (anterior, superior), in mm, of a body near its median plane. */
function midsagittalPoints(bodies, number, [, A, S], spacing) {
  const voxels = voxelsOf(bodies, number);
  const slices = voxels.map((at) => Math.floor(at / (A * S)));
  const middle = median(slices);
  return voxels.filter((_, v) => Math.abs(slices[v] - middle) * spacing[0] <= LIMITS.MIDLINE).map((at) => [
    (Math.floor(at / S) % A) * spacing[1],
    (at % S) * spacing[2],
  ]);
}

/** Return the forward lean, in degrees, of the line between the centres of two bodies; 0 if one is missing. */
function leanAngle(lower, upper) {
  if (!lower.length || !upper.length) return 0;
  const [anterior, superior] = [0, 1].map((axis) => mean(upper, (point) => point[axis]) - mean(lower, (point) => point[axis]));
  return (Math.atan2(anterior, superior) * 180) / Math.PI;
}

/** Return the share of the lower surface of body 1 that touches a disc. */
export function discContactShare(bodies, discs, sacrum, [I, A, S]) {
  let [onDiscCount, total] = [0, 0];
  for (let row = 0; row < I * A; row++) {
    const low = bodies.subarray(row * S, (row + 1) * S).indexOf(1);
    if (low < 0) continue;
    total++;
    for (let lowestLean = 1; lowestLean <= SEARCH_DEPTH; lowestLean++) {
      const at = row * S + Math.max(low - lowestLean, 0);
      if (discs[at] === 1) onDiscCount++;
      if (discs[at] === 1 || sacrum[at]) break;
    }
  }
  return total ? onDiscCount / total : 0;
}
