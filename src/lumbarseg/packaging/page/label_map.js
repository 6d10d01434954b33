// The label map on the exam's own grid, and its check: port of segmentation/label_map.py.

import { archOfLevel, structureByName, CLASSES, labelsOfKind, LEVELS, STRUCTURES } from "./anatomy.js";
import { ARCH, BODY, CANAL, DISC, SACRUM } from "./centerline.js";
import { discNames } from "./levels.js";
import { maximumFilter } from "./ndimage.js";
import { nearestNetworkVoxels, toSourceOrder } from "./preprocessing.js";
import { LumbarsegError } from "./volume.js";

/** Return uint8 labels in the order of the exam's file. classes: from `classesOnSourceGrid`; outputKinds: kinds to keep. */
export function renderLabelMap(classes, instances, names, prepared, flips, outputKinds) {
  const out = new Uint8Array(classes.length);
  const networkVoxels = nearestNetworkVoxels(prepared, flips);
  for (const [kind, numbers, values] of labelTables(instances, names)) {
    if (!classes.includes(kind)) continue;
    const labels = dilateLabels(numbers.map((n) => values[n]), instances.shape);
    fillClass(out, classes, kind, labels, instances.shape, networkVoxels);
  }
  checkLevelOrder(out);
  const keep = Uint8Array.from({ length: 256 });
  for (const s of STRUCTURES) keep[s.label] = outputKinds.includes(s.kind) ? s.label : 0;
  return toSourceOrder(out.map((label) => keep[label]), prepared);
}

/** Write the nearest label to each voxel of one class. */
function fillClass(out, classes, kind, labels, [, A, S], [is, js, ks]) {
  for (let i = 0, at = 0; i < is.length; i++) {
    for (let j = 0; j < js.length; j++) {
      const row = (is[i] * A + js[j]) * S;
      for (let k = 0; k < ks.length; k++, at++) if (classes[at] === kind) out[at] = labels[row + ks[k]];
    }
  }
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

/** Throw when a vertebra between two named ones is missing. */
function checkLevelOrder(labels) {
  const isPresent = new Uint8Array(256);
  for (const label of labels) isPresent[label] = 1;
  const present = STRUCTURES.filter((s) => s.kind === CLASSES[BODY] && isPresent[s.label]).map((s) => s.name);
  const positions = present.map((name) => LEVELS.indexOf(name));
  if (positions.length && positions.at(-1) - positions[0] + 1 !== positions.length) {
    throw new LumbarsegError(`the segmentation would have a gap in its order (${present.join(", ")}); please report it`);
  }
}
