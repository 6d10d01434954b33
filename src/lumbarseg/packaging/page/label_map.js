// The label map on the exam's own grid, and its check: port of segmentation/label_map.py.

import { archOfLevel, structureByName, CLASSES, labelsOfKind, LEVELS, STRUCTURES } from "./anatomy.js";
import { ARCH, BODY, CANAL, DISC, SACRUM } from "./centerline.js";
import { discNames } from "./levels.js";
import { maximumFilter } from "./ndimage.js";
import { nearestNetworkVoxels, toSourceOrder } from "./preprocessing.js";
import { forEachVoxel, LumbarsegError } from "./volume.js";

/** Return uint8 labels in the order of the exam's file. classes: from `classesOnSourceGrid`; outputKinds: kinds to keep. */
export function renderLabelMap(classes, instances, names, prepared, flips, outputKinds) {
  const out = new Uint8Array(classes.length);
  const [is, js, ks] = nearestNetworkVoxels(prepared, flips);
  const [, A, S] = instances.shape;
  const labelsOfClass = [];
  for (const [kind, numbers, values] of labelTables(instances, names)) {
    if (classes.includes(kind)) labelsOfClass[kind] = dilateLabels(numbers.map((n) => values[n]), instances.shape);
  }
  forEachVoxel([is.length, js.length, ks.length], (at, i, j, k) => {
    if (classes[at]) out[at] = labelsOfClass[classes[at]][(is[i] * A + js[j]) * S + ks[k]];
  });
  const keep = Uint8Array.from({ length: 256 });
  for (const s of STRUCTURES) keep[s.label] = outputKinds.includes(s.kind) ? s.label : 0;
  return toSourceOrder(out.map((label) => keep[label]), prepared);
}

/** Return for each class [class, map of instance numbers, label of each number]. */
function labelTables(instances, names) {
  const bodies = names.map((level) => structureByName(level).label);
  const arches = names.map((level) => archOfLevel(level).label);
  const discs = discNames(instances, names).map((disc) => (disc ? structureByName(disc).label : 0));
  const [sacrum, canal] = ["sacrum", "canal"].map((kind) => labelsOfKind(kind)[0]);
  const sacralNumber = names.length + 1;
  const bodiesAndSacrum = instances.bodies.map((n, at) => (n === 0 && instances.sacrum[at] ? sacralNumber : n));
  return [
    [BODY, bodiesAndSacrum, [0, ...bodies, sacrum]],
    [DISC, instances.discs, [0, ...discs]],
    [ARCH, instances.arches, [0, ...arches]],
    [SACRUM, instances.sacrum, [0, sacrum]],
    [CANAL, instances.canal, [0, canal]],
  ];
}

/** Dilate labels by two pixels in plane and one slice, because structures extend further on the exam's finer grid. */
function dilateLabels(labels, shape) {
  const dilated = maximumFilter(labels, shape, [shape[0] > 1 ? 1 : 0, 2, 2]);
  return labels.map((label, at) => label || dilated[at]);
}

/** Return a label map that was rendered with `names` as if it was rendered with `newNames`. */
export function renameLevels(labels, instances, names, newNames) {
  const newLabels = Uint8Array.from({ length: 256 }, (_, label) => label);
  const newTables = labelTables(instances, newNames);
  labelTables(instances, names).forEach(([, , old], n) => old.forEach((label, i) => label && (newLabels[label] = newTables[n][2][i])));
  return labels.map((label) => newLabels[label]);
}

/** Return the vertebrae of a label map, from head to foot. */
function presentLevels(labels) {
  const present = new Set(labels);
  return STRUCTURES.filter((s) => s.kind === CLASSES[BODY] && present.has(s.label)).map((s) => s.name);
}

/** Return whether no vertebra between two named ones is missing from a label map. */
export function isOrderComplete(labels) {
  const positions = presentLevels(labels).map((name) => LEVELS.indexOf(name));
  return !positions.length || positions.at(-1) - positions[0] + 1 === positions.length;
}

/** Throw when a vertebra between two named ones is missing. */
export function checkLevelOrder(labels) {
  if (isOrderComplete(labels)) return;
  const names = presentLevels(labels).join(", ");
  throw new LumbarsegError(`the segmentation would have a gap in its order (${names}); please report it`);
}
