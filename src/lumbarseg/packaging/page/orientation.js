// Detection of headers with front and back, or head and feet, exchanged: the labels' part of orientation.py.

import { median, transpose } from "d3-array";
import { CONSTANTS } from "./anatomy.js";
import { BODY, CANAL, DISC, SACRUM, fitCenterline, indicesWhere } from "./centerline.js";
import { bincount, interp } from "./numpy.js";
import { voxelsOf } from "./volume.js";

const { LABEL_EVIDENCE, MIN_PREDICTION_EVIDENCE, MIN_AREA_RATIO, MIN_VOLUME } = CONSTANTS.orientation;

/** Return whether [front and back, head and feet] are exchanged in a class map (slices, A, S). */
export function estimateFlips(classes, shape, spacing) {
  const centerline = fitCenterline(classes, shape, spacing);
  if (!centerline) return [false, false];
  const voxel = spacing[0] * spacing[1] * spacing[2];
  return [isFrontBackReversed(classes, shape, spacing, centerline, voxel), isUpsideDown(classes, shape, voxel)];
}

/** Return whether voxels on the wrong side outweigh the others; count: of all voxels of the label. */
function isReversed(wrong, right, count, voxel) {
  const weight = LABEL_EVIDENCE * Math.min(1, (count * voxel) / MIN_VOLUME);
  return ((wrong - right) / (wrong + right)) * weight >= MIN_PREDICTION_EVIDENCE;
}

function isFrontBackReversed(classes, [, A, S], spacing, centerline, voxel) {
  const canal = voxelsOf(classes, CANAL);
  const [, anteriors, heights] = transpose(centerline.points);
  const middles = Float64Array.from({ length: S }, (_, s) => interp(s * spacing[2], heights, anteriors));
  const offsets = Float64Array.from(canal, (at) => (Math.floor(at / S) % A) * spacing[1] - middles[at % S]);
  const [front, back] = [offsets.filter((mm) => mm > 5).length, offsets.filter((mm) => mm < -5).length];
  return isReversed(front, back, canal.length, voxel);
}

function isUpsideDown(classes, [, , S], voxel) {
  const rowsWhere = (isKind) => indicesWhere(classes, isKind).map((at) => at % S);
  const sacrum = rowsWhere((c) => c === SACRUM);
  const middle = median(rowsWhere((c) => c === BODY || c === DISC));
  const above = sacrum.filter((s) => s >= middle).length;
  if (!isReversed(above, sacrum.length - above, sacrum.length, voxel)) return false;
  const areas = bincount(rowsWhere((c) => c === BODY));
  const half = 0.5 * median(areas.filter((n) => n > 0));
  const rows = areas.filter((n) => n > half); // rows through bodies, not through discs
  const third = Math.max(1, Math.floor(rows.length / 3));
  return !(median(rows.slice(-third)) <= MIN_AREA_RATIO * median(rows.slice(0, third)));
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
