// Detection of headers with front and back, or head and feet, exchanged: port of segmentation/orientation.py.

import { median } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { BODY, CANAL, SACRUM, fitCenterline } from "./centerline.js";
import { interp } from "./numpy.js";
import { voxelsOf } from "./volume.js";

const { MIN_WRONG_SHARE, MIN_AREA_RATIO, MIN_VOLUME } = CONSTANTS.orientation;

/** Return whether [front and back, head and feet] are exchanged in a class map (slices, A, S). */
export function estimateFlips(classes, shape, spacing) {
  const centerline = fitCenterline(classes, shape, spacing);
  if (!centerline) return [false, false];
  const voxel = spacing[0] * spacing[1] * spacing[2];
  return [isFrontBackReversed(classes, shape, spacing, centerline, voxel), isUpsideDown(classes, shape, voxel)];
}

function isFrontBackReversed(classes, [, A, S], spacing, centerline, voxel) {
  const canal = voxelsOf(classes, CANAL);
  if (canal.length * voxel < MIN_VOLUME) return false;
  const heights = centerline.points.map((p) => p[2]);
  const anteriors = centerline.points.map((p) => p[1]);
  const middles = Float64Array.from({ length: S }, (_, s) => interp(s * spacing[2], heights, anteriors));
  const anteriorVoxels = canal.filter((at) => (Math.floor(at / S) % A) * spacing[1] - middles[at % S] > 5);
  return anteriorVoxels.length / canal.length > MIN_WRONG_SHARE;
}

function isUpsideDown(classes, [, , S], voxel) {
  const [sacrum, bodies] = [SACRUM, BODY].map((kind) => voxelsOf(classes, kind).map((at) => at % S));
  if (Math.min(sacrum.length, bodies.length) * voxel < MIN_VOLUME) return false;
  const middle = median(bodies);
  if (sacrum.filter((s) => s > middle).length / sacrum.length <= MIN_WRONG_SHARE) return false;
  const areas = new Array(S).fill(0);
  for (const s of bodies) areas[s]++;
  const half = 0.5 * median(areas.filter((n) => n > 0));
  const rows = areas.filter((n) => n > half); // rows through bodies, not through discs
  const third = Math.max(1, Math.floor(rows.length / 3));
  return median(rows.slice(-third)) > MIN_AREA_RATIO * median(rows.slice(0, third));
}

/** Describe flips in a sentence; "" without any. */
export function describeFlips(flips) {
  const wrong = ["front and back", "head and feet"].filter((_, n) => flips[n]);
  if (!wrong.length) return "";
  return (
    `the header has ${wrong.join(" and ")} the wrong way round, as the anatomy shows; corrected. ` +
    "Left and right cannot be verified"
  );
}
